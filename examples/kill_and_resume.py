"""Kill a training at random moments, resume it each time, and hold it against one that was never killed.

    python -m examples.kill_and_resume --agent ppo --kills 20 --seed 0 --out runs/killed-ppo
    python -m examples.kill_and_resume --agent dqn --kills 20 --seed 0 --out runs/killed-dqn

It is `heed train` itself, in processes of its own, ended by SIGKILL, which no program can prepare for. The moments are
drawn: one kill in four comes while the training begins or is resumed, the others at steps spread evenly over it, in
rollouts, updates or the writing of a checkpoint. In the end all files of the last checkpoint (weights, optimizer,
random states, replay buffer, environments) and the curve are compared byte by byte; only the seconds that episodes
took, and the step at which the last process began, may differ.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
STEPS = {"ppo": 4096, "dqn": 1200}
"""Of a training that takes some ten seconds in four environments."""
OPTIONS = ["--env", LEVEL, "--n-envs", "4", "--save-every", "128", "--eval-episodes", "0", "--device", "cpu"]
BEGUN = "Run folder:"
"""What a training prints when it begins to learn."""
SHARE_WHILE_BEGINNING = 0.25
"""Of the kills that come before that."""
SPREAD = 256
"""Steps after the drawn one within which a kill comes, at a moment that is drawn too: a rollout and its update."""
PATIENCE = 300.0
"""Seconds in which a training must begin, or come to a step."""

# The server of processes has these imported already, so that a process begins in a blink.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["heed.scripts.train", "heed.agents", "heed.scripts.evaluate", "heed.training.progress", "tensorboard"]
)


@dataclass(frozen=True)
class Kill:
    """One SIGKILL."""

    after: float
    """Seconds from the beginning of the process."""
    saved: int
    """Steps of the newest checkpoint then; -1 without one."""
    while_writing: bool
    """Whether it left a checkpoint half-written."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    kills: list[Kill]
    differences: list[str]
    """Files in which the two trainings differ; none, if all is well."""
    seconds: float
    """Of the training that was never killed."""


def survive(arguments: list[str], folder: Path, *, kills: int, seed: int) -> Outcome:
    """Train once without a kill and once with many, and compare.

    Args:
        arguments: of `heed train`, without `--run-dir` and `--resume`.
        folder: takes both runs, `whole` and `killed`; must hold none yet.
        kills: how many; fewer if the training is over before.
        seed: of the moments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole, killed = folder / "whole", folder / "killed"
    _ended(_started(["--help"], folder / "help.txt"))  # the server imports what the processes begin with
    beginning, training = _timed([*arguments, "--run-dir", str(whole)], folder / "whole.txt")
    draw = np.random.default_rng(seed)
    steps = _newest(whole)
    done: list[Kill] = []
    for target in np.sort(draw.integers(int(0.95 * steps), size=kills)):
        output = folder / f"killed-{len(done)}.txt"
        process = _started(_arguments(arguments, killed), output)
        began = time.monotonic()
        if draw.random() < SHARE_WHILE_BEGINNING:
            time.sleep(draw.uniform(0.0, beginning))
        else:
            _wait_for(functools.partial(_has_begun, output), process)
            _wait_for(functools.partial(_has_come_to, killed, int(target)), process)
            time.sleep(draw.uniform(0.0, SPREAD * training / steps))
        over = not process.is_alive()
        process.kill()
        process.join()
        if over:
            break
        partial = any(path.name.endswith(".partial") for path in _checkpoints(killed))
        done.append(Kill(time.monotonic() - began, _newest(killed), partial))
    _ended(_started(_arguments(arguments, killed), folder / "killed-last.txt"))
    return Outcome(done, differences(whole, killed), training)


def differences(first: Path, second: Path) -> list[str]:
    """Return in which files the curves and last checkpoints of two runs differ."""
    from heed.training.run_folder import RunFolder

    checkpoints = [RunFolder(path).latest_checkpoint() for path in (first, second)]
    if checkpoints[0].name != checkpoints[1].name:
        return [f"{checkpoints[0].name} and {checkpoints[1].name}"]
    files = {path.relative_to(one).as_posix() for one in checkpoints for path in one.rglob("*") if path.is_file()}
    found = [name for name in sorted(files - {"manifest.json"}) if _differ(*(one / name for one in checkpoints))]
    return found + [name for name in ("curve.jsonl", "best.json") if _differ(first / name, second / name)]


def _differ(first: Path, second: Path) -> bool:
    if not first.exists() and not second.exists():
        return False
    if first.name != "agent.json":
        return first.read_bytes() != second.read_bytes()
    contents = [json.loads(path.read_text()) for path in (first, second)]
    for content in contents:
        content["counters"].pop("_num_timesteps_at_start")  # by which the speed is told
        for episode in content["episodes"][0]:
            episode.pop("t", None)  # seconds since the training began
    return bool(contents[0] != contents[1])


def _arguments(arguments: list[str], folder: Path) -> list[str]:
    """Return how the killed run is begun, or gone on with once it has a configuration."""
    if (folder / "config.json").is_file():
        return ["--run-dir", str(folder), "--resume"]
    return [*arguments, "--run-dir", str(folder)]


def _started(arguments: list[str], output: Path) -> BaseProcess:
    process = _CONTEXT.Process(target=_train, args=(arguments, str(output)))
    process.start()
    return process


def _train(arguments: list[str], output: str) -> None:
    """Run `heed train`; the body of a process."""
    import torch

    from heed.scripts import train

    torch.set_num_threads(1)  # the same seed gives the same run with the same number of threads
    with Path(output).open("w", encoding="utf-8", buffering=1) as file, contextlib.ExitStack() as redirected:
        redirected.enter_context(contextlib.redirect_stdout(file))
        redirected.enter_context(contextlib.redirect_stderr(file))
        train.main(arguments)


def _timed(arguments: list[str], output: Path) -> tuple[float, float]:
    """Train, and return how many seconds it took to begin, and to learn."""
    began = time.monotonic()
    process = _started(arguments, output)
    _wait_for(functools.partial(_has_begun, output), process)
    learning = time.monotonic()
    _ended(process)
    return learning - began, time.monotonic() - learning


def _wait_for(condition: Callable[[], bool], process: BaseProcess) -> None:
    """Wait until a condition holds, or the process is over."""
    deadline = time.monotonic() + PATIENCE
    while process.is_alive() and not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("The training does not go on; see the .txt files beside the runs.")
        time.sleep(0.002)


def _has_begun(output: Path) -> bool:
    return BEGUN in _text(output)


def _has_come_to(folder: Path, steps: int) -> bool:
    return _logged(folder) >= steps


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _logged(folder: Path) -> int:
    """Return at which step the training was when it last wrote a line."""
    lines = _text(folder / "times.jsonl").splitlines()
    for line in reversed(lines):
        with contextlib.suppress(json.JSONDecodeError):  # one that is being written
            return int(json.loads(line)["steps"])
    return 0


def _ended(process: BaseProcess) -> None:
    process.join()
    if process.exitcode:
        raise RuntimeError(f"The training ended with the status {process.exitcode}; see the .txt files.")


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").iterdir()) if (folder / "checkpoints").is_dir() else []


def _newest(folder: Path) -> int:
    """Return the steps of the newest checkpoint; -1 without one."""
    names = [path.name for path in _checkpoints(folder) if path.name.startswith("step-")]
    return max((int(name.removeprefix("step-")) for name in names), default=-1)


def main() -> None:
    """Kill, resume, compare; print what came of it, and end with status 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--agent", choices=sorted(STEPS), default="ppo")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, required=True, help="folder for both runs")
    options = parser.parse_args()
    steps: Any = STEPS[options.agent]
    arguments = [*OPTIONS, "--agent", options.agent, "--steps", str(steps)]
    outcome = survive(arguments, options.out, kills=options.kills, seed=options.seed)
    for number, kill in enumerate(outcome.kills, 1):
        where = "no checkpoint yet" if kill.saved < 0 else f"newest checkpoint at {kill.saved} steps"
        writing = ", while one was being written" if kill.while_writing else ""
        print(f"kill {number:2d} after {kill.after:5.2f} s: {where}{writing}")
    print(f"{options.agent}: {steps} steps, {outcome.seconds:.0f} s without a kill; {len(outcome.kills)} kills.")
    print(f"Differences: {', '.join(outcome.differences) or 'none'}")
    sys.exit(1 if outcome.differences or len(outcome.kills) < options.kills else 0)


if __name__ == "__main__":
    main()
