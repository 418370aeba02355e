"""Demonstrations in the replay buffer: transitions, margin loss and first phase, against hand-worked numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heed.agents import DQN
from heed.agents.replay.demonstrations import margin_loss
from heed.envs import LanguageVecEnv
from heed.envs.demonstrations.demonstrations import Demonstration
from tests.places import PLACES, STEP_COST, Places


def make_agent(**arguments: Any) -> DQN:
    options: dict[str, Any] = {"n_steps": 2, "gamma": 0.5, "buffer_size": 40, "batch_size": 8, "seed": 0}
    policy_kwargs = {"max_prompt_tokens": 64, **arguments.pop("policy_kwargs", {})}
    return DQN(env=LanguageVecEnv([Places] * 2, seed=0), policy_kwargs=policy_kwargs, **{**options, **arguments})


def demonstration(goal: str, **changes: Any) -> Demonstration:
    """From the middle to a place at once, or first to the left and then to the right."""
    short = {"left": (0,), "middle": (2,), "right": (0, 1, 1)}[goal]
    at, seen = 1, ["you are middle"]
    for action in short:
        at += (-1, 1, 0)[action]
        seen.append(f"you are {PLACES[at]}")
    whole: dict[str, Any] = {
        "seed": 0,
        "instruction": f"be {goal}",
        "observations": tuple(seen),
        "actions": short,
        "rewards": (*[STEP_COST] * (len(short) - 1), 1.0),
        "terminated": True,
        "success": True,
    }
    return Demonstration(**{**whole, **changes})


def test_demonstrations_become_transitions_that_stay(tmp_path: Path) -> None:
    agent = make_agent(learning_starts=1000)
    agent.add_demonstrations([demonstration("left"), demonstration("right")])
    buffer, encoder = agent.replay_buffer, agent.language_policy.encoder
    assert buffer.kept == buffer.size == 4
    words = {"instruction": ["be left", "be right"], "observation": ["you are middle"] * 2}
    np.testing.assert_array_equal(buffer.observations[:2], encoder(words))
    assert buffer.actions[:4].tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(buffer.rewards[:4], [1.0, STEP_COST * 1.5, STEP_COST + 0.5, 1.0])
    assert buffer.discounts[:4].tolist() == [0.0, 0.25, 0.0, 0.0]
    agent.learn(80)
    assert buffer.size == 40
    np.testing.assert_array_equal(buffer.observations[:2], encoder(words))
    agent.save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", env=LanguageVecEnv([Places] * 2, seed=0))
    assert loaded.replay_buffer.kept == 4
    with pytest.raises(ValueError, match="before the first step"):
        loaded.add_demonstrations([demonstration("left")])


def test_with_a_history_the_transcripts_are_what_is_read() -> None:
    agent = make_agent()
    agent.add_demonstrations([demonstration("right")], history=2)
    text = agent.language_policy.encoder.decode(agent.replay_buffer.observations[1])
    assert "you are middle" in text
    assert "> go left: you are left" in text


def test_the_margin_loss_is_the_hand_worked_one() -> None:
    agent = make_agent(margin_coef=1.0, margin=0.5)
    agent.add_demonstrations([demonstration("left"), demonstration("middle")])
    batch = agent.replay_buffer.at(np.array([0, 1, 1]), np.array([1.0, 1.0, 0.5], dtype=np.float32))
    # Demonstrated are actions 0 and 2. The first is better by 0.75, more than the margin; the second lacks 0.5 + 0.25.
    q_values = torch.tensor([[1.0, 0.25, 0.0], [0.25, 0.0, 0.0], [0.25, 0.0, 0.0]])
    assert float(margin_loss(q_values, batch, agent.margin)) == pytest.approx((0 + 0.75 + 0.5 * 0.75) / 3)
    batch = batch._replace(demonstrated=torch.tensor([[1.0], [0.0], [1.0]]))
    assert float(margin_loss(q_values, batch, agent.margin)) == pytest.approx(0.375 / 3)


def test_the_first_phase_learns_what_was_demonstrated_and_the_target_follows() -> None:
    agent = make_agent(
        margin_coef=1.0, margin=0.3, learning_rate=1e-3, target_update_interval=20, priority_exponent=0.5
    )
    agent.add_demonstrations([demonstration(goal) for goal in PLACES])
    agent.pretrain(120)
    assert agent._n_updates == 120
    assert agent.num_timesteps == 0
    # Told to be right, the expert did not always do the same in the middle: that is asked about on the left.
    seen = ["you are middle", "you are middle", "you are left"]
    words = {"instruction": [f"be {place}" for place in PLACES], "observation": seen}
    assert agent.predict(words, deterministic=True)[0].tolist() == [0, 2, 1]
    online, target = agent.q_net.state_dict(), agent.q_net_target.state_dict()
    assert all(torch.equal(online[name], target[name]) for name in online), "120 updates are twelve intervals of ten"
    agent.learn(20)


def test_demonstrations_that_do_not_fit_are_refused() -> None:
    agent = make_agent()
    with pytest.raises(ValueError, match="There are no demonstrations"):
        agent.add_demonstrations([])
    with pytest.raises(ValueError, match="no demonstrations to learn from"):
        agent.pretrain(1)
    with pytest.raises(ValueError, match="not in TextActions"):
        agent.add_demonstrations([demonstration("left", actions=(7,))])
    with pytest.raises(ValueError, match="not played by the expert"):
        agent.add_demonstrations([demonstration("left", labels=(1,))])
    with pytest.raises(ValueError, match="raise buffer_size"):
        make_agent(buffer_size=3).add_demonstrations([demonstration("right")])
    with pytest.raises(ValueError, match="must not be negative"):
        make_agent(margin_coef=-1.0)
