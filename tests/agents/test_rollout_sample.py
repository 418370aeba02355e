"""What a loss is given: the episodes and turns of the steps, and what another policy says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from heed.agents import GRPO, PPO
from heed.agents.rollouts.lost_steps import RolloutWithoutLostSteps
from heed.agents.rollouts.sample import Sample
from heed.envs import LanguageVecEnv
from tests.places import Places


def trained(kind: Any, **arguments: Any) -> Any:
    env = LanguageVecEnv([Places] * 2, seed=0, group_size=arguments.get("group_size", 1))
    agent = kind(env=env, seed=0, n_steps=8, batch_size=16, n_epochs=1, learning_rate=0.01, **arguments)
    return agent.learn(16)


def test_episodes_and_turns_are_those_written_down_by_hand() -> None:
    buffer = RolloutWithoutLostSteps(4, spaces.Box(0, 9, (1,)), spaces.Discrete(2), device="cpu", n_envs=2)
    buffer.reset()
    starts = np.array([[1, 0], [0, 0], [1, 1], [0, 0]])  # the second environment's episode began before the rollout
    for step in range(4):
        number = np.array([[step], [4 + step]])
        zeros = torch.zeros(2)
        buffer.add(number, np.zeros((2, 1)), np.zeros(2), starts[step], zeros, zeros)
    buffer.compute_returns_and_advantage(torch.zeros(2), np.zeros(2))
    [batch] = buffer.get()
    order = batch.observations.flatten().argsort()
    assert batch.episodes[order].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batch.turns[order].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(("kind", "arguments"), [(PPO, {}), (GRPO, {"group_size": 2})])
def test_every_turn_of_an_episode_is_there_once(kind: Any, arguments: dict[str, Any]) -> None:
    agent = trained(kind, **arguments)
    agent._setup_learn(16, None)
    callback: Any = agent._init_callback(None)
    agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, 8)
    [batch] = agent.rollout_buffer.get()
    for episode in batch.episodes.unique():
        turns = batch.turns[batch.episodes == episode]
        assert sorted(turns.tolist()) == list(range(len(turns)))


def test_another_policy_is_asked_of_the_same_steps_without_a_gradient() -> None:
    agent = trained(PPO, reference_coef=0.1)
    [batch] = agent.rollout_buffer.get()
    sample = Sample.of(agent.policy, batch, values=True)
    theirs = sample.evaluated_by(agent.reference)
    assert not theirs.log_probability.requires_grad
    actions = batch.actions.long().flatten()
    expected = agent.reference.get_distribution(batch.observations).log_prob(actions)
    torch.testing.assert_close(theirs.log_probability, expected)
    assert sample.evaluation.kl(theirs).mean().item() > 0
    without = Sample.of(agent.policy, batch, values=False)
    with pytest.raises(ValueError, match="has_critic = False"):
        _ = without.value_loss
