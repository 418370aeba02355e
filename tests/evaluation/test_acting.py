"""Policies: draws counted by hand, decisions that rounding cannot turn, baselines that answer in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from heed.agents import DQN, PPO
from heed.agents.acting import Policy, draw_actions, expert_policy, greedy, policies_of, sampled, uniform
from heed.envs.make import make
from tests.buttons import make_buttons

RNG = np.random.default_rng
LEVEL = "BabyAI-GoToRedBallNoDists-v0"


def test_a_draw_falls_into_the_share_of_its_action() -> None:
    probabilities = np.array([[0.25, 0.5, 0.25]] * 4)
    actions, margins = draw_actions(probabilities, np.array([0.0, 0.25, 0.7, 0.9]))
    assert actions.tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(margins, [0.25, 0.0, 0.05, 0.15])
    assert draw_actions(np.array([[0.3]]), np.array([0.9]))[0].tolist() == [0]  # a single action, whatever its number
    assert draw_actions(np.array([[0.5, 0.0, 0.5]]), np.array([0.5]))[0].tolist() == [2]  # never the impossible one


class Rounded:
    """An agent that computes with an error as long as it has not been told to forget."""

    def __init__(self, error: float):
        self.action_space = spaces.Discrete(3)
        self.error = error
        self.alone: list[str] = []

    def action_probabilities(self, words: dict[str, list[str]]) -> Any:
        if len(words["instruction"]) == 1:
            self.alone += words["instruction"]
        return np.array([[0.4 + self.error, 0.4, 0.2 - self.error]] * len(words["instruction"]))

    action_preferences = action_probabilities

    def clear_cache(self) -> None:
        self.error = 0.0


class Fixed:
    """Stands in for a generator."""

    def __init__(self, number: float):
        self.number = number

    def random(self) -> float:
        return self.number


def test_a_decision_that_rounding_could_turn_is_taken_from_the_prompt_alone() -> None:
    words = {"instruction": ["a", "b"], "observation": ["", ""]}
    for error in (1e-6, -1e-6):
        agent: Any = Rounded(error)
        assert greedy(agent)(words, []).tolist() == [0, 0]  # alone both are equal, and the first is taken
        assert agent.alone == ["a", "b"]
        agent = Rounded(error)
        draws: Any = [Fixed(0.4 + 1e-7), Fixed(0.5)]
        assert sampled(agent)(words, draws).tolist() == [1, 1]
        assert agent.alone == ["a"]


def test_the_greedy_action_is_the_one_of_predict() -> None:
    words = {"instruction": ["press the red button", "press the blue button"], "observation": ["three buttons"] * 2}
    for agent in (PPO(env=make_buttons(2), n_steps=4, batch_size=8, seed=1), DQN(env=make_buttons(2), seed=1)):
        assert greedy(agent)(words, []).tolist() == agent.predict(words, deterministic=True)[0].tolist()
        np.testing.assert_allclose(agent.action_probabilities(words).sum(axis=1), 1, rtol=1e-6)
        assert [policy.name for policy in policies_of(agent)] == ["sampled", "greedy"]
        before = agent.action_preferences(words)
        agent.clear_cache()
        np.testing.assert_array_equal(agent.action_preferences(words), before)


def test_chance_draws_from_each_episodes_own_generator() -> None:
    choose = uniform(spaces.Discrete(5))
    words = {"instruction": [""] * 3, "observation": [""] * 3}
    together = choose(words, [RNG(1), RNG(2), RNG(3)])
    assert together.tolist() == [int(RNG(seed).integers(5)) for seed in (1, 2, 3)]
    box = uniform(spaces.Box(-1, 1, (2,)))
    assert box(words, [RNG(1), RNG(2), RNG(1)])[[0, 2]].tolist()[0] == box(words, [RNG(1)] + [RNG(5)] * 2)[0].tolist()


def test_the_experts_policy_asks_the_environment() -> None:
    env = make(LEVEL, n_envs=1, seed=0)
    expert: Policy = expert_policy(env.action_space)
    assert (expert.name, expert.asks_expert) == ("expert", True)
