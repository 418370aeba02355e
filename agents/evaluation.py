"""Does the agent do what it is told? Success on held-out episodes, beside the random policy and changed instructions.

Every episode has a seed of its own, which also seeds the sampling of its actions, so it does not matter how many
episodes run side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from heed.agents.agent import LanguageAgent
from heed.envs.contract import success_of
from heed.envs.demonstrate import Choose, MakeEnv, Words

HELD_OUT = 0x4E7A1
"""Sets evaluation seeds apart from training seeds, which are drawn without it."""

Z95 = 1.959964
"""The standard normal's 97.5 % point, for 95 % intervals."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One finished episode."""

    seed: int
    instruction: str
    """The true instruction is not known here: this is the one that was shown."""
    success: bool
    episode_return: float
    length: int
    level: str = ""
    """Of a mixture, where the environment is one (`info["level"]`)."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Means over episodes, and a 95 % interval of the success rate."""

    success_rate: float
    ci95: tuple[float, float]
    mean_return: float
    mean_length: float

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Summary:
        """Summarise `episodes`, at least one."""
        successes = sum(episode.success for episode in episodes)
        return cls(
            success_rate=successes / len(episodes),
            ci95=wilson_interval(successes, len(episodes)),
            mean_return=float(np.mean([episode.episode_return for episode in episodes])),
            mean_length=float(np.mean([episode.length for episode in episodes])),
        )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion after Wilson (1927), good also near 0 and 1."""
    rate = successes / trials
    centre = rate + Z95**2 / (2 * trials)
    spread = Z95 * math.sqrt(rate * (1 - rate) / trials + Z95**2 / (4 * trials**2))
    scale = 1 + Z95**2 / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def held_out_seeds(seed: int, episodes: int) -> list[int]:
    """Return the seeds of `episodes` evaluation episodes; training never draws from this sequence."""
    return [int(n) for n in np.random.SeedSequence(seed, spawn_key=(HELD_OUT,)).generate_state(episodes)]


def sampled(agent: LanguageAgent) -> Choose:
    """Let the agent's own distribution choose (for DQN: epsilon-greedily, with the last epsilon of training)."""

    def choose(words: Words, generators: Sequence[np.random.Generator]) -> npt.NDArray[Any]:
        if not isinstance(agent.action_space, spaces.Discrete):
            return agent.predict(words, deterministic=False)[0]  # type: ignore[arg-type]
        cumulative = agent.action_probabilities(words).cumsum(axis=1)
        draws = np.array([generator.random() for generator in generators])[:, None] * cumulative[:, -1:]
        actions: npt.NDArray[Any] = (draws >= cumulative).sum(axis=1)
        return actions

    return choose


def greedy(agent: LanguageAgent) -> Choose:
    """Let the agent take its most probable or most valued action."""
    return lambda words, _: agent.predict(words, deterministic=True)[0]  # type: ignore[arg-type]


def uniform(action_space: spaces.Space[Any]) -> Choose:
    """Choose at random, without reading: the floor that every success rate stands beside."""

    def choose(_: Words, generators: Sequence[np.random.Generator]) -> npt.NDArray[Any]:
        if isinstance(action_space, spaces.Discrete):
            return np.array([generator.integers(int(action_space.n)) for generator in generators])
        actions = []
        for generator in generators:
            action_space.seed(int(generator.integers(2**31)))
            actions.append(action_space.sample())
        return np.stack(actions)

    return choose


def run_episodes(make_env: MakeEnv, choose: Choose, seeds: Sequence[int], *, n_envs: int = 32) -> list[Episode]:
    """Play one episode for each seed.

    Args:
        make_env: makes the language environment.
        choose: chooses the actions.
        seeds: of the episodes.
        n_envs: how many episodes run side by side.

    Returns:
        The episodes, in the order of `seeds`.
    """
    episodes: dict[int, Episode] = {}
    waiting = iter(enumerate(seeds))
    running = [game for game in (_Game.begin(make_env(), waiting) for _ in range(min(n_envs, len(seeds)))) if game]
    envs = [game.env for game in running]
    while running:
        words = {key: [game.observation[key] for game in running] for key in ("instruction", "observation")}
        actions = choose(words, [game.generator for game in running])
        still_running = []
        for game, action in zip(running, actions, strict=True):
            finished = game.step(action)
            if finished is None:
                still_running.append(game)
                continue
            episodes[game.number] = finished
            following = _Game.begin(game.env, waiting)
            if following is not None:
                still_running.append(following)
        running = still_running
    for env in envs:
        env.close()
    return [episodes[number] for number in range(len(seeds))]


@dataclass
class _Game:
    """An episode that is being played."""

    env: gymnasium.Env[Any, Any]
    number: int
    seed: int
    observation: Any
    generator: np.random.Generator
    episode_return: float = 0.0
    length: int = 0

    @classmethod
    def begin(cls, env: gymnasium.Env[Any, Any], waiting: Iterator[tuple[int, int]]) -> _Game | None:
        """Begin the next episode that waits, if there is one."""
        try:
            number, seed = next(waiting)
        except StopIteration:
            return None
        observation, _ = env.reset(seed=seed)
        return cls(env, number, seed, observation, np.random.default_rng(seed))

    def step(self, action: Any) -> Episode | None:
        """Act; return the episode once it is over."""
        discrete = isinstance(self.env.action_space, spaces.Discrete)
        instruction = self.observation["instruction"]
        self.observation, reward, terminated, truncated, info = self.env.step(int(action) if discrete else action)
        self.episode_return += float(reward)
        self.length += 1
        if not (terminated or truncated):
            return None
        return Episode(
            seed=self.seed,
            instruction=instruction,
            success=success_of(self.env, info),
            episode_return=self.episode_return,
            length=self.length,
            level=info.get("level", ""),
        )
