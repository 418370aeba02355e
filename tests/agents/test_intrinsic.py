"""Rewards for what is new: counts by hand, random network distillation, and that nothing but the training sees them."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heed.agents import DQN, PPO, QLearning, load
from heed.agents.exploration import CountBonus, IntrinsicReward, IntrinsicRewardVecEnv, RandomNetworkDistillation
from heed.agents.exploration.intrinsic import newest_observation
from heed.envs import make
from heed.scripts import train as train_module
from heed.training.run_folder import RunFolder

CONTINUE = np.zeros(2, dtype=bool)


def test_the_count_bonus_is_one_over_the_root_of_the_visits() -> None:
    bonus = CountBonus()
    assert bonus(["here", "there"], CONTINUE).tolist() == [1.0, 1.0]
    assert bonus(["here", "elsewhere"], CONTINUE).tolist() == pytest.approx([0.5**0.5, 1.0])
    assert bonus(["here", "here"], CONTINUE).tolist() == [0.5, 0.5]  # four visits, both counted at once


def test_distillation_errs_less_where_it_has_been_and_more_where_it_has_not() -> None:
    distillation = RandomNetworkDistillation(seed=0, learning_rate=1e-3)
    seen = [f"wall {n} ahead; red ball 1 left" for n in range(4)]
    unseen = ["closed yellow door 2 ahead; carrying yellow key", "purple box 3 right 1 ahead"]
    first = distillation(seen, np.zeros(4, dtype=bool))
    for _ in range(300):
        last = distillation(seen, np.zeros(4, dtype=bool))
    assert last.mean() < 0.1 * first.mean()
    assert distillation.errors(unseen).min() > 10 * distillation.errors(seen).max()
    # The fixed network is another for another seed, and does not learn.
    other = RandomNetworkDistillation(seed=1)
    assert not torch.equal(other.target[0].weight, distillation.target[0].weight)  # type: ignore[arg-type]
    same = RandomNetworkDistillation(seed=0)
    torch.testing.assert_close(same.target[0].weight, distillation.target[0].weight)


def test_distillations_bonus_is_in_units_of_its_returns_deviation() -> None:
    distillation = RandomNetworkDistillation(seed=0, gamma=0.5)
    distillation._returns = torch.tensor([2.0, 4.0], dtype=torch.float64)
    texts = ["a", "b"]
    raw = distillation(texts, CONTINUE)
    returns = distillation._returns
    errors = returns - 0.5 * torch.tensor([2.0, 4.0], dtype=torch.float64)
    np.testing.assert_allclose(raw, (errors / returns.std(unbiased=False)).numpy())


def test_the_agent_is_rewarded_but_statistics_are_the_environments() -> None:
    env = IntrinsicRewardVecEnv(make("FrozenLake-v1", n_envs=2, seed=0), CountBonus(), coefficient=10.0)
    agent = QLearning(env, seed=0)
    agent.learn(400)
    assert agent.table.values.max() > 1.0  # more than the lake ever gives
    assert {episode["r"] for episode in agent.ep_info_buffer or []} <= {0.0, 1.0}
    env.reset()
    *_, infos = env.step(np.array([0, 0]))
    assert all(info["intrinsic_reward"] > 0 for info in infos)


def test_the_bonus_is_of_the_state_that_is_reached_also_at_an_episodes_end() -> None:
    seen: list[str] = []

    class Noting(CountBonus):
        def __call__(self, texts: Any, dones: Any) -> Any:
            seen.extend(texts)
            return np.ones(len(texts))

    env = IntrinsicRewardVecEnv(make("Heed/DeepSea-v0", size=2), Noting(), coefficient=0.5)
    env.reset()
    for _ in range(2):
        observations, rewards, dones, _ = env.step(np.array([0]))
        assert rewards[0] > 0.4
    assert dones[0]
    assert [text.split(";")[0] for text in seen] == ["depth 1", "depth 2"]
    assert observations["observation"][0].startswith("depth 0")  # type: ignore[call-overload]


def test_of_a_history_only_the_newest_observation_counts() -> None:
    transcript = "wall 3 ahead\n> turn left: wall 1 ahead\n> go forward: red ball: 1 left"
    assert newest_observation(transcript) == "red ball: 1 left"
    assert newest_observation("wall 3 ahead") == "wall 3 ahead"
    env = IntrinsicRewardVecEnv(make("FrozenLake-v1", seed=0, history=3), CountBonus(), coefficient=1.0)
    env.reset()
    for _ in range(100):
        env.step(np.array([0]))
    assert isinstance(env.bonus, CountBonus)
    assert len(env.bonus.counts) <= 16


def bonus_of(name: str) -> IntrinsicReward:
    return CountBonus() if name == "count" else RandomNetworkDistillation(seed=3)


OPTIONS: dict[type[PPO | DQN | QLearning], dict[str, Any]] = {
    PPO: {"n_steps": 8, "batch_size": 16, "n_epochs": 1},
    DQN: {"learning_starts": 16, "buffer_size": 200, "batch_size": 16, "gradient_steps": 1},
    QLearning: {},
}


@pytest.mark.parametrize("name", ["count", "rnd"])
@pytest.mark.parametrize("kind", list(OPTIONS))
def test_the_bonus_may_be_left_out_when_a_training_is_resumed(
    kind: type[PPO | DQN | QLearning], name: str, tmp_path: Path
) -> None:
    lake = functools.partial(make, "FrozenLake-v1", n_envs=2, seed=0)
    agent = kind(env=IntrinsicRewardVecEnv(lake(), bonus_of(name), coefficient=0.5), seed=0, **OPTIONS[kind])
    agent.learn(16)
    agent.save(tmp_path / "agent")
    load(tmp_path / "agent", env=lake()).learn(16, reset_num_timesteps=False)


def test_heed_train_adds_the_bonus_logs_it_and_resumes_with_it(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    command = ["--env", "FrozenLake-v1", "--agent", "q-learning", "--intrinsic", "rnd", "--steps", "600"]
    command += ["--save-every", "300", "--eval-episodes", "0"]
    for folder in (whole, parted):
        train_module.main([*command, "--run-dir", str(folder)])
    assert all("rollout/intrinsic_reward" in point for point in RunFolder(whole).read_curve()[1:])
    shutil.rmtree(RunFolder(parted).latest_checkpoint())  # as if the run had been stopped before
    train_module.main(["--run-dir", str(parted), "--resume"])
    assert RunFolder(whole).read_curve() == RunFolder(parted).read_curve()


def test_a_negative_coefficient_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        IntrinsicRewardVecEnv(make("FrozenLake-v1"), CountBonus(), coefficient=-1.0)
