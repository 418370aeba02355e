"""Evaluation: independent counts, intervals against published numbers, the same episodes however they are run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.agents.acting import draw_actions
from heed.envs.contract import ContractError, language_space
from heed.envs.demonstrations.demonstrate import action_generator
from heed.envs.make import make_env
from heed.envs.vectorize import episode_seed
from heed.evaluation.playing import held_out_seeds, run_episodes, success_rate, uniform
from tests.buttons import Buttons

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
make_level = functools.partial(make_env, LEVEL)


def test_every_seed_is_played_once_in_order_and_counted_right() -> None:
    space = make_level().action_space
    seeds = held_out_seeds(0, 12)
    episodes = run_episodes(make_level, uniform(space), seeds, n_envs=5)
    assert [episode.seed for episode in episodes] == seeds
    for episode in episodes[:4]:  # play it again by hand
        env, generator = make_level(), action_generator(episode.seed)
        env.reset(seed=episode.seed)
        total, length, over = 0.0, 0, False
        info: dict[str, Any] = {}
        while not over:
            _, reward, terminated, truncated, info = env.step(int(generator.integers(7)))
            total, length, over = total + float(reward), length + 1, terminated or truncated
        assert (episode.episode_return, episode.length, episode.success) == (total, length, info["is_success"])
    assert success_rate(episodes) == sum(episode.success for episode in episodes) / 12


def test_the_number_of_environments_changes_nothing() -> None:
    space, seeds = make_level().action_space, held_out_seeds(3, 7)
    assert run_episodes(make_level, uniform(space), seeds, n_envs=1) == run_episodes(
        make_level, uniform(space), seeds, n_envs=7
    )


def test_held_out_seeds_are_not_trained_on() -> None:
    trained = {episode_seed(seed, env, episode) for seed in range(3) for env in range(32) for episode in range(100)}
    for seed in range(3):
        assert not trained & set(held_out_seeds(seed, 500))
    assert held_out_seeds(0, 5) == held_out_seeds(0, 500)[:5]
    assert held_out_seeds(0, 5) != held_out_seeds(1, 5)


def test_the_words_reach_whoever_chooses() -> None:
    seen: list[str] = []

    def choose(words: dict[str, list[str]], generators: Sequence[np.random.Generator]) -> Any:
        seen.extend(words["instruction"])
        return np.full(len(generators), 2)

    run_episodes(make_level, choose, [1, 2])
    assert set(seen) == {"go to the red ball"}


def test_an_environment_that_does_not_say_whether_it_succeeded_is_refused_in_a_sentence() -> None:
    class Silent(Buttons):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            words, reward, terminated, truncated, _ = super().step(action)
            return words, reward, terminated, truncated, {}

    with pytest.raises(ContractError, match="ended an episode without info\\['is_success'\\]"):
        run_episodes(Silent, uniform(Buttons().action_space), [1, 2])


class Coin(gymnasium.Env[Any, Any]):
    """Guess what the environment's own generator has drawn."""

    action_texts = ("heads", "tails", "edge", "lost")

    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._drawn = int(self.np_random.integers(4))
        return {"instruction": "guess", "observation": "a coin"}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = int(action) == self._drawn
        return {"instruction": "guess", "observation": "a coin"}, float(right), True, False, {"is_success": right}


def test_a_policy_draws_nothing_that_the_environment_has_drawn() -> None:
    guessed = success_rate(run_episodes(Coin, uniform(spaces.Discrete(4)), range(400)))
    assert guessed == pytest.approx(0.25, abs=0.08)
    shares = np.full((1, 4), 0.25)
    draws = [draw_actions(shares, np.array([action_generator(seed).random()]))[0][0] for seed in range(400)]
    env = Coin()
    hits = []
    for seed, draw in enumerate(draws):
        env.reset(seed=seed)
        hits.append(int(draw) == env._drawn)
    assert np.mean(hits) == pytest.approx(0.25, abs=0.08)
