"""The worlds in examples/worlds: they keep the contract, only words tell what to do, and their names are held out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import yaml

from examples.worlds import moving, naming, shelf
from heed.envs import check_env, make_env
from heed.envs.contract import sample_action
from heed.evaluation.axes import held_out_words
from heed.evaluation.axes.files import FOLDER

FILES = {name: f"./examples/worlds/{name}.py" for name in ("naming", "moving", "shelf")}
CHANCE = {"naming": 0.25, "moving": 0.10, "shelf": 0.20}
LISTS = (naming.COLORS, naming.NOUNS, moving.ROOMS, moving.THINGS, shelf.COLORS, shelf.NOUNS)
NAMES = {words: [name for names in LISTS for name in names[words]] for words in ("training", "evaluation")}


def answer_naming(told: dict[str, Any]) -> str:
    name = told["instruction"].removeprefix("take the ")
    (slot,) = re.findall(rf"slot (\d): {name}(?:;|$)", told["observation"])
    return f"take what is in slot {slot}"


def answer_shelf(told: dict[str, Any]) -> str:
    row = re.findall(r"place \d: (\w+ \w+)", told["observation"])
    match = re.fullmatch(r"take (what is|the \w+) (left|right) of the (.+)", told["instruction"])
    assert match
    kind, side, other = match[1].removeprefix("the "), match[2], match[3]
    step = -1 if side == "left" else 1
    found = [
        place
        for place, name in enumerate(row)
        if 0 <= place - step < len(row)
        and (kind == "what is" or name.split()[1] == kind)
        and other in (row[place - step], row[place - step].split()[1])
    ]
    (place,) = found
    return f"take what is in place {place + 1}"


def answer_moving(told: dict[str, Any]) -> str:
    thing, goal = re.fullmatch(r"bring the (\w+) to the (\w+)", told["instruction"]).groups()  # type: ignore[union-attr]
    here = re.match(r"you are in the (\w+)", told["observation"])[1]  # type: ignore[index]
    places = dict(re.findall(r"; (\w+) in (?:the|your) (\w+)", told["observation"]))
    wanted = goal if places[thing] == "hands" else places[thing]
    if here != wanted:
        return f"go to the {wanted}"
    return f"put down the {thing}" if places[thing] == "hands" else f"take the {thing}"


ANSWERS = {"naming": answer_naming, "moving": answer_moving, "shelf": answer_shelf}


@pytest.mark.parametrize("world", FILES)
def test_worlds_keep_every_rule(world: str) -> None:
    checks = check_env(FILES[world])
    assert [check.detail for check in checks if not check.passed] == []


@pytest.mark.parametrize("words", ["training", "evaluation"])
@pytest.mark.parametrize("world", FILES)
def test_the_words_tell_what_to_do_and_guessing_seldom_succeeds(world: str, words: str) -> None:
    env, generator = make_env(FILES[world], words=words), np.random.default_rng(0)
    texts = getattr(env.unwrapped, "action_texts", None)
    lucky, episodes = 0, 400
    for seed in range(episodes):
        told, _ = env.reset(seed=seed)
        over = False
        while not over:
            listed = texts or told["actions"]
            action = listed.index(ANSWERS[world](told))
            told, reward, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        assert (reward, truncated, info["is_success"]) == (1.0, False, True)
        told, _ = env.reset(seed=seed)
        over = False
        while not over:
            told, _, terminated, truncated, info = env.step(sample_action(env.action_space, told, generator))
            over = terminated or truncated
        lucky += info["is_success"]
    assert lucky / episodes == pytest.approx(CHANCE[world], abs=0.05)


def test_words_of_evaluation_are_not_those_of_training() -> None:
    training, evaluation = set(NAMES["training"]), set(NAMES["evaluation"])
    assert not training & evaluation
    for world, file in FILES.items():
        read: dict[str, set[str]] = {}
        for words in ("training", "evaluation"):
            env = make_env(file, words=words)
            texts = [" ".join(map(str, env.reset(seed=seed)[0].values())) for seed in range(40)]
            read[words] = set(re.findall("[a-z]+", " ".join(texts)))
        assert not read["training"] & evaluation, world
        assert not read["evaluation"] & training, world


def test_all_their_names_are_held_out_of_what_trains_our_models() -> None:
    listed = yaml.safe_load((FOLDER / "held_out_words.yaml").read_text("utf-8"))["examples"]
    assert listed == sorted({*NAMES["training"], *NAMES["evaluation"]})
    assert len((*naming.COLORS["training"], *naming.NOUNS["training"])) == 24
    assert set(listed) <= held_out_words()


def test_an_action_that_is_not_listed_is_refused() -> None:
    env = moving.Moving()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="There is no action 6 now"):
        env.step(6)
