"""An instruction that changes midway: which stands when, and what brings success then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heed.envs import ChangingInstruction, Instructions
from heed.envs.contract import (
    ContractError,
    ExpertError,
    expert_of,
    fulfilled_instructions_of,
)
from heed.envs.make import make_env
from heed.envs.vectorize import LanguageVecEnv
from heed.envs.wrappers import shown
from tests.buttons import Buttons
from tests.corridor import LEFT, RIGHT, Corridor, at

LEVEL = "BabyAI-GoToLocal-v0"


def corridor(**more: Any) -> ChangingInstruction:
    """Return the corridor with two tasks, one at each side."""
    tasks = Instructions(Corridor(), [at(1, "left", reward=0.25), at(3, "right", reward=0.75)])
    return ChangingInstruction(tasks, **more)


def seed_of(env: ChangingInstruction, true: str) -> int:
    return next(seed for seed in range(100) if env.reset(seed=seed)[1]["instruction"] == true)


def test_the_first_stands_for_as_many_steps_as_were_drawn() -> None:
    env = ChangingInstruction(make_env(LEVEL), at=(3, 6))
    changes = []
    for seed in range(40):
        observation, info = env.reset(seed=seed)
        told = [observation["instruction"]]
        over = False
        while not over and len(told) < 9:
            observation, _, terminated, truncated, _ = env.step(0)  # turning on the spot
            told.append(observation["instruction"])
            over = terminated or truncated
        if over or info["shown"] == info["instruction"]:
            continue
        change = told.index(info["instruction"])
        assert told == [info["shown"]] * change + [info["instruction"]] * (len(told) - change)
        changes.append(change)
    assert set(changes) == {3, 4, 5, 6}


def test_the_same_seed_and_actions_give_the_same_episode() -> None:
    def episodes() -> list[Any]:
        env, generator = ChangingInstruction(make_env(LEVEL)), np.random.default_rng(0)
        played: list[Any] = []
        for seed in range(9):
            played.append(env.reset(seed=seed))
            for action in generator.integers(3, size=9):
                played.append(env.step(int(action))[:4])
                if any(played[-1][2:]):
                    break
        return played

    assert episodes() == episodes()


def test_the_mechanism_is_that_of_the_axis() -> None:
    """Until somebody does the first or second, both show the same words of the same draws."""
    env = ChangingInstruction(make_env(LEVEL), at=(2, 5))
    axis = shown.ChangingInstruction(make_env(LEVEL), (), after=(2, 5), purpose="changing-instruction")
    for seed in range(15):
        assert env.reset(seed=seed) == axis.reset(seed=seed)
        for _ in range(8):
            ours, theirs = env.step(0), axis.step(0)
            assert ours[0] == theirs[0]
            if ours[2] or ours[3]:
                break
            assert ours[1:4] == theirs[1:4]


def test_doing_the_first_while_it_stands_is_success() -> None:
    env = corridor(at=(2, 2))
    _, info = env.reset(seed=seed_of(env, "be at right"))
    assert info["shown"] == "be at left"
    observation, *rest = env.step(LEFT)
    assert rest[:3] == [0.25, True, False]
    assert rest[3]["is_success"]
    assert (rest[3]["shown"], rest[3]["instruction"]) == ("be at left", "be at right")
    assert observation["instruction"] == "be at left"


def test_doing_the_second_before_it_was_given_is_cut_without_reward() -> None:
    env = corridor(at=(2, 2))
    env.reset(seed=seed_of(env, "be at right"))
    _, reward, terminated, truncated, info = env.step(RIGHT)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert (info["is_success"], info["shown_success"], info["done_before_given"]) == (False, False, True)


def test_after_the_change_the_second_counts_and_the_first_does_not() -> None:
    env = ChangingInstruction(Instructions(Corridor(), [at(0, "left"), at(3, "right", reward=0.75)]), at=(1, 1))
    env.reset(seed=seed_of(env, "be at right"))
    told = [env.step(LEFT)[0]["instruction"]]
    assert env.step(LEFT)[1:4] == (0.0, False, False)  # there, and too late
    steps = [env.step(RIGHT) for _ in range(3)]
    told += [step[0]["instruction"] for step in steps]
    assert set(told) == {"be at right"}
    assert [step[1:4] for step in steps] == [(0.0, False, False), (0.0, False, False), (0.75, True, False)]
    assert steps[-1][4]["is_success"]
    assert steps[-1][4]["shown_success"]  # of the first, at some time


def test_an_end_that_is_no_success_stays_what_it_is() -> None:
    class Lava(Corridor):
        def step(self, action: Any) -> Any:
            observation, *_ = super().step(action)
            return observation, -7.0, True, False, {"is_success": False}

    env = ChangingInstruction(Instructions(Lava(), [at(0, "left"), at(4, "right")]), at=(4, 4))
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(LEFT)
    assert (terminated, truncated, info["is_success"]) == (True, False, False)


def test_the_expert_is_silent_while_the_first_stands() -> None:
    env = ChangingInstruction(make_env(LEVEL), at=(2, 2))
    expert = expert_of(env)
    assert expert is not None
    seed = next(seed for seed in range(20) if len(set(env.reset(seed=seed)[1].values())) > 1)
    env.reset(seed=seed)
    for _ in range(2):
        with pytest.raises(ExpertError, match="first one still stands"):
            expert()
        assert not env.step(0)[2]
    assert expert() in range(7)


def test_hindsight_hears_what_the_wrapper_heard() -> None:
    env, plain = ChangingInstruction(make_env(LEVEL), at=(30, 30)), make_env(LEVEL)
    ours, theirs = fulfilled_instructions_of(env), fulfilled_instructions_of(plain)
    heard = 0
    for seed in range(10):
        env.reset(seed=seed)
        plain.reset(seed=seed)
        assert ours() == theirs()
        for action in np.random.default_rng(seed).choice(3, size=30, p=[0.2, 0.2, 0.6]):
            over = env.step(int(action))[2:4]
            plain.step(int(action))
            told = theirs()
            assert ours() == told
            heard += len(told)
            if any(over):
                break
    assert heard > 5


def test_a_vector_comes_back_to_where_it_was() -> None:
    def changing() -> ChangingInstruction:
        return ChangingInstruction(make_env(LEVEL), at=(2, 9))

    env, again = LanguageVecEnv([changing] * 3, seed=1), LanguageVecEnv([changing] * 3, seed=5)
    actions = np.random.default_rng(0).choice(3, size=(60, 3), p=[0.2, 0.2, 0.6])
    env.reset()
    for row in actions[:45]:
        env.step(row)
    again.set_state(env.get_state())
    for row in actions[45:]:
        ours, theirs = env.step(row), again.step(row)
        assert ours[1].tolist() == theirs[1].tolist()
        assert list(ours[0]["instruction"]) == list(theirs[0]["instruction"])  # type: ignore[call-overload]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ContractError, match="give it the methods `possible_instructions"):
        ChangingInstruction(Buttons())
    for steps in ((0, 3), (5, 4), (3,)):
        with pytest.raises(ValueError, match="must be two numbers of steps from 1 on"):
            ChangingInstruction(make_env(LEVEL), at=steps)
