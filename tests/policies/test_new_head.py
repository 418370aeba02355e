"""A head of one file, whose actions are rows: learned, saved, resumed; and the environment gets its part."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heed.agents import DQN, GRPO, PPO, load
from heed.agents.acting import sampled
from heed.envs import LanguageVecEnv
from heed.evaluation.playing import run_episodes
from heed.policies.decision import Evaluation
from tests import thinking
from tests.buttons import COLORS, Buttons, make_buttons

HEAD: dict[str, Any] = {"head": "thinking", "max_prompt_tokens": 32}
WORDS = {
    "instruction": [f"press the {color} button" for color in COLORS],
    "observation": ["three buttons"] * len(COLORS),
}
SETTINGS: dict[str, Any] = {"n_steps": 32, "batch_size": 128, "learning_rate": 3e-3, "seed": 0, "policy_kwargs": HEAD}


class Noting(Buttons):
    """Notes what actions come."""

    seen: list[Any] = []  # noqa: RUF012 - of all of them

    def step(self, action: Any) -> Any:
        self.seen.append(action)
        return super().step(action)


def test_ppo_learns_with_it_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    agent = PPO(env=make_buttons(16), reference_coef=0.001, **SETTINGS).learn(4096)
    assert agent.rollout_buffer.actions.shape[-1] == 2
    assert set(np.unique(agent.rollout_buffer.actions[..., 1])) <= set(range(thinking.THOUGHTS))
    probabilities = agent.action_probabilities(WORDS)
    assert probabilities.shape == (3, 3)
    assert (probabilities.diagonal() > 0.6).all(), probabilities
    actions, _ = agent.predict(WORDS, deterministic=True)
    assert actions.tolist() == [0, 1, 2]
    agent.save(tmp_path / "agent")
    loaded = load(tmp_path / "agent", make_buttons(16))
    np.testing.assert_allclose(loaded.action_probabilities(WORDS), probabilities, atol=1e-6)


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = PPO(env=make_buttons(4), **SETTINGS).learn(256)
    whole.save(tmp_path / "half")
    whole.learn(256, reset_num_timesteps=False)
    resumed = load(tmp_path / "half", make_buttons(4)).learn(256, reset_num_timesteps=False)
    for (name, one), other in zip(whole.policy.state_dict().items(), resumed.policy.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_the_environment_gets_its_part_of_the_row() -> None:
    Noting.seen.clear()
    PPO(env=LanguageVecEnv([Noting] * 2, seed=0), **{**SETTINGS, "n_steps": 4, "batch_size": 8}).learn(8)
    GRPO(
        env=LanguageVecEnv([Noting] * 4, seed=0, group_size=2), group_size=2, n_steps=8, policy_kwargs=HEAD, seed=0
    ).learn(16)
    assert {int(action) for action in Noting.seen} <= {0, 1, 2}
    assert len(Noting.seen) >= 24


def test_it_is_evaluated_like_any_other() -> None:
    agent = PPO(env=make_buttons(4), **SETTINGS)
    results = run_episodes(Buttons, sampled(agent), range(8))
    assert len(results) == 8


def test_divergence_is_exact_where_all_actions_are_known_and_estimated_where_not() -> None:
    generator = torch.Generator().manual_seed(0)
    log_p, log_q = (torch.log_softmax(torch.randn(5, generator=generator), dim=0) for _ in range(2))
    drawn = torch.multinomial(log_p.exp(), 200_000, replacement=True, generator=generator)
    mine, others = (Evaluation(log_probability=one[drawn], entropy=None) for one in (log_p, log_q))
    exact = float((log_p.exp() * (log_p - log_q)).sum())
    estimated = mine.kl(others)
    assert float(estimated.mean()) == pytest.approx(exact, abs=0.02)
    assert (estimated >= 0).all()


def test_dqn_says_that_it_has_no_values() -> None:
    with pytest.raises(ValueError, match="has no values of actions"):
        DQN(env=make_buttons(2), policy_kwargs=HEAD)
    with pytest.raises(ValueError, match="There is no head 'thinkin', only linear, score"):
        PPO(env=make_buttons(2), policy_kwargs={"head": "thinkin"})
