"""A2C, REINFORCE and the reference policy: against hand-worked numbers, SB3's own update, and what they must learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C as SB3A2C
from stable_baselines3.common.logger import configure
from torch import Tensor

from heed.agents import A2C, PPO, REINFORCE
from heed.envs.make import make
from heed.evaluation.playing import greedy, run_episodes, success_rate
from tests.buttons import Buttons, make_buttons

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
WORDS = {"instruction": ["press the blue button", "press the red button"], "observation": ["three buttons"] * 2}
KINDS = [PPO, A2C, REINFORCE]


def trained(kind: Any, steps: int = 128, **arguments: Any) -> Any:
    sizes = {"batch_size": 32, "n_epochs": 2} if kind is PPO else {}
    agent = kind(env=make(LEVEL, n_envs=8, seed=0), n_steps=16, seed=0, **{**sizes, **arguments})
    agent.set_logger(configure(format_strings=[]))
    agent.learn(steps)
    return agent


def weights(agent: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}


def test_the_update_of_a2c_is_that_of_sb3(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = weights(trained(A2C, steps=256))
    monkeypatch.setattr(A2C, "train", SB3A2C.train)
    for name, tensor in weights(trained(A2C, steps=256)).items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=1e-6)


def test_a_hand_worked_return_of_reinforce() -> None:
    """One step an episode: the return is the reward, and the advantage the reward less the baseline."""
    agent = REINFORCE(env=make_buttons(4), n_steps=8, seed=0, gamma=0.9)
    agent.learn(32)
    buffer = agent.rollout_buffer
    # Drawing minibatches has flattened all but the rewards, environment by environment.
    rewards, values = buffer.rewards.T.reshape(-1), buffer.values.reshape(-1)
    np.testing.assert_allclose(buffer.returns.reshape(-1), rewards, atol=1e-6)
    np.testing.assert_allclose(buffer.advantages.reshape(-1), rewards - values, atol=1e-6)


def test_the_return_of_reinforce_is_discounted_to_the_end_of_the_episode() -> None:
    agent = REINFORCE(env=make(LEVEL, n_envs=4, seed=0), n_steps=200, seed=0, gamma=0.9)
    agent.learn(800)
    buffer = agent.rollout_buffer
    # The buffer is flattened by environment when minibatches are drawn: (4 * 200,).
    rewards, returns = (part.reshape(4, 200) for part in (buffer.rewards.T, buffer.returns.reshape(4, 200)))
    followed = 0
    for env in range(4):
        for step in range(199):
            if rewards[env, step] > 0:  # success ends an episode
                assert returns[env, step] == pytest.approx(rewards[env, step], abs=1e-5)
                if step and rewards[env, step - 1] == 0 and not buffer.episode_starts[step, env]:
                    assert returns[env, step - 1] == pytest.approx(0.9 * rewards[env, step], abs=1e-5)
                    followed += 1
    assert followed > 3


@pytest.mark.parametrize("kind", [A2C, REINFORCE])
def test_they_learn_to_heed_an_instruction(kind: Any) -> None:
    agent = kind(env=make_buttons(16), seed=0, n_steps=8, learning_rate=1e-3)
    agent.learn(6144)
    assert success_rate(run_episodes(Buttons, greedy(agent), list(range(100)))) == 1.0


# -- the reference policy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["score", "linear"])
def test_the_divergence_is_worked_out_by_hand(head: str) -> None:
    agent = trained(A2C, reference_coef=1.0, policy_kwargs={"head": head}, learning_rate=0.05)
    batch = next(iter(agent.rollout_buffer.get()))
    _, measures = agent._loss(batch)
    with torch.no_grad():
        now = agent.policy.get_distribution(batch.observations).distribution.probs
        before = agent.reference.get_distribution(batch.observations).distribution.probs
    expected = (now * (now / before).log()).sum(dim=1).mean()
    assert float(expected) > 1e-3
    torch.testing.assert_close(measures["reference_kl"], expected, atol=1e-6, rtol=1e-4)


def test_the_reference_stands_still_and_is_no_part_of_the_policy() -> None:
    agent = trained(A2C, steps=0, reference_coef=0.5)
    first = {name: tensor.clone() for name, tensor in agent.reference.state_dict().items()}
    for name, tensor in weights(agent).items():
        assert torch.equal(first[name], tensor)
    agent.learn(256)
    for name, tensor in agent.reference.state_dict().items():
        assert torch.equal(first[name], tensor)
    assert any(not torch.equal(tensor, first[name]) for name, tensor in weights(agent).items())


@pytest.mark.parametrize(
    "kind", [A2C, *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in (PPO, REINFORCE))]
)
def test_it_holds_the_policy_back(kind: Any) -> None:
    free, held = (trained(kind, 512, reference_coef=coefficient) for coefficient in (1e-9, 10.0))
    kl_free, kl_held = (agent.logger.name_to_value["train/reference_kl"] for agent in (free, held))
    assert kl_held < kl_free / 2


def test_without_it_nothing_is_kept() -> None:
    assert trained(A2C).reference is None
    with pytest.raises(ValueError, match="reference_coef is -1, but must not be negative"):
        A2C(env=make_buttons(2), reference_coef=-1)
