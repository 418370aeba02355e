"""With its extras off, Heed's DQN is Stable-Baselines3's: the same updates, and it learns what that one learns."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.dqn.policies import MlpPolicy

from heed.agents import DQN

OFF: dict[str, Any] = {"double": False}
"""What Heed's DQN has beside SB3's and does by default."""


class PlainDQN(DQN):
    """Heed's DQN over environments and policies without words."""

    @staticmethod
    def prepare(env: Any, policy_kwargs: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Leave everything as it is."""
        return env, dict(policy_kwargs or {})


def make_env() -> DummyVecEnv:
    return DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])


@pytest.mark.parametrize("n_steps", [1, 3])
def test_the_same_transitions_give_the_same_weights(n_steps: int) -> None:
    options: dict[str, Any] = {
        "learning_rate": 1e-3,
        "buffer_size": 64,
        "n_steps": n_steps,
        "gamma": 0.9,
        "max_grad_norm": 0.5,
        "target_update_interval": 3,
        "tau": 0.7,
        "gradient_steps": 1,
        "seed": 0,
    }
    ours = PlainDQN(MlpPolicy, make_env(), **options, **OFF)
    theirs = SB3DQN("MlpPolicy", make_env(), **options)
    ours.policy.load_state_dict(theirs.policy.state_dict())
    their_buffer: Any = theirs.replay_buffer
    random = np.random.default_rng(0)
    space = ours.observation_space
    assert isinstance(space, spaces.Box)
    observation = random.normal(size=(1, 4)).astype(np.float32)
    for step in range(1, 41):
        action, reward = np.array([random.integers(2)]), random.normal(size=1).astype(np.float32)
        following = random.normal(size=(1, 4)).astype(np.float32)
        end = step % 10 == 0
        cut_off = step == 20  # by a time limit
        for buffer in (ours.replay_buffer, their_buffer):
            infos = [{"TimeLimit.truncated": cut_off}]
            buffer.add(observation, following, action, reward, np.array([end]), infos)
        observation = following
    drawn = [random.integers(36, size=16) for _ in range(8)]  # theirs knows the last ones too, which ours waits for
    indices = iter(drawn)
    ours.replay_buffer.sample = lambda *_: ours.replay_buffer.at(next(indices))  # type: ignore[method-assign]
    their_indices = iter(drawn)
    their_buffer.sample = lambda *_, env: their_buffer._get_samples(next(their_indices), env=env)
    for agent in (ours, theirs):
        agent.set_logger(Logger(None, []))
    for _ in range(4):
        for agent in (ours, theirs):
            agent.train(gradient_steps=2, batch_size=16)
            agent._on_step()
        ours_loss, their_loss = (agent.logger.name_to_value["train/loss"] for agent in (ours, theirs))
        assert ours_loss == pytest.approx(their_loss, rel=1e-6)
    for name, tensor in theirs.policy.state_dict().items():
        torch.testing.assert_close(ours.policy.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


# That its updates are the same shows every day, above; that DQN learns, in test_learning.py.
@pytest.mark.exhaustive
def test_it_learns_cartpole_as_sb3s_does() -> None:
    options: dict[str, Any] = {
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 10_000,
        "learning_starts": 500,
        "gamma": 0.99,
        "target_update_interval": 10,
        "train_freq": 64,
        "gradient_steps": 32,
        "exploration_fraction": 0.3,
        "exploration_final_eps": 0.04,
        "n_steps": 1,
        "max_grad_norm": 10.0,
        "policy_kwargs": {"net_arch": [64, 64]},
        "seed": 1,
    }
    returns = {}
    for name, agent in (
        ("ours", PlainDQN(MlpPolicy, make_env(), **options, **OFF)),
        ("theirs", SB3DQN("MlpPolicy", make_env(), **options)),
    ):
        agent.learn(2_500)
        env = make_env()
        env.seed(100)
        mean = evaluate_policy(agent, env, n_eval_episodes=10, warn=False)[0]
        assert isinstance(mean, float)
        returns[name] = mean
    # Random play keeps the pole up for 22 steps; 99 and 141 were seen here.
    assert min(returns.values()) > 50, returns
