"""Rewards in a unit of their own: by hand, to the end of each episode, and in checkpoints."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.agents.rollouts.scaled_rewards import ScaledRewardsVecEnv
from heed.envs import LanguageVecEnv, language_space

PAY = (100.0, 300.0, -50.0)


class Wages(gymnasium.Env[Any, Any]):
    """Pays three times, whatever is done, and counts the second action double."""

    action_texts = ("work", "rest")

    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(2)
        self._step = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        return {"instruction": "earn", "observation": "day 0"}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = PAY[self._step] * (1 + int(action))
        self._step += 1
        words = {"instruction": "earn", "observation": f"day {self._step}"}
        return words, reward, self._step == len(PAY), False, {"is_success": True}


def scaled(n_envs: int = 1, gamma: float = 0.5) -> ScaledRewardsVecEnv:
    return ScaledRewardsVecEnv(LanguageVecEnv([Wages] * n_envs, seed=0), gamma=gamma)


def test_rewards_are_divided_by_the_deviation_of_the_discounted_return() -> None:
    env = scaled()
    env.reset()
    returns: list[float] = []
    total = 0.0
    for number in range(9):
        reward = PAY[number % 3] * (1 + number % 2)
        total = 0.5 * total + reward
        returns.append(total)
        _, rewards, dones, infos = env.step(np.array([number % 2]))
        # The running statistics begin with a variance of 1, which counts for a ten-thousandth of a sample.
        if number > 0:
            assert rewards[0] == pytest.approx(reward / np.std(returns), rel=1e-2)
        if dones[0]:
            total = 0.0
            earned = sum(PAY[step % 3] * (1 + step % 2) for step in range(number - 2, number + 1))
            assert infos[0]["episode"]["r"] == earned, "in the environment's own unit"


def test_a_discount_is_one() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        scaled(gamma=1.5)
