"""Schedules give the numbers worked out by hand, and come back from a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
from stable_baselines3.common.logger import configure

from heed.agents import A2C, PPO, REINFORCE
from heed.agents.persistence.as_json import argument_from_json, argument_to_json
from heed.agents.schedules import SCHEDULES, CosineSchedule, Warmup
from tests.buttons import make_buttons


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.775, 0.55, 0.1]),
        ("cosine", [1.0, 0.55 + 0.45 * 0.5**0.5, 0.55, 0.1]),  # cos 45° is the root of a half
    ],
)
def test_a_schedule_is_worked_out_by_hand(name: str, numbers: list[float]) -> None:
    schedule = SCHEDULES[name](1.0, 0.1)
    again = argument_from_json(argument_to_json("learning_rate", schedule))
    for remaining, number in zip((1.0, 0.75, 0.5, 0.0), numbers, strict=True):
        assert schedule(remaining) == pytest.approx(number)
        assert again(remaining) == schedule(remaining)


def test_a_warm_up_rises_to_what_follows() -> None:
    schedule = Warmup(SCHEDULES["linear"](1.0, 0.2), fraction=0.2)
    again = argument_from_json(argument_to_json("learning_rate", schedule))
    # A fifth rises to 1; the other four fifths fall from 1 to 0.2.
    for remaining, number in [(1.0, 0.0), (0.9, 0.5), (0.8, 1.0), (0.6, 0.8), (0.4, 0.6), (0.0, 0.2)]:
        assert schedule(remaining) == pytest.approx(number)
        assert again(remaining) == schedule(remaining)
    with pytest.raises(ValueError, match=r"takes 1\.0 of the training"):
        Warmup(schedule, 1.0)


@pytest.mark.parametrize("kind", [PPO, A2C, REINFORCE])
def test_the_entropy_bonus_follows_its_schedule(kind: Any) -> None:
    sizes = {"batch_size": 32, "n_epochs": 1} if kind is PPO else {}
    agent = kind(env=make_buttons(8), n_steps=4, seed=0, ent_coef=CosineSchedule(1.0, 0.0), **sizes)
    agent.set_logger(configure(format_strings=[]))
    agent.learn(64)
    # The second of two rollouts ends where nothing remains.
    assert agent.logger.name_to_value["train/entropy_weight"] == pytest.approx(0.0)
    batch = next(iter(agent.rollout_buffer.get()))
    agent._current_progress_remaining = 0.5
    half, measures = agent._loss(batch)
    agent._current_progress_remaining = 0.0
    nothing, _ = agent._loss(batch)
    assert (half - nothing).item() == pytest.approx(0.5 * measures["entropy_loss"].item(), abs=1e-6)


@pytest.mark.parametrize("kind", [A2C, REINFORCE])
def test_a_target_kl_ends_the_updates_of_a_rollout(kind: Any) -> None:
    def updates(**options: Any) -> int:
        agent = kind(env=make_buttons(8), n_steps=16, seed=0, learning_rate=0.01, n_epochs=20, **options)
        agent.learn(128)
        return int(agent._n_updates)

    assert updates() == 20
    assert 1 < updates(target_kl=0.01) < 20
    with pytest.raises(ValueError, match="with n_epochs=1 there is only one"):
        kind(env=make_buttons(2), target_kl=0.01)
    with pytest.raises(ValueError, match="target_kl is 0, but must be positive"):
        kind(env=make_buttons(2), target_kl=0)
    with pytest.raises(ValueError, match="n_epochs is 0, but must be at least 1"):
        kind(env=make_buttons(2), n_epochs=0)
