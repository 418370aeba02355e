"""Phrases held out at training: no instruction names them, all else is as it was, and an evaluation asks for them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from heed.envs.contract import fulfilled_instructions_of
from heed.envs.hold_out import HoldOutError, OnlyWithPhrases, WithoutPhrases, names_one_of
from heed.envs.make import make, make_env
from heed.evaluation.axes import AxisDoesNotApplyError, axis

GO, PICK, RED = "BabyAI-GoToLocal-v0", "BabyAI-PickupLoc-v0", "BabyAI-GoToRedBallNoDists-v0"
HELD_OUT = ("purple key", "yellow ball", "red box", "blue ball", "grey key")


@pytest.mark.parametrize(
    ("phrase", "instruction", "named"),
    [
        ("purple key", "go to a purple key", True),
        ("Purple Key", "pick up the purple key on your left", True),
        ("purple key", "go to the purple keyhole", False),
        ("key", "go to the monkey", False),
        ("red ball", "put the red ball next to the box", True),
        ("red ball", "go to the red box, then to the blue ball", False),
        ("紫色的钥匙", "走到紫色的钥匙那里", True),
        ("c++", "use c++ now", True),
    ],
)
def test_a_phrase_is_named_as_whole_words(phrase: str, instruction: str, named: bool) -> None:
    assert names_one_of(["no such", phrase], instruction) == named


def test_held_out_phrases_are_named_by_no_instruction_and_all_other_episodes_stay() -> None:
    plain, without = make_env(GO), make_env(GO, hold_out=HELD_OUT)
    redrawn = 0
    for seed in range(100):
        before, after = plain.reset(seed=seed)[0], without.reset(seed=seed)[0]
        assert not names_one_of(HELD_OUT, after["instruction"])
        if names_one_of(HELD_OUT, before["instruction"]):
            redrawn += 1
            assert before["observation"] != after["observation"]
            assert without.reset(seed=seed)[0] == after
        else:
            assert before == after
    assert redrawn > 15  # 5 of 18


def test_seeds_side_by_side_are_redrawn_to_different_episodes() -> None:
    env = make_env(GO, hold_out=HELD_OUT)
    beginnings = Counter(tuple(env.reset(seed=seed)[0].values()) for seed in range(300))
    assert len(beginnings) > 290


def test_observations_still_show_what_is_held_out() -> None:
    env = make_env(GO, hold_out=HELD_OUT)
    assert any("purple key" in env.reset(seed=seed)[0]["observation"] for seed in range(30))


def test_without_a_seed_episodes_follow_from_the_last_one() -> None:
    def told() -> list[str]:
        env = make_env(GO, hold_out=HELD_OUT)
        env.reset(seed=3)
        return [env.reset()[0]["instruction"] for _ in range(30)]

    assert told() == told()
    assert not any(names_one_of(HELD_OUT, words) for words in told())


def test_hindsight_hears_of_no_held_out_phrase() -> None:
    def told(env: Any) -> list[str]:
        fulfilled, found = fulfilled_instructions_of(env), []
        for seed in range(25):
            env.reset(seed=seed)
            fulfilled()
            actions, done = np.random.default_rng(seed), False
            while not done:
                _, _, terminated, truncated, _ = env.step(int(actions.choice(3, p=[0.2, 0.2, 0.6])))
                found += list(fulfilled())
                done = terminated or truncated
        return found

    every, without = told(make_env(GO)), told(make_env(GO, hold_out=HELD_OUT))
    assert any(names_one_of(HELD_OUT, words) for words in every)
    assert not any(names_one_of(HELD_OUT, words) for words in without)
    assert len(without) > 10


def test_a_training_environment_comes_back_to_where_it_was() -> None:
    env: Any = make(GO, n_envs=4, seed=1, hold_out=HELD_OUT, history=2)
    actions = np.random.default_rng(0).integers(7, size=(140, 4))
    env.reset()
    for row in actions[:120]:
        words = env.step(row)[0]
        assert not any(names_one_of(HELD_OUT, instruction) for instruction in words["instruction"])
    again: Any = make(GO, n_envs=4, seed=9, hold_out=HELD_OUT, history=2)
    restored = again.set_state(env.get_state())
    assert list(restored["observation"]) == list(words["observation"])
    for row in actions[120:]:
        ours, theirs = env.step(row)[0], again.step(row)[0]
        assert [list(ours[key]) for key in ours] == [list(theirs[key]) for key in theirs]


def test_in_a_mixture_each_level_is_drawn_as_often_as_ever() -> None:
    plain, without = make_env(f"{GO}+{PICK}"), make_env(f"{GO}+{PICK}", hold_out=HELD_OUT)
    for seed in range(60):
        words, info = without.reset(seed=seed)
        assert info["level"] == plain.reset(seed=seed)[1]["level"]
        assert not names_one_of(HELD_OUT, words["instruction"])


@pytest.mark.parametrize(
    ("env_id", "phrases", "message"),
    [
        (
            GO,
            ["purpel key"],
            f"none of the first 1024 instructions of {GO} names 'purpel key'. Is it written as in 'go",
        ),
        (RED, ["red ball"], f"Without red ball nothing is left of {RED}: .* such as 'go to the red ball'"),
        (f"{GO}+{RED}", ["blue key", "red ball"], f"Without blue key, red ball nothing is left of {RED}"),
        (GO, [" "], "A phrase to hold out is some words such as 'purple key', not ' '"),
        (GO, "purple key", r"are a list such as \['purple key'\], not the text 'purple key'"),
    ],
)
def test_what_cannot_be_held_out_is_told(env_id: str, phrases: Any, message: str) -> None:
    with pytest.raises(HoldOutError, match=message):
        make_env(env_id, hold_out=phrases)


def test_drawing_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heed.envs.hold_out.MOST_DRAWS", 20)
    for env, message in (
        (
            WithoutPhrases(make_env(RED), ["red ball"]),
            "was to name none of red ball: none of 20 .* 'go to the red ball'",
        ),
        (OnlyWithPhrases(make_env(RED), ["blue key"]), "was to name one of blue key: none of 20 instructions did"),
    ):
        with pytest.raises(HoldOutError, match=message):
            env.reset(seed=0)


def test_the_axis_asks_for_what_was_held_out_and_nothing_else() -> None:
    env = axis("unseen-combinations", phrases=HELD_OUT).make_env(GO)
    plain, kept = make_env(GO), 0
    named = set()
    for seed in range(60):
        words, info = env.reset(seed=seed)
        assert words["instruction"] == info["instruction"] == info["shown"]
        named |= {phrase for phrase in HELD_OUT if names_one_of([phrase], words["instruction"])}
        assert names_one_of(HELD_OUT, words["instruction"])
        kept += plain.reset(seed=seed)[0] == words
    assert named == set(HELD_OUT)
    assert kept > 5  # those that name one already


def test_the_axis_does_not_apply_where_no_instruction_names_one() -> None:
    with pytest.raises(AxisDoesNotApplyError, match=f"No instruction of {RED} names one of purple key, blue key"):
        axis("unseen-combinations", phrases=["purple key", "blue key"]).make_env(RED)


def test_of_a_mixture_the_axis_plays_the_levels_that_name_one() -> None:
    env = axis("unseen-combinations", phrases=["purple key"]).make_env(f"{GO}+{RED}")
    for seed in range(8):
        words, info = env.reset(seed=seed)
        assert names_one_of(["purple key"], words["instruction"])
        assert info["level"] == GO
