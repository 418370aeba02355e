"""Exploration: how actions are chosen while values are learned, and rewards for what is new."""

from __future__ import annotations

from typing import Any

from heed.agents.exploration.boltzmann import Boltzmann
from heed.agents.exploration.epsilon_greedy import EpsilonGreedy
from heed.agents.exploration.intrinsic import CountBonus, IntrinsicReward, IntrinsicRewardVecEnv
from heed.agents.exploration.rnd import RandomNetworkDistillation
from heed.agents.exploration.strategy import Exploration, Schedule
from heed.agents.exploration.thompson import Thompson
from heed.agents.exploration.ucb import UCB

STRATEGIES: dict[str, type[EpsilonGreedy | Boltzmann | UCB | Thompson]] = {
    strategy.name: strategy for strategy in (EpsilonGreedy, Boltzmann, UCB, Thompson)
}
"""Ways to choose actions, by the name that the command line knows."""


def exploration_from_json(saved: dict[str, Any]) -> Exploration:
    """Return the strategy that `Exploration.as_json` wrote."""
    arguments = {name: value for name, value in saved.items() if name != "name"}
    return STRATEGIES[saved["name"]](**{**arguments, "schedule": Schedule(**arguments["schedule"])})


__all__ = [
    "STRATEGIES",
    "UCB",
    "Boltzmann",
    "CountBonus",
    "EpsilonGreedy",
    "Exploration",
    "IntrinsicReward",
    "IntrinsicRewardVecEnv",
    "RandomNetworkDistillation",
    "Schedule",
    "Thompson",
    "exploration_from_json",
]
