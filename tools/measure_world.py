"""How fast an environment is, and how far random actions get in it: `python -m tools.measure_world ID`."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass

import gymnasium
import numpy as np
import numpy.typing as npt

from heed.envs.checks.playing import random_actions
from heed.envs.contract import sample_action, success_of
from heed.envs.make import make_env


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What random actions found out about an environment."""

    env: str
    episodes: int
    success: float
    """Share of the episodes."""
    mean_return: float
    mean_length: float
    steps_per_second: float
    """Words, pictures and all, but without the resets."""
    steps_per_cpu_second: float
    """By this process's own time, in which the machine's other work does not count; nor do other processes' parts of
    an environment."""
    reset_seconds: float
    """Of one reset, on average."""
    reset_cpu_seconds: float
    instructions: int
    """Different ones."""


def measure(env_id: str, *, episodes: int = 100, seed: int = 0) -> Measured:
    """Play episodes with random actions, each with a seed of its own, and time resets and steps.

    Args:
        env_id: as for `heed.envs.make_env`.
        episodes: how many.
        seed: of the first episode and of the actions.

    Raises:
        UnknownEnvironmentError, ContractError: as `heed.envs.make_env`.
        ValueError: if there is no episode to play.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, but is {episodes}.")
    env = make_env(env_id)
    chance = random_actions(env, seed)
    successes, returns, lengths = [], [], []
    instructions = set()
    resetting, stepping = np.zeros(2), np.zeros(2)
    for episode in range(episodes):
        begun = _clocks()
        observation, info = env.reset(seed=seed + episode)
        resetting += _clocks() - begun
        instructions.add(observation["instruction"])
        total, length, ended = 0.0, 0, False
        begun = _clocks()
        while not ended:
            action = sample_action(env.action_space, observation, chance)
            observation, reward, terminated, truncated, info = env.step(action)
            total, length, ended = total + float(reward), length + 1, terminated or truncated
        stepping += _clocks() - begun
        successes.append(success_of(env, info))
        returns.append(total)
        lengths.append(length)
    env.close()
    return Measured(
        env=env_id,
        episodes=episodes,
        success=float(np.mean(successes)),
        mean_return=float(np.mean(returns)),
        mean_length=float(np.mean(lengths)),
        steps_per_second=sum(lengths) / float(stepping[0]),
        steps_per_cpu_second=sum(lengths) / float(stepping[1]),
        reset_seconds=float(resetting[0]) / episodes,
        reset_cpu_seconds=float(resetting[1]) / episodes,
        instructions=len(instructions),
    )


def _clocks() -> npt.NDArray[np.float64]:
    """Return the time of the clock on the wall, and that of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def main(arguments: list[str] | None = None) -> None:
    """Measure the environments named on the command line, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="+", metavar="ID", help="as for heed check-env")
    parser.add_argument("--episodes", type=int, default=100, help="how many to play with random actions (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (default: 0)")
    told = parser.parse_args(arguments)
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    for env_id in told.ids:
        measured = asdict(measure(env_id, episodes=told.episodes, seed=told.seed))
        print(
            json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in measured.items()})
        )


if __name__ == "__main__":
    main()
