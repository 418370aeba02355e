"""Toy-text environments in words: nothing is lost, places are right, success is what it should be."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest
from gymnasium.envs.toy_text.frozen_lake import MAPS, generate_random_map

from heed.envs import check_env, make_env
from heed.envs.classic.toy_text import MOST_HOLES, FrozenLakeVerbalizer, offset
from heed.envs.words.verbalize import VerbalizedEnv

TAXI = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"
IDS = ["FrozenLake-v1", "FrozenLake8x8-v1", TAXI, "CliffWalking-v1"]
RANDOM_LAKES = [generate_random_map(size=size, seed=seed) for size in (4, 8, 12) for seed in (0, 1)]


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


# -- FrozenLake on other maps ------------------------------------------------------------------------------------------


def read_lake(words: str) -> tuple[dict[tuple[int, int], str], set[str]]:
    """Read what lies where, (rows down, columns right) of the agent, from the words; and the sides with a cell."""
    seen: dict[tuple[int, int], str] = {}
    sides = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
    beside = set()

    def place(words: str) -> tuple[int, int]:
        parts = [] if words == "here" else words.split()
        steps = {parts[i + 1]: int(parts[i]) for i in range(0, len(parts), 2)}
        return steps.get("down", 0) - steps.get("up", 0), steps.get("right", 0) - steps.get("left", 0)

    for phrase in words.split("; "):
        kind, _, where = phrase.partition(" ")
        if where in sides:
            seen[sides[where]] = kind
            beside.add(where)
        else:
            for entry in where.split(", "):
                seen[place(entry)] = kind.removesuffix("s")
    return seen, beside


@pytest.mark.parametrize("rows", RANDOM_LAKES, ids="-".join)
def test_the_words_of_a_map_of_ones_own_hold_the_whole_map(rows: list[str]) -> None:
    env = speaking("FrozenLake-v1", desc=rows)
    size = len(rows)
    cells = [(r, c) for r in range(size) for c in range(size)]
    words = {}
    for r, c in cells:
        words[r, c] = env._words(size * r + c)["observation"]
        seen, beside = read_lake(words[r, c])
        told = {(r + down, c + right): kind for (down, right), kind in seen.items()}
        for cell in cells:
            letter = rows[cell[0]][cell[1]]
            if cell == (r, c) and letter != "G":
                continue
            assert told.get(cell, "ice") == {"H": "hole", "G": "goal"}.get(letter, "ice")
        assert beside == {
            name
            for name, inside in (("left", c > 0), ("up", r > 0), ("right", c < size - 1), ("down", r < size - 1))
            if inside
        }
    assert len(set(words.values())) == len(cells)


@pytest.mark.parametrize("name", MAPS)
def test_only_gymnasiums_own_maps_do_without_the_list_of_holes(name: str) -> None:
    assert "holes" not in speaking("FrozenLake-v1", map_name=name)._words(0)["observation"]
    other = [*MAPS[name][:-1], MAPS[name][-1][:-2] + "HG"]
    told = speaking("FrozenLake-v1", desc=other)._words(0)["observation"]
    assert told.startswith(f"goal {len(other) - 1} down {len(other) - 1} right; ice down; ice right; holes ")


def test_maps_may_have_several_goals_and_many_holes_but_not_none() -> None:
    two = speaking("FrozenLake-v1", desc=["SG", "FG"])._words(0)["observation"]
    assert two == "goal 1 right; goal 1 down 1 right; ice down; goal right"
    one_hole = speaking("FrozenLake-v1", desc=["SFF", "FFH", "FFG"])._words(0)["observation"]
    assert one_hole == "goal 2 down 2 right; ice down; ice right; hole 1 down 2 right"
    many = speaking("FrozenLake-v1", desc=["S" + "F" * 9, *["F" + "H" * 9] * 8, "F" * 9 + "G"])
    told = many._words(0)["observation"].partition("holes ")[2].split(", ")
    assert len(told) == MOST_HOLES
    assert told[0] == "1 down 1 right"
    with pytest.raises(ValueError, match="has no goal"):
        FrozenLakeVerbalizer(gymnasium.make("FrozenLake-v1", desc=["SF", "FF"]))


# -- Taxi and Blackjack ------------------------------------------------------------------------------------------------


def test_taxis_instruction_names_the_destination_of_the_episode() -> None:
    env = speaking(TAXI)
    told = {env.reset(seed=seed)[0]["instruction"] for seed in range(40)}
    assert told == {f"take the passenger to the {colour} stop" for colour in ("red", "green", "yellow", "blue")}
    for seed in range(40):
        words, _ = env.reset(seed=seed)
        plain: Any = env.unwrapped
        *_, destination = plain.decode(plain.s)
        assert words["instruction"].split()[-2] == ["red", "green", "yellow", "blue"][destination]


def test_blackjack_tells_every_hand_from_every_other() -> None:
    assert [check.name for check in check_env("Blackjack-v1") if not check.passed] == []
    env = speaking("Blackjack-v1")
    hands = [(total, dealer, ace) for total in range(32) for dealer in range(11) for ace in (0, 1)]
    assert len({env._words(hand)["observation"] for hand in hands}) == len(hands)
    assert env._words((15, 10, 1)) == {
        "instruction": "beat the dealer: come closer to 21, and not beyond",
        "observation": "you have 15, an ace counts as 11; the dealer shows 10",
    }
    assert env._words((25, 1, 0))["observation"] == "you have 25, too much; the dealer shows an ace"


def test_blackjack_is_a_success_where_it_is_won() -> None:
    """Whoever takes cards for ever goes beyond 21; whoever sticks wins, loses or draws, as the reward says."""
    env = speaking("Blackjack-v1")
    assert env.action_texts == ("stick", "take a card")
    outcomes = set()
    for seed in range(60):
        env.reset(seed=seed)
        _, reward, terminated, _, info = env.step(0)
        assert terminated
        assert info["is_success"] is (reward > 0)
        outcomes.add(reward)
    assert outcomes == {-1.0, 0.0, 1.0}
    for seed in range(5):
        terminated = False
        env.reset(seed=seed)
        while not terminated:
            words, reward, terminated, _, info = env.step(1)
        assert (reward, info["is_success"]) == (-1.0, False)
        assert "too much" in words["observation"]
