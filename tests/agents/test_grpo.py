"""GRPO: loss and gradient against hand-worked numbers, no step lost, and what it must learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from torch import Tensor

from heed.agents import GRPO
from heed.agents.rollouts.sample import RolloutBatch
from heed.envs import Curriculum, CurriculumVecEnv, LanguageVecEnv
from heed.envs.make import make
from heed.evaluation.playing import greedy, run_episodes, success_rate
from tests.buttons import Buttons
from tests.faulty import stumbling_levels

LEVEL = "BabyAI-GoToRedBallNoDists-v0"


def buttons(n_envs: int, group_size: int) -> LanguageVecEnv:
    return LanguageVecEnv([Buttons] * n_envs, seed=0, group_size=group_size)


def trained(steps: int, **arguments: Any) -> GRPO:
    options: dict[str, Any] = {"group_size": 4, "n_steps": 16, "batch_size": 64, "n_epochs": 2, "seed": 0, **arguments}
    agent = GRPO(env=make(LEVEL, n_envs=8, seed=0, group_size=4), **options)
    agent.set_logger(configure(format_strings=[]))
    agent.learn(steps)
    return agent


def weights(agent: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}


def three_steps(agent: GRPO, advantages: list[float], ratios: list[float]) -> tuple[RolloutBatch, Tensor]:
    """Return steps that took actions 0, 1 and 2, with such advantages and ratios, and the probabilities there."""
    prompts = torch.as_tensor(agent.env.reset())[:3]  # type: ignore[union-attr]
    with torch.no_grad():
        probabilities: Tensor = agent.policy.get_distribution(prompts).distribution.probs  # type: ignore[union-attr]
    actions = torch.arange(3)
    old = probabilities[actions, actions].log() - torch.tensor(ratios).log()
    samples = RolloutBatch(
        prompts, actions[:, None], torch.zeros(3), old, torch.tensor(advantages), *[torch.zeros(3)] * 3
    )
    return samples, probabilities


def test_loss_and_gradient_are_worked_out_by_hand() -> None:
    agent = GRPO(env=buttons(4, 4), group_size=4, seed=0, ent_coef=0.0, policy_kwargs={"head": "linear"})
    agent._clip_range = 0.2
    # Better and already much likelier: clipped. Worse and much likelier: not. Better and less likely: not.
    samples, probabilities = three_steps(agent, [1.0, -2.0, 0.5], [1.5, 1.5, 0.9])
    loss, measures = agent._loss(samples)
    expected = -(1.0 * 1.2 + -2.0 * 1.5 + 0.5 * 0.9) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert float(measures["clip_fraction"]) == pytest.approx(2 / 3)
    assert "value_loss" not in measures
    agent.policy.optimizer.zero_grad()
    loss.backward()
    # d log pi(a) / d logits is onehot(a) - pi, and what was clipped has no gradient.
    slopes = torch.tensor([0.0, -2.0 * 1.5, 0.5 * 0.9])[:, None]
    by_hand = -(slopes * (torch.eye(3) - probabilities)).sum(dim=0) / 3
    head: Any = agent.policy.action_head
    torch.testing.assert_close(head.net.bias.grad, by_hand, atol=1e-5, rtol=1e-4)
    value_net: Any = agent.policy.value_net
    assert all(parameter.grad is None for parameter in value_net.parameters())


def test_entropy_and_reference_are_part_of_the_loss() -> None:
    agent = GRPO(env=buttons(4, 4), group_size=4, seed=0, ent_coef=0.3, reference_coef=0.7)
    agent._clip_range = 0.2
    with torch.no_grad():
        network: Any = agent.policy.network
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    samples, now = three_steps(agent, [1.0, -2.0, 0.5], [1.0, 1.0, 1.0])
    assert agent.reference is not None
    with torch.no_grad():
        before = agent.reference.get_distribution(samples.observations).distribution.probs  # type: ignore[union-attr]
    loss, _ = agent._loss(samples)
    entropy = -(now * now.log()).sum(dim=1).mean()
    divergence = (now * (now / before).log()).sum(dim=1).mean()
    assert float(divergence) > 1e-4
    torch.testing.assert_close(loss, 0.5 / 3 - 0.3 * entropy + 0.7 * divergence, atol=1e-5, rtol=1e-4)


def test_no_value_is_computed_or_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("a value was computed")

    monkeypatch.setattr("heed.policies.actor_critic.LanguageActorCriticPolicy.values_from", refuse)
    monkeypatch.setattr("heed.policies.actor_critic.LanguageActorCriticPolicy.predict_values", refuse)
    agent = trained(0, reference_coef=0.1)
    before = weights(agent)
    agent.learn(512)
    moved = {name for name, tensor in weights(agent).items() if not torch.equal(tensor, before[name])}
    assert moved
    assert not [name for name in moved if name.startswith(("value_net", "mlp_extractor"))]


class CountTrained(BaseCallback):
    """Adds up the steps that were trained on, and checks that each group is whole and began alike."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        agent: Any = self.model
        for group in agent.groups.complete:
            assert len(group) == agent.group_size
            assert len({episode.prompts[0].tobytes() for episode in group}) == 1
            self.steps += sum(len(episode.rewards) for episode in group)


def test_every_step_is_trained_on_once_however_long_its_episode() -> None:
    # Rollouts are shorter than most episodes.
    count = CountTrained()
    agent = GRPO(env=make(LEVEL, n_envs=8, seed=0, group_size=4), group_size=4, n_steps=5, seed=0)
    agent.set_logger(configure(format_strings=[]))
    agent.learn(2000, callback=count)
    waiting = [episode for group in agent.groups._ended.values() for episode in group] + agent.groups._running
    assert count.steps > 800
    assert count.steps + sum(len(episode.rewards) for episode in waiting) == agent.num_timesteps
    # No group waits much longer than its longest episode.
    assert sum(len(episode.rewards) for episode in waiting) < 8 * 2 * 64


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    first, second, other = (trained(512, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(tensor, weights(second)[name]) for name, tensor in weights(first).items())
    assert any(not torch.equal(tensor, weights(other)[name]) for name, tensor in weights(first).items())


def test_learning_again_from_the_beginning_drops_what_waited() -> None:
    agent = trained(300)
    agent.learn(300)
    lengths = [len(episode.rewards) for episode in agent.groups._running]
    lengths += [len(episode.rewards) for group in agent.groups._ended.values() for episode in group]
    assert sum(lengths) <= agent.num_timesteps


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.exhaustive), {"divide_by_deviation": False, "divide_by_length": True}],
)
def test_it_learns_to_heed_an_instruction(options: dict[str, Any]) -> None:
    agent = GRPO(env=buttons(16, 8), **{"group_size": 8, "seed": 0, "n_steps": 16, "batch_size": 64, **options})
    agent.learn(3072)
    assert success_rate(run_episodes(Buttons, greedy(agent), list(range(100)))) == 1.0


def test_groups_must_be_those_of_the_environment() -> None:
    with pytest.raises(ValueError, match=r"compares groups of 8 episodes, but .* in groups of 1: make them with"):
        GRPO(env=buttons(8, 1))
    with pytest.raises(ValueError, match="group_size is 1, but an episode is compared with others"):
        GRPO(env=buttons(8, 1), group_size=1)
    with pytest.raises(ValueError, match="batch_size is 0"):
        GRPO(env=buttons(8, 8), batch_size=0)


@pytest.mark.filterwarnings("ignore::heed.envs.faults.LostEpisodeWarning")
def test_a_group_is_compared_within_one_level_though_resets_fail(tmp_path: Path, monkeypatch: Any) -> None:
    def new(seed: int) -> Any:
        vector = LanguageVecEnv([stumbling_levels] * 4, seed=seed, group_size=2)
        return CurriculumVecEnv(vector, Curriculum(window=4))

    compared: list[set[str]] = []
    train = GRPO.train

    def noted(self: GRPO) -> None:
        encoder = self.language_policy.encoder
        for group in self.groups.complete:
            words = [encoder.decode(episode.prompts[0]) for episode in group]
            compared.append({"easy" if "of 0.9" in text else "hard" for text in words})
        train(self)

    monkeypatch.setattr(GRPO, "train", noted)
    policy: Any = {"model": "heed-tiny", "head": "linear", "train_layers": 0, "max_prompt_tokens": 32}
    agent = GRPO(env=new(0), group_size=2, n_steps=20, n_epochs=1, seed=0, policy_kwargs=policy)
    agent.learn(400)
    agent.save(tmp_path / "agent")
    agent.learn(80, reset_num_timesteps=False)
    resumed: Any = GRPO.load(tmp_path / "agent", env=new(5))
    resumed.learn(80, reset_num_timesteps=False)
    assert agent.get_env_state() == resumed.get_env_state()
    assert all(torch.equal(mine, weights(resumed)[name]) for name, mine in weights(agent).items())
    assert len(compared) > 30
    assert {level for levels in compared for level in levels} == {"easy", "hard"}
    assert all(len(levels) == 1 for levels in compared)
    assert resumed.env.lost_count > 50


def test_an_episode_that_cannot_be_brought_back_holds_up_no_group(tmp_path: Path) -> None:
    """Of it nobody knows the group any more; the step that tells of it was taken in no episode."""
    agent = GRPO(env=buttons(4, 2), group_size=2, n_steps=4, seed=0, policy_kwargs={"head": "linear"})
    agent.learn(16)
    lost: dict[str, Any] = {"episode_lost": "gone", "observation_unknown": True, "TimeLimit.truncated": True}
    prompts, actions = np.zeros((4, 256), dtype=np.int16), np.zeros((4, 1), dtype=int)
    done = np.array([True, False, False, False])
    agent.groups.add(prompts, actions, np.zeros(4), np.zeros(4), done, [lost, {}, {}, {}], [(0, 9), (1, 9)])
    assert agent.groups._running[0].rewards == []
