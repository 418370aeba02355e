"""Axes of words that nothing of ours trains on, and of the order of two things."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from minigrid.utils.baby_ai_bot import BabyAIBot

from heed.envs.babyai.grammar import COLORS, KINDS, Action, parse, with_roles_swapped
from heed.envs.contract import expert_of
from heed.envs.make import make_env
from heed.envs.wording.words import replacer
from heed.evaluation.axes import AxisDoesNotApplyError, Translated, axis, examples, held_out_words
from heed.evaluation.axes.files import FOLDER
from tools import corpus

MIXED, RELATION, PUT = "BabyAI-MixedTrainLocal-v0", "BabyAI-GoToRelationLocal-v0", "BabyAI-PutNextLocal-v0"
WORDS = yaml.safe_load((FOLDER / "held_out_words.yaml").read_text("utf-8"))


@pytest.mark.parametrize(
    ("name", "section", "renamed"), [("new-nouns", "nouns", KINDS), ("invented-words", "invented", (*KINDS, *COLORS))]
)
@pytest.mark.parametrize("env_id", [MIXED, RELATION, "BabyAI-BossLevel-v0"])
def test_an_episode_has_one_name_for_each_word_in_all_that_is_read(
    name: str, section: str, renamed: tuple[str, ...], env_id: str
) -> None:
    seeds = range(12)
    used = set()
    for before, after in zip(
        examples(axis("true"), env_id, seeds=seeds), examples(axis(name), env_id, seeds=seeds), strict=True
    ):
        plain, changed = f"{before.instruction} | {before.observation}", f"{after.instruction} | {after.observation}"
        assert not re.search(rf"\b({'|'.join(renamed)})\b", changed)
        pairs = {
            (old, new)
            for old, new in zip(re.findall(r"\w+", plain), re.findall(r"\w+", changed), strict=True)
            if old != new and old not in ("a", "an")
        }
        names = dict(pairs)
        assert len(names) == len(pairs) == len({new for _, new in pairs})  # one to one
        assert set(names) <= set(renamed)
        assert set(names.values()) <= set(WORDS[section])
        assert replacer(names)(plain) == changed
        used |= set(names.values())
    assert len(used) > len(WORDS[section]) / 2  # names differ from episode to episode


def test_names_stay_the_same_within_an_episode_and_follow_from_its_seed() -> None:
    env, plain = axis("invented-words").make_env(MIXED), make_env(MIXED)
    for _ in range(2):
        words, _ = env.reset(seed=5)
        true, _ = plain.reset(seed=5)
        old, new = re.findall(r"\w+", true["instruction"]), re.findall(r"\w+", words["instruction"])
        names = dict(zip(old, new, strict=True))
        for action in (0, 0, 2, 1):
            words, true = env.step(action)[0], plain.step(action)[0]
            told = re.findall(r"\w+", true["observation"]), re.findall(r"\w+", words["observation"])
            for word, name in zip(*told, strict=True):
                assert names.setdefault(word, name) == name


def test_the_right_article_stands_before_a_new_name() -> None:
    said = {one.instruction for one in examples(axis("new-nouns"), "BabyAI-UnlockPickup-v0", seeds=range(40))}
    levels = {one.instruction for one in examples(axis("new-nouns"), "BabyAI-PickupDist-v0", seeds=range(40))}
    for words in (*said, *levels):
        for article, next_word in re.findall(r"\b(an?) (\w+)", words):
            assert article == ("an" if next_word[0] in "aeiou" else "a")


def test_held_out_words_are_in_nothing_that_trains_a_model() -> None:
    held_out = held_out_words()
    assert {word for part in WORDS.values() for word in part} < held_out
    assert all(re.fullmatch(r"[a-z]+", word) for word in held_out)
    assert all(len(set(part)) == len(part) for part in WORDS.values())
    scenes = corpus.collect_scenes(per_level=4, seed=0)
    documents = itertools.islice(corpus.documents(scenes, questions=4, generator=random.Random(0)), 300)
    read = {word for document in documents for word in words_of(document)}
    assert len(read) > 40
    for file in FOLDER.glob("*.yaml"):
        # French has words of its own that look like English ones: "violet".
        # French has words of its own that look like English ones: "violet".
        if file.stem not in ("held_out_words", "words", "french", "chinese"):
            read |= {word for text in texts_in(yaml.safe_load(file.read_text("utf-8"))) for word in words_of(text)}
    for level in (*corpus.LEVELS, MIXED, RELATION):
        env = make_env(level)
        for seed in range(8):
            words, _ = env.reset(seed=seed)
            read |= words_of(f"{words['instruction']} {words['observation']}")
    assert not held_out & read


def texts_in(data: Any) -> Iterator[str]:
    """All texts that a wording file says, without the fields that it fills in."""
    if isinstance(data, str):
        yield re.sub(r"\{\w+\}", "", data)
    elif isinstance(data, dict | list):
        for part in data.values() if isinstance(data, dict) else data:
            yield from texts_in(part)


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def test_roles_are_swapped_in_the_words() -> None:
    for words, swapped in (
        ("put the red ball next to a box", "put a box next to the red ball"),
        ("go to the red ball left of the blue box", "go to the blue box left of the red ball"),
        ("go to a ball in front of a key", "go to a key in front of a ball"),
        ("pick up the ball behind the box", "pick up the box behind the ball"),
    ):
        instruction = parse(words)
        assert isinstance(instruction, Action)
        assert str(instruction) == words
        assert str(with_roles_swapped(instruction)) == swapped
    for words in ("go to the ball behind you", "open the door", "go to the ball, then put the box next to the key"):
        assert with_roles_swapped(parse(words)) is None


@pytest.mark.parametrize("env_id", [PUT, RELATION])
def test_with_roles_swapped_another_thing_is_to_be_done(env_id: str) -> None:
    env = axis("swapped-roles").make_env(env_id)
    level: Any = env.unwrapped
    followed_true = followed_shown = 0
    for seed in range(24):
        words, info = env.reset(seed=seed)
        assert words["instruction"] == str(with_roles_swapped(parse(info["instruction"])))
        assert words["instruction"] in env.get_wrapper_attr("possible_instructions")()
        assert sorted(words["instruction"].split()) == sorted(info["instruction"].split())
        if seed % 2:
            advise = expert_of(env)
            assert advise is not None
        else:
            advise = expert_on_the_shown(level, words["instruction"])
        while True:
            *_, terminated, truncated, info = env.step(advise())
            if terminated or truncated:
                break
        followed_true += bool(seed % 2 and info["is_success"] and not info["shown_success"])
        followed_shown += bool(not seed % 2 and info["shown_success"] and not info["is_success"])
    # On its way to the one an expert may come past the other.
    assert followed_true >= 10
    assert followed_shown >= 10


def expert_on_the_shown(level: Any, instruction: str) -> Any:
    """BabyAI's bot, which is told the other instruction."""
    own = level.instrs
    if hasattr(own, "desc_move"):
        level.instrs = type(own)(own.desc_fixed, own.desc_move)
    else:
        (other,) = (one for one in own.desc.alike() if f"go to {one.surface(level)}" == instruction)
        level.instrs = type(own)(other)
    bot = BabyAIBot(level)
    level.instrs = own
    last: list[Any] = [None]

    def advise() -> int:
        last[0] = int(bot.replan(last[0]))
        return int(last[0])

    return advise


def test_a_language_without_relations_says_so(tmp_path: Path) -> None:
    data = yaml.safe_load((FOLDER / "french.yaml").read_text("utf-8"))
    del data["relations"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")

    class Mine(Translated):
        name = "mine"
        file = tmp_path / "mine.yaml"

    Mine().require(["go to the red ball"])
    with pytest.raises(AxisDoesNotApplyError, match="has no `relations`, which 'go to the ball behind the box' needs"):
        Mine().require(["go to the ball behind the box"])


def test_relations_in_french_and_chinese() -> None:
    words = "go to the blue key left of the grey box"
    for name, said in (
        ("french", "va jusqu'à la clé bleue à gauche de la boîte grise"),
        ("chinese", "走到灰色的盒子左边的蓝色的钥匙那里"),
    ):
        made: Any = axis(name)
        assert made.reword(words, None) == said
    french: Any = axis("french")
    assert french.reword("go to a key next to a box", None) == "va jusqu'à une clé à côté d'une boîte"
