"""Does every environment that is registered work? `python -m tools.environment_table` makes the table.

Each is made, checked, played for 200 random steps, and trained for one update of PPO. That happens in processes beside
this one: an environment that hangs or takes its process down costs its own row only, and the next gets a new process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import importlib
import importlib.metadata
import math
import multiprocessing
import os
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import tyro

from heed.evaluation.command_line import told_command
from heed.training.errors import ConfigurationError, as_sentence, require_at_least

RANDOM_STEPS = 200
UPDATE_STEPS, UPDATE_ENVS = 32, 2
"""Steps of each environment in the rollout of the one update, and environments side by side."""
LONGEST_EPISODE = 20_000
LONGEST_REASON = 250
"""Characters of what is told of an environment that does not work."""
STARTING_LIMIT = 300.0
"""Seconds that a process may take to start: it imports torch and transformers."""

PASSED = "pass"
MISSING = "not installed"
HEADINGS = ("id", "observation", "actions", "result")


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Check every environment that is registered, and train each for one update of PPO: a table of what works."""

    pattern: str = "*"
    """Only the ids that match, such as 'BabyAI-*'."""
    out: Path | None = None
    """Write the table as Markdown; what a file there has is kept, and only what it lacks is checked."""
    jobs: int = 1
    """Processes that work at it."""
    time_limit: float = 120
    """Seconds that one environment may take."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one environment."""

    env_id: str
    observation: str = ""
    """Its own space, before it is put into words."""
    actions: str = ""
    result: str

    @property
    def passed(self) -> bool:
        """Whether it was made, checked, played and trained."""
        return self.result.startswith(PASSED)


Examiner = Callable[[str], Row]


class ExaminationError(Exception):
    """An environment does not work. The message says what was seen."""


def write_table(*, pattern: str, out: Path | None, jobs: int, time_limit: float) -> list[Row]:
    """Examine all environments whose ids match, tell what came of each, and write the table.

    Args:
        pattern: of the ids, as in a shell.
        out: a Markdown file; what passed in it already is kept, all else is examined again.
        jobs: processes.
        time_limit: seconds for an environment.

    Returns:
        The rows, in the order of the ids.

    Raises:
        ConfigurationError: if no id matches.
    """
    from rich.console import Console

    ids = matching_ids(pattern)
    if not ids:
        raise ConfigurationError(f"No environment that is registered has an id like {pattern!r}.")
    rows = {row.env_id: row for row in _rows_of(out) if row.passed and row.env_id in ids}
    console = Console(highlight=False)
    with contextlib.suppress(KeyboardInterrupt):  # what is there is kept, and the next call goes on
        for row in examine_all([env_id for env_id in ids if env_id not in rows], jobs=jobs, time_limit=time_limit):
            rows[row.env_id] = row
            console.print(f"{len(rows)}/{len(ids)} {row.env_id}: {row.result}", markup=False)
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(markdown(pattern, [rows[one] for one in ids if one in rows]), encoding="utf-8")
    found = [rows[one] for one in ids if one in rows]
    console.print(summary(found))
    return found


def matching_ids(pattern: str) -> list[str]:
    """Return the registered ids that match `pattern`, sorted."""
    import gymnasium

    import heed.envs.make  # noqa: F401 - registers MiniGrid's and BabyAI's

    return sorted(env_id for env_id in gymnasium.registry if fnmatch.fnmatchcase(env_id, pattern))


def examine_all(
    env_ids: Sequence[str], *, jobs: int, time_limit: float, examiner: Examiner | None = None
) -> Iterator[Row]:
    """Examine environments in processes of their own, and yield each row when it is known.

    Args:
        env_ids: of the environments.
        jobs: processes.
        time_limit: seconds for an environment.
        examiner: what a process does with an id; it must be importable. None: `examine`.
    """
    waiting = list(reversed(env_ids))
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.env_id is not None for worker in workers):
            while waiting and len(workers) < jobs:
                workers.append(_Worker(examiner))
            for worker in workers:
                if worker.ready and worker.env_id is None and waiting:
                    worker.begin(waiting.pop(), time_limit)
            now = time.monotonic()
            nearest = min(worker.deadline for worker in workers)
            wait([worker.pipe for worker in workers], timeout=max(0.0, nearest - now))
            for worker in list(workers):
                row = worker.outcome()
                if row is not None:
                    yield row
                if worker.dead:
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that examines one environment after another."""

    def __init__(self, examiner: Examiner | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs, examiner), daemon=True)
        self._process.start()
        theirs.close()
        self.ready, self.dead = False, False
        self.env_id: str | None = None
        self.deadline = time.monotonic() + STARTING_LIMIT
        self._limit = 0.0

    def begin(self, env_id: str, limit: float) -> None:
        """Have it examine an environment."""
        self.env_id, self._limit = env_id, limit
        self.deadline = time.monotonic() + limit
        with contextlib.suppress(ConnectionError):  # it is dead, which `outcome` tells
            self.pipe.send(env_id)

    def outcome(self) -> Row | None:
        """Return the row that has come of what it examines, if one has.

        Raises:
            RuntimeError: if it cannot even start.
        """
        if not self.pipe.poll():
            if time.monotonic() < self.deadline:
                return None
            return self._given_up(f"hangs: not done after {self._limit:.0f} s")
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return self._given_up(f"fails: its process died (exit status {self._process.exitcode})")
        if not self.ready:
            self.ready, self.deadline = True, math.inf
            return None
        self.env_id, self.deadline = None, math.inf
        return Row(**answer)

    def _given_up(self, result: str) -> Row:
        env_id = self.env_id
        self.end()
        if env_id is None:
            raise RuntimeError("A process that examines environments did not start.")
        return Row(env_id=env_id, result=result)

    def end(self) -> None:
        """Stop the process, whatever it does."""
        self.dead, self.env_id = True, None
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: Connection, examiner: Examiner | None) -> None:
    """Run a worker's process: examine what is asked for until the parent has gone."""
    if examiner is None:
        import torch

        importlib.import_module("heed.agents")  # what takes seconds is not to count against an environment's time
        torch.set_num_threads(1)
        examiner = examine
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # libraries in C talk as well
        os.dup2(nowhere, stream)
    pipe.send("ready")
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while True:
            pipe.send(dataclasses.asdict(examiner(pipe.recv())))


def examine(env_id: str) -> Row:
    """Make an environment, check it, play it and train in it for one update; never raises for a broken one."""
    from heed.envs.contract import UnknownEnvironmentError
    from heed.envs.make import make_env, make_plain_env

    observation = actions = ""
    try:
        plain = make_plain_env(env_id)
        observation, actions = _described(plain.observation_space), _described(plain.action_space)
        plain.close()
        make_env(env_id).close()
    except UnknownEnvironmentError as error:
        return Row(env_id=env_id, result=_short(f"{MISSING}: {_reason(error)}"))
    except Exception as error:
        return Row(env_id=env_id, observation=observation, actions=actions, result=_short(f"fails: {_told(error)}"))
    try:
        remark = _checked(env_id)
        _played(env_id)
        _trained(env_id)
    except ExaminationError as error:
        result = _short(f"fails: {error}")
    except Exception as error:
        result = _short(f"fails: {_told(error)}")
    else:
        result = f"{PASSED}{remark}"
    return Row(env_id=env_id, observation=observation, actions=actions, result=result)


def _checked(env_id: str) -> str:
    """Check an environment; return what is to be remarked."""
    from heed.envs.checks import check_env
    from heed.scripts.check_env import reader_of
    from heed.training.options import PROMPT_TOKENS

    checks = check_env(
        env_id,
        episodes=3,
        reward_episodes=3,
        max_steps=LONGEST_EPISODE,
        reader=reader_of("heed-tiny", PROMPT_TOKENS),
    )
    broken = [check for check in checks if not check.passed]
    if broken:  # Gymnasium's own check comes first, and says the same less clearly
        raise ExaminationError(f"{broken[-1].name}: {broken[-1].detail}")
    cut = [check for check in checks if check.name == "prompts fit" and "cut off" in check.note]
    return f", words cut at {PROMPT_TOKENS} tokens" if cut else ""


def _played(env_id: str) -> None:
    """Play random steps."""
    from heed.envs.checks.check import BrokenRuleError
    from heed.envs.checks.playing import random_actions, reset, step
    from heed.envs.contract import sample_action
    from heed.envs.make import make_env

    env = make_env(env_id)
    generator = random_actions(env, 1)
    try:
        observation, _ = reset(env, 1)
        for number in range(RANDOM_STEPS):
            action = sample_action(env.action_space, observation, generator)
            observation, _, terminated, truncated, _ = step(env, action)
            if terminated or truncated:
                observation, _ = reset(env, 2 + number)
    except BrokenRuleError as fault:
        raise ExaminationError(f"{fault.check.name}: {fault.check.detail}") from None
    finally:
        env.close()


def _trained(env_id: str) -> None:
    """Train for one update of PPO."""
    import torch
    from gymnasium import spaces

    from heed.agents import PPO
    from heed.envs.make import make

    env = make(env_id, n_envs=UPDATE_ENVS, seed=0)
    try:
        head = "score" if isinstance(env.action_space, spaces.Discrete) else "linear"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of words that are cut, which the checks have told
            agent = PPO(
                env=env,
                policy_kwargs={"model": "heed-tiny", "head": head},
                n_steps=UPDATE_STEPS,
                batch_size=UPDATE_STEPS,
                n_epochs=1,
                seed=0,
                device="cpu",
            )
            before = [weights.detach().clone() for weights in agent.policy.parameters()]
            agent.learn(UPDATE_STEPS * UPDATE_ENVS)
        after = list(agent.policy.parameters())
        if not all(bool(torch.isfinite(weights).all()) for weights in after):
            raise ExaminationError("the update of PPO left weights that are no numbers")
        if all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
            raise ExaminationError("the update of PPO changed no weight")
    finally:
        env.close()


def _described(space: Any) -> str:
    """Return a space in a few words."""
    from gymnasium import spaces

    match space:
        case spaces.Dict():
            return f"Dict({', '.join(space.spaces)})"
        case spaces.Tuple():
            return f"Tuple({', '.join(_described(part) for part in space.spaces)})"
        case spaces.Discrete():
            return f"{type(space).__name__}({int(space.n)})"
        case spaces.Box():
            return f"Box({', '.join(map(str, space.shape))})"
        case spaces.MultiDiscrete():
            return f"MultiDiscrete({space.nvec.size})"
        case _:
            return type(space).__name__


def _short(text: str) -> str:
    for folder in sorted(sys.path, key=len, reverse=True):  # where packages are here is nobody's business
        text = text.replace(f"{folder}/", "") if folder else text
    return textwrap.shorten(text, width=LONGEST_REASON, placeholder=" ...")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _reason(error: Exception) -> str:
    """Return what `make_plain_env` says after the id, or all of it."""
    return str(error).partition(" needs: ")[2].partition(". Is it installed")[0] or str(error)


def summary(rows: Sequence[Row]) -> str:
    """Return how many passed, in a sentence."""
    passed = sum(row.passed for row in rows)
    missing = sum(row.result.startswith(MISSING) for row in rows)
    rest = len(rows) - passed - missing
    return f"{len(rows)} environments: {passed} pass, {missing} need what is not installed, {rest} fail."


def markdown(pattern: str, rows: Sequence[Row]) -> str:
    """Return the table as a page."""
    which = () if pattern == "*" else ("--pattern", pattern)
    command = told_command("python", "-m", "tools.environment_table", *which)
    versions = ", ".join(_versions())
    lines = [
        "# Every environment that is registered",
        "",
        f"What `{command} --out FILE` says with {versions}: each environment was made, checked, played for "
        f"{RANDOM_STEPS} random steps, and trained for one update of PPO with `heed-tiny` (the score head for Discrete "
        "actions, else the linear one).",
        "",
        f"**{summary(rows)}** Of those whose words are cut, an agent reads only the beginning: a verbalizer that says "
        "less, or `--max-prompt-tokens`, helps. The spaces are the environment's own, before words.",
    ]
    for family, members in _families(rows).items():
        lines += ["", f"## {family}", "", _line(HEADINGS), _line(["---"] * len(HEADINGS))]
        lines += [_line((f"`{row.env_id}`", row.observation, row.actions, row.result)) for row in members]
    return "\n".join(lines) + "\n"


def _versions() -> Iterator[str]:
    """Yield the packages that the environments come from or need, as far as they are installed."""
    for name in ("gymnasium", "minigrid", "Box2D", "mujoco", "jax"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield f"{name} {importlib.metadata.version(name)}"


def _families(rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(_family(row.env_id), []).append(row)
    return dict(sorted(families.items()))


def _family(env_id: str) -> str:
    """Return which environments an id belongs with: by the package that it comes from."""
    import gymnasium

    spec = gymnasium.registry.get(env_id)
    entry_point = spec.entry_point if spec is not None else None
    module = entry_point.partition(":")[0] if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")
    parts = module.split(".")
    if parts[:2] == ["gymnasium", "envs"]:
        return f"Gymnasium: {(parts[2:] or ['moved elsewhere'])[0].replace('_', ' ')}"
    return env_id.partition("-")[0] if parts[0] == "minigrid" else env_id.rpartition("/")[0] or parts[0] or "others"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def _rows_of(out: Path | None) -> Iterator[Row]:
    """Yield the rows that a page holds already."""
    if out is None or not out.is_file():
        return
    for line in out.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == len(HEADINGS):
            env_id, observation, actions, result = cells
            yield Row(env_id=env_id.strip("`"), observation=observation, actions=actions, result=result)


def main(arguments: list[str] | None = None) -> None:
    """Make the table from the command line.

    Args:
        arguments: those of the command line; None takes the program's own.
    """
    with as_sentence():
        config = tyro.cli(TableConfig, prog="python -m tools.environment_table", args=arguments)
        require_at_least(config, {"jobs": 1, "time_limit": 1})
        write_table(pattern=config.pattern, out=config.out, jobs=config.jobs, time_limit=config.time_limit)


if __name__ == "__main__":
    main()
