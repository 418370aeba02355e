"""Toy-text environments in words: nothing is lost, places are right, success is what it should be."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest

from heed.envs import check_env, make_env
from heed.envs.toy_text import offset
from heed.envs.verbalize import VerbalizedEnv

TAXI = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"
IDS = ["FrozenLake-v1", "FrozenLake8x8-v1", TAXI, "CliffWalking-v1"]


def speaking(env_id: str, **options: Any) -> VerbalizedEnv:
    env = make_env(env_id, **options)
    assert isinstance(env, VerbalizedEnv)
    return env


@pytest.mark.parametrize("env_id", IDS)
def test_the_contract_is_kept_and_no_two_states_have_the_same_words(env_id: str) -> None:
    assert [check.name for check in check_env(env_id) if not check.passed] == []
    env = speaking(env_id)
    n_states = env.unwrapped.observation_space.n  # type: ignore[attr-defined]
    words = {tuple(env._words(state).values()) for state in range(n_states)}
    assert len(words) == n_states


def test_places_are_told_from_where_the_agent_is() -> None:
    assert [offset(*place) for place in ((0, 0), (2, 0), (-1, 3), (0, -2))] == [
        "here",
        "2 down",
        "1 up 3 right",
        "2 left",
    ]
    lake = speaking("FrozenLake-v1")._words(1)
    assert lake["observation"] == "goal 3 down 2 right; ice left; hole down; ice right"
    cliff = speaking("CliffWalking-v1")
    assert cliff._words(36)["observation"] == "goal 11 right; cliff right"
    assert cliff._words(25)["observation"] == "goal 1 down 10 right; cliff down"
    taxi = speaking(TAXI)
    state = taxi.unwrapped.encode(3, 1, 0, 2)  # type: ignore[attr-defined] # the passenger is at red, and wants to yellow
    words = taxi._words(state)
    assert words["instruction"] == "take the passenger to the yellow stop"
    assert words["observation"] == "yellow stop 1 down 1 left; passenger at the red stop, 3 up 1 left; wall left"
    riding = taxi._words(taxi.unwrapped.encode(0, 0, 4, 1))  # type: ignore[attr-defined]
    assert riding["observation"] == "green stop 4 right; passenger in the taxi; wall left"


@pytest.mark.parametrize("env_id", IDS)
def test_actions_do_what_they_are_called(env_id: str) -> None:
    """By the environment's own table of transitions, wherever nothing is in the way."""
    env = speaking(env_id, **({"is_slippery": False} if "Frozen" in env_id else {}))
    model: Any = env.unwrapped.P  # type: ignore[attr-defined]
    steps = {"down": (1, 0), "up": (-1, 0), "right": (0, 1), "left": (0, -1)}
    columns = {"FrozenLake-v1": 4, "FrozenLake8x8-v1": 8, "CliffWalking-v1": 12, TAXI: 5}[env_id]
    moved = dict.fromkeys(steps, 0)
    for state, row in model.items():
        for action, text in enumerate(env.action_texts or ()):
            direction = text.split()[-1]
            following = row[action][0][1]
            if direction not in steps or text.startswith("pick") or following == state or row[action][0][2] <= -100:
                continue
            places = [s // 20 if env_id == TAXI else s for s in (state, following)]
            (r, c), (to_r, to_c) = (divmod(int(place), columns) for place in places)
            assert (to_r - r, to_c - c) == steps[direction]
            moved[direction] += 1
    assert all(moved.values())


def test_success_is_the_goal() -> None:
    cliff = make_env("CliffWalking-v1")
    cliff.reset(seed=0)
    for action in [0, *[1] * 11, 2]:
        _, reward, terminated, _, info = cliff.step(action)
    assert (terminated, info["is_success"], reward) == (True, True, -1.0)
    cliff.reset(seed=0)
    for _ in range(200):
        *_, terminated, truncated, info = cliff.step(3)
    assert (terminated, truncated, info["is_success"]) == (False, True, False)
    lake = make_env("FrozenLake-v1", is_slippery=False)
    lake.reset(seed=0)
    for action in (1, 2):
        _, _, terminated, _, info = lake.step(action)
    assert (terminated, info["is_success"]) == (True, False)
