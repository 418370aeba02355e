"""Limits: when they cut, what they tell, and that they only truncate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest

from heed.envs import EpisodeTimeLimit, StepLimit
from heed.envs.checks import check_env
from heed.envs.make import make, make_env
from tests.corridor import LEFT, RIGHT, Corridor


def play(env: gymnasium.Env[Any, Any], actions: list[int]) -> list[tuple[bool, bool, dict[str, Any]]]:
    env.reset(seed=0)
    return [env.step(action)[2:5] for action in actions]


def test_an_episode_is_cut_at_its_last_allowed_step_and_has_not_succeeded() -> None:
    env = StepLimit(Corridor(), 3)
    for _ in range(2):  # it counts anew
        *before, last = play(env, [LEFT, LEFT, LEFT])
        assert before == [(False, False, {}), (False, False, {})]
        assert last == (False, True, {"is_success": False, "step_limit": 3})


def test_who_arrives_with_the_last_step_has_arrived() -> None:
    assert play(StepLimit(Corridor(), 2), [RIGHT, RIGHT])[-1] == (True, False, {"is_success": True})


def test_a_limit_that_gymnasium_would_set_says_both() -> None:
    """What this one is for: the last step would be terminated and truncated."""
    theirs = play(gymnasium.wrappers.TimeLimit(Corridor(), 2), [RIGHT, RIGHT])[-1]
    assert theirs[:2] == (True, True)


def test_what_the_environment_says_of_success_stays() -> None:
    class Telling(Corridor):
        def step(self, action: Any) -> Any:
            *result, _ = super().step(action)
            return *result, {"is_success": self.place == 3}

    assert play(StepLimit(Telling(), 1), [RIGHT])[-1] == (False, True, {"is_success": True, "step_limit": 1})


def test_a_verbalizer_judges_an_episode_that_was_cut() -> None:
    """CartPole succeeds by its return: 500 of 500 steps, which no shorter episode has."""
    env = make_env("CartPole-v1", max_steps=5)
    *_, (terminated, truncated, info) = play(env, [0, 1, 0, 1, 0])
    assert (terminated, truncated, info["is_success"], info["step_limit"]) == (False, True, False, 5)


def test_each_level_of_a_mixture_has_the_limit() -> None:
    env = make_env("BabyAI-GoToLocal-v0+BabyAI-PickupLoc-v0", max_steps=4, history=2)
    for seed in range(6):
        env.reset(seed=seed)
        infos = [env.step(0)[3:5] for _ in range(4)]
        assert infos[-1] == (True, {"is_success": False, "step_limit": 4, "level": env.unwrapped.level})  # type: ignore[attr-defined]


def test_a_vector_begins_the_next_episode_and_bootstraps() -> None:
    venv: Any = make("BabyAI-GoToLocal-v0", n_envs=2, seed=0, max_steps=3)
    venv.reset()
    for step in range(1, 7):
        _, _, dones, infos = venv.step([0, 0])
        assert dones.all() == (step % 3 == 0)
        assert infos[0]["TimeLimit.truncated"] == (step % 3 == 0)


def clock(*times: float) -> Iterator[float]:
    yield from times


def test_time_is_measured_from_the_reset_on() -> None:
    times = clock(100.0, 100.4, 101.0, 101.1, 500.0, 500.9, 502.5)
    env = EpisodeTimeLimit(Corridor(), 1.0, clock=lambda: next(times))
    first = play(env, [LEFT, LEFT, LEFT])  # 0.4, 1.0 and 1.1 seconds
    assert [(over, cut) for over, cut, _ in first] == [(False, False), (False, False), (False, True)]
    assert first[-1][2] == {"is_success": False, "time_limit": pytest.approx(1.1)}
    assert play(env, [LEFT, RIGHT])[-1][2]["time_limit"] == pytest.approx(2.5)


def test_time_that_is_up_takes_nothing_from_who_has_arrived() -> None:
    times = clock(0.0, 0.1, 9.0)
    assert play(EpisodeTimeLimit(Corridor(), 1.0, clock=lambda: next(times)), [RIGHT, RIGHT])[-1][:2] == (True, False)


def test_limits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 step, but is 0"):
        make_env("BabyAI-GoToLocal-v0", max_steps=0)
    with pytest.raises(ValueError, match=r"more than 0 seconds, but is -1\.5"):
        EpisodeTimeLimit(Corridor(), -1.5)


def test_the_checker_passes_a_limited_environment() -> None:
    checks = check_env(lambda: StepLimit(Corridor(), 30), episodes=3)
    assert [check for check in checks if not check.passed and "instruction" not in check.name] == []
