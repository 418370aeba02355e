"""How environments spread over processes keep up: steps per second of slow ones, busy or waiting, by processes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from rich.table import Table
from stable_baselines3.common.vec_env import VecEnv

from heed.envs.contract import language_space
from heed.envs.vectorize import LanguageVecEnv, ProcessLanguageVecEnv
from tools.benchmark.timing import time_in_turn

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

Kind = Literal["busy", "waiting"]
KINDS: tuple[Kind, ...] = ("busy", "waiting")
"""Whether a step computes, which needs a core, or waits, as for a browser or a server."""

EPISODE = 50
"""Steps of an episode."""


class SlowEnv(gymnasium.Env[Any, Any]):
    """A language environment whose steps do nothing but take their time.

    Args:
        milliseconds: of a step.
        kind: whether it computes for so long, in processor time, or waits.
    """

    action_texts = ("stay", "go")

    def __init__(self, milliseconds: float, kind: Kind):
        self.observation_space, self.action_space = language_space(), spaces.Discrete(2)
        self._seconds, self._kind, self._step = milliseconds / 1e3, kind, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, at once."""
        super().reset(seed=seed)
        self._step = 0
        return self._perceive(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Compute or wait."""
        if self._kind == "waiting":
            time.sleep(self._seconds)
        else:
            # Of this process's own time: while another one has the core, nothing is done.
            until = time.process_time() + self._seconds
            while time.process_time() < until:
                pass
        self._step += 1
        return self._perceive(), 0.0, self._step == EPISODE, False, {"is_success": False}

    def _perceive(self) -> dict[str, str]:
        return {"instruction": "wait", "observation": f"step {self._step}"}


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Time steps of the vector, by kind of step and number of processes, all numbers in turn.

    Returns:
        Of each kind, `steps_per_second` by number of processes, and `times_one`, how many times those of one process.
    """
    return {kind: _measure(config, kind) for kind in KINDS}


def _measure(config: BenchmarkConfig, kind: Kind) -> dict[str, Any]:
    factories = [functools.partial(SlowEnv, config.slow_milliseconds, kind)] * config.slow_envs
    vectors: dict[str, VecEnv] = {}
    try:
        for processes in config.processes:
            vectors[str(processes)] = (
                LanguageVecEnv(factories, seed=config.seed)
                if processes == 1
                else ProcessLanguageVecEnv(factories, processes=processes, seed=config.seed)
            )
        for vector in vectors.values():
            vector.reset()
        ways = {name: _steps_of(vector, config.slow_steps) for name, vector in vectors.items()}
        timings = time_in_turn(ways, repeats=config.rounds)
    finally:
        for vector in vectors.values():
            vector.close()
    count = config.slow_envs * config.slow_steps
    first = timings[str(config.processes[0])].median
    return {
        "milliseconds": config.slow_milliseconds,
        "envs": config.slow_envs,
        "steps_per_second": {name: timing.per_second(count) for name, timing in timings.items()},
        "times_one": {name: first / timing.median for name, timing in timings.items()},
    }


def _steps_of(vector: VecEnv, count: int) -> Callable[[], None]:
    actions = np.zeros(vector.num_envs, dtype=int)

    def steps() -> None:
        for _ in range(count):
            vector.step(actions)

    return steps


def report(result: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what to print."""
    for kind, measured in result.items():
        title = f"{measured['envs']} environments of {measured['milliseconds']:g} ms a step, {kind}"
        yield speeds_by_processes(title, measured)


def speeds_by_processes(title: str, measured: dict[str, Any]) -> Table:
    """Return a table of `steps_per_second` and of how many times the first that is (`times_one`), by processes."""
    table = Table(title=title, title_justify="left")
    for column in ("processes", "steps/s", "times the first"):
        table.add_column(column, justify="right")
    for name, speed in measured["steps_per_second"].items():
        told = f"{speed['median']:.0f} ({speed['low']:.0f} to {speed['high']:.0f})"
        table.add_row(name, told, f"{measured['times_one'][name]:.2f}x")
    return table
