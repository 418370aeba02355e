"""How training speeds up with the processes that train one agent together, each with the same number of threads.

A process of each number is started by torchrun as a user would start it, trains PPO with heed-tiny on its share of the
environments, and times rollouts and updates, of which the first is not counted. What starting takes is left out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from heed.training.errors import ConfigurationError
from tools.benchmark.processes import speeds_by_processes
from tools.benchmark.timing import Timing

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Time trainings of the same environments by different numbers of processes.

    Returns:
        `steps_per_second` by number of processes, and `times_one`, how many times those of the first number.

    Raises:
        ConfigurationError: if the environments cannot be shared out evenly.
    """
    for count in config.ranks:
        if config.n_envs % count:
            raise ConfigurationError(f"--n-envs is {config.n_envs}, but must be a multiple of --ranks {count}.")
    seconds = {str(count): _seconds_of(config, count) for count in config.ranks}
    timings = {name: Timing.of(times) for name, times in seconds.items()}
    steps = config.n_envs * config.n_steps * config.rollouts
    first = timings[str(config.ranks[0])].median
    return {
        "env": config.env,
        "envs": config.n_envs,
        "threads": _threads(config),
        "steps_per_second": {name: timing.per_second(steps) for name, timing in timings.items()},
        "times_one": {name: first / timing.median for name, timing in timings.items()},
    }


def _threads(config: BenchmarkConfig) -> int:
    """Return how many threads each process has."""
    return config.threads or 1


def _seconds_of(config: BenchmarkConfig, count: int) -> list[float]:
    """Return the seconds of each round in `count` processes."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "options.json", Path(folder) / "seconds.json"
        given.write_text(json.dumps({**dataclasses.asdict(config), "out": str(config.out)}), encoding="utf-8")
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        command = [sys.executable, *launcher, "-m", "tools.benchmark.ranks", str(given), str(found)]
        # The folders that modules are found in may be this process's own.
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "OMP_NUM_THREADS": str(_threads(config)), "PYTHONPATH": paths}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"{count} processes did not come to their end:\n{ended.stderr}")
        seconds: list[float] = json.loads(found.read_text(encoding="utf-8"))
        return seconds


def _train(given: Path, found: Path) -> None:
    """Train as one of the processes; the first writes the seconds of each round."""
    from heed.agents import PPO
    from heed.agents.distributed.ranks import join
    from heed.envs.make import make
    from tools.benchmark.building import ppo_defaults
    from tools.benchmark.command import BenchmarkConfig

    options = json.loads(given.read_text(encoding="utf-8"))
    listed: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    config = BenchmarkConfig(**{**listed, "out": Path(options["out"])})
    with join(config.device) as ranks:
        torch.set_num_threads(_threads(config))
        n_envs = ranks.share("--n-envs", config.n_envs)
        env = make(config.env, n_envs=n_envs, first_index=ranks.rank * n_envs, seed=config.seed)
        rollout = config.n_envs * config.n_steps
        parts = max(1, rollout // int(ppo_defaults()["batch_size"]))
        agent = PPO(
            env=env,
            n_steps=config.n_steps,
            batch_size=rollout // parts,
            seed=config.seed,
            device=config.device,
            policy_kwargs={"model": "heed-tiny"},
        )
        agent.learn(rollout)
        seconds = []
        for _ in range(config.rounds):
            ranks.sums([0.0])  # all begin together
            began = time.perf_counter()
            agent.learn(config.rollouts * rollout, reset_num_timesteps=False)
            seconds.append(time.perf_counter() - began)
        if ranks.is_first:
            found.write_text(json.dumps(seconds), encoding="utf-8")
        env.close()


def report(result: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what to print."""
    threads = "1 thread" if result["threads"] == 1 else f"{result['threads']} threads"
    title = f"PPO with heed-tiny on {result['env']}, {result['envs']} environments in all, {threads} each"
    yield speeds_by_processes(title, result)


if __name__ == "__main__":
    _train(*map(Path, sys.argv[1:]))
