"""Where each way to explore beats epsilon-greedy: what docs/exploration.md reports, to be run again.

    python -m examples.exploration deep-sea cliff deep-sea-dqn key-corridor --out docs/exploration
    python -m examples.exploration --plot docs/images/exploration.png --out docs/exploration

Each section writes a JSON file with a curve for each way and seed; what is in it already is not run again.
- deep-sea: a table in `Heed/DeepSea-v0`, where one of 2^N sequences of actions finds the treasure;
- cliff: a table in CliffWalking-v1, where what counts is the return while learning;
- deep-sea-dqn: DQN with heed-tiny in Deep Sea;
- key-corridor: PPO with heed-tiny in MiniGrid-KeyCorridorS3R1-v0, with and without a reward for what is new.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from heed.agents import DQN, PPO, QLearning
from heed.agents.exploration import (
    UCB,
    Boltzmann,
    CountBonus,
    EpsilonGreedy,
    IntrinsicRewardVecEnv,
    RandomNetworkDistillation,
    Schedule,
    Thompson,
)
from heed.envs import make

SEEDS = (0, 1, 2)
STRATEGIES = {
    "epsilon-greedy": EpsilonGreedy(),
    "boltzmann": Boltzmann(schedule=Schedule(start=0.1, end=0.01, shape="exponential")),
    "ucb": UCB(),
    "thompson": Thompson(),
}
Curve = list[tuple[int, float]]
"""Steps, and a mean over the last episodes."""


class Recording(BaseCallback):
    """Notes success rate or return of the last episodes every `every` steps."""

    def __init__(self, *, every: int, what: str):
        super().__init__()
        self._every, self._what = every, what
        self.curve: Curve = []

    def _on_step(self) -> bool:
        if self.num_timesteps // self._every > len(self.curve):
            model: BaseAlgorithm = self.model
            returns = [episode["r"] for episode in model.ep_info_buffer or []]
            values = list(model.ep_success_buffer or []) if self._what == "success" else returns
            self.curve.append((self.num_timesteps, round(float(np.mean(values)) if values else 0.0, 4)))
        return True


def deep_sea(way: str, seed: int) -> Curve:
    """Train a table for 1000 dives of 12 steps."""
    env = make("Heed/DeepSea-v0", seed=seed, size=12)
    agent = QLearning(env, exploration=STRATEGIES[way], gamma=0.99, stats_window_size=50, seed=seed)
    recording = Recording(every=240, what="success")
    agent.learn(12_000, callback=recording)
    return recording.curve


def cliff(way: str, seed: int) -> Curve:
    """Train a table where a random step costs most; epsilon and temperature stay as they are."""
    schedule = Schedule.constant({"epsilon-greedy": 0.1, "boltzmann": 0.5}[way])
    strategy = {"epsilon-greedy": EpsilonGreedy, "boltzmann": Boltzmann}[way](schedule=schedule)
    agent = QLearning(make("CliffWalking-v1", seed=seed), exploration=strategy, gamma=1.0, seed=seed)
    recording = Recording(every=500, what="return")
    agent.learn(20_000, callback=recording)
    return recording.curve


def deep_sea_dqn(way: str, seed: int) -> Curve:
    """Train heed-tiny for 1000 dives of 10 steps."""
    agent = DQN(
        env=make("Heed/DeepSea-v0", n_envs=8, seed=seed),
        exploration=STRATEGIES[way],
        gamma=0.99,
        learning_starts=200,
        batch_size=128,
        gradient_steps=2,
        target_update_interval=200,
        stats_window_size=50,
        seed=seed,
        policy_kwargs={"model": "heed-tiny"},
    )
    recording = Recording(every=400, what="success")
    agent.learn(10_000, callback=recording)
    return recording.curve


def key_corridor(way: str, seed: int) -> Curve:
    """Train PPO with heed-tiny for 80,000 steps; the success is the environment's own."""
    env = make("MiniGrid-KeyCorridorS3R1-v0", n_envs=32, seed=seed)
    if way == "count":
        env = IntrinsicRewardVecEnv(env, CountBonus(), coefficient=0.05)
    if way == "rnd":
        env = IntrinsicRewardVecEnv(env, RandomNetworkDistillation(seed=seed), coefficient=1.0)
    agent = PPO(env=env, stats_window_size=200, seed=seed, policy_kwargs={"model": "heed-tiny"})
    recording = Recording(every=4_096, what="success")
    agent.learn(80_000, callback=recording)
    return recording.curve


SECTIONS: dict[str, tuple[Callable[[str, int], Curve], tuple[str, ...], str]] = {
    "deep-sea": (deep_sea, tuple(STRATEGIES), "table, Deep Sea 12: success"),
    "cliff": (cliff, ("epsilon-greedy", "boltzmann"), "table, CliffWalking: return"),
    "deep-sea-dqn": (deep_sea_dqn, ("epsilon-greedy", "ucb", "thompson"), "DQN, Deep Sea 10: success"),
    "key-corridor": (key_corridor, ("none", "count", "rnd"), "PPO, KeyCorridorS3R1: success"),
}


def measure(section: str, out: Path) -> None:
    """Run what is missing of a section, and say what came of it."""
    run, ways, _ = SECTIONS[section]
    path = out / f"{section}.json"
    curves: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
    for seed in SEEDS:
        for way in ways:
            if str(seed) in curves.setdefault(way, {}):
                continue
            curves[way][str(seed)] = run(way, seed)
            path.write_text(json.dumps(curves) + "\n")
            print(f"{section}, {way}, seed {seed}: {curves[way][str(seed)][-1][1]}", flush=True)


def plot(out: Path, picture: Path) -> None:
    """Draw all sections that are there: means over seeds, and what lies between the lowest and the highest."""
    present = [name for name in SECTIONS if (out / f"{name}.json").is_file()]
    figure = Figure(figsize=(4.0 * len(present), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(present), squeeze=False)[0], present, strict=True):
        for way, seeds in json.loads((out / f"{name}.json").read_text()).items():
            steps = [point[0] for point in next(iter(seeds.values()))]
            values = np.array([[point[1] for point in curve] for curve in seeds.values()])
            (line,) = axes.plot(steps, values.mean(axis=0), label=way)
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.15, color=line.get_color())
        axes.set_title(SECTIONS[name][2], fontsize=10)
        axes.set_xlabel("steps", fontsize=8)
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
        if "return" in SECTIONS[name][2]:
            axes.set_ylim(-200, 0)
    figure.savefig(picture, dpi=90)


def main() -> None:
    """Run the sections that the command line names, then draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"what to run, of {', '.join(SECTIONS)}")
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--plot", type=Path, help="PNG file to draw")
    arguments = parser.parse_args()
    unknown = [section for section in arguments.sections if section not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)  # the same seed, the same numbers
    arguments.out.mkdir(parents=True, exist_ok=True)
    for section in arguments.sections:
        measure(section, arguments.out)
    if arguments.plot is not None:
        plot(arguments.out, arguments.plot)


if __name__ == "__main__":
    main()
