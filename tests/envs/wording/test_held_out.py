"""What trains and what evaluates say nothing alike: of all that either can say, nothing is what the other can say."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from heed.envs import TwoParts
from heed.envs.babyai.grammar import COLORS, KINDS, PLACES, VERBS, Action, Instruction, Thing, Verb
from heed.envs.babyai.grammar import Sequence as TwoActions
from heed.envs.make import make_env
from heed.envs.wording.kinds import DATA, LANGUAGES, WORDINGS, data, renamed_words
from heed.envs.wording.pairs import is_kept_for_evaluations
from heed.envs.wording.typos import typos_of
from heed.envs.wording.words import VOCABULARY
from heed.evaluation.axes import axis
from heed.evaluation.axes.files import FOLDER
from heed.evaluation.axes.wording import Rewording, with_typo

TRAINING = ("paraphrase", "synonyms", "case", "politeness", "languages")
EVALUATION = ("paraphrase", "synonyms", "case-and-punctuation", "french", "chinese")
Say = Callable[[str, Any], str]


class EveryDraw:
    """Poses as a generator, and takes every way through the draws of a function, one after the other."""

    def __init__(self) -> None:
        self._path: list[int] = []
        self._sizes: list[int] = []
        self._place = 0

    def integers(self, size: int) -> int:
        if self._place == len(self._path):
            self._path.append(0)
            self._sizes.append(int(size))
        self._place += 1
        return self._path[self._place - 1]

    def random(self) -> float:
        return (0.0, 0.6, 0.99)[self.integers(3)]  # below and above every share that is asked for

    def all_of(self, say: Say, words: str) -> Iterator[str]:
        """Yield what a function says of some words in all of its draws."""
        self._path, self._sizes = [], []
        while True:
            self._place = 0
            yield say(words, self)
            while self._path and self._path[-1] + 1 == self._sizes[-1]:
                self._path.pop()
                self._sizes.pop()
            if not self._path:
                return
            self._path[-1] += 1


def things(places: Sequence[str | None] = (None, *PLACES)) -> list[Thing]:
    """Return everything that BabyAI's grammar can name."""
    parts = itertools.product(("a", "the"), (None, *COLORS), KINDS, places)
    return [Thing(article=a, color=color, kind=kind, place=place) for a, color, kind, place in parts]  # type: ignore[arg-type]


def instructions() -> list[str]:
    """Return BabyAI's instructions: all about one thing, and some of two things and of two parts."""
    verbs: list[Verb] = [verb for verb in VERBS if verb != "put"]
    found: list[Instruction] = [Action(verb=verb, thing=thing) for verb in verbs for thing in things()]
    named = things((None, PLACES[0]))
    puts = [Action(verb="put", thing=one, beside=other) for one, other in zip(named, named[7:], strict=False)]
    found += puts
    few = [*found[:: len(found) // 5], puts[3]]
    orders: tuple[Any, ...] = ("and", "then", "after")
    found += [TwoActions(order=order, first=one, second=few[1]) for order in orders for one in few if one is not few[1]]
    both = TwoActions(order="and", first=few[0], second=few[2])
    found += [TwoActions(order="then", first=both, second=few[3]), TwoActions(order="after", first=few[3], second=both)]
    return [str(instruction) for instruction in found]


def of_training(name: str) -> Say:
    """Return how a kind of wording says an instruction in training."""
    return lambda words, draws: WORDINGS[name].say(words, draws)


def of_evaluation(name: str) -> Say:
    """Return how an axis says it."""
    made = axis(name)
    assert isinstance(made, Rewording)
    return made.reword


def all_said(says: Sequence[Say], words: str) -> set[str]:
    """Return all that some of these can say of an instruction."""
    return {said for say in says for said in EveryDraw().all_of(say, words)}


def test_of_all_wordings_of_all_instructions_none_is_of_both_sides() -> None:
    plain = instructions()
    assert len(plain) > 1150
    trained = {said for words in plain for said in all_said([of_training(name) for name in TRAINING], words)}
    evaluated = {said for words in plain for said in all_said([of_evaluation(name) for name in EVALUATION], words)}
    assert min(len(trained), len(evaluated)) > 40_000
    # BabyAI's own sentences are nobody's wording: "go to a door after you ..." is also another way to say "..., then".
    both = (trained & evaluated) - set(plain)
    assert both == set()


def test_wordings_of_any_other_instruction_are_different_too() -> None:
    plain = ["press the red button", "explore", "Fetch me the Lamp!", "look", "写"]
    any_kind = ("paraphrase", "case", "politeness")
    for words in plain:
        trained = all_said([of_training(name) for name in any_kind], words)
        evaluated = all_said([of_evaluation(name) for name in ("paraphrase", "case-and-punctuation")], words)
        assert trained & evaluated == set()
        assert words not in trained


def test_no_typo_is_of_both_sides() -> None:
    words = {word for word in VOCABULARY if len(word) >= 3} | {"lamp", "button", "attic", "kettle", "violin", "Boots"}
    trained = {typo for word in words for kind in typos_of(word, VOCABULARY) for typo in kind}

    def mistype(word: str, draws: Any) -> str:
        return with_typo(word, draws, valid=VOCABULARY)

    evaluated = {typo for word in words for typo in EveryDraw().all_of(mistype, word)}
    assert min(len(trained), len(evaluated)) > 300
    assert trained & evaluated == set()
    assert not trained & VOCABULARY


def words_of(path: Path) -> set[str]:
    """Return the words that a file of words has for BabyAI's."""
    content = yaml.safe_load(path.read_text("utf-8"))
    invented = content["invented"]
    unseen = [word for words in content["unseen"].values() for others in words.values() for word in others]
    return {*unseen, *(invented.values() if isinstance(invented, dict) else invented)}


def test_no_noun_color_or_invented_word_is_of_both_sides() -> None:
    trained, evaluated = words_of(DATA / "words.yaml"), words_of(FOLDER / "words.yaml")
    parts = {part for word in trained for part in re.split(r"\W", word)}
    assert min(len(trained), len(evaluated)) > 40
    assert not parts & evaluated
    assert not trained & {*COLORS, *KINDS}
    assert len(data("words")["invented"]) > 2 * len(renamed_words())


def verbs_of(path: Path) -> set[str]:
    """Return what a file of synonyms says in place of BabyAI's verbs, without the things."""
    clauses = yaml.safe_load(path.read_text("utf-8"))["clauses"]
    return {re.sub(r"\{\w+\}", "", form).split()[0] for forms in clauses.values() for form in forms}


def test_no_verb_is_of_both_sides() -> None:
    trained, evaluated = verbs_of(DATA / "synonyms.yaml"), verbs_of(FOLDER / "synonyms.yaml")
    assert min(len(trained), len(evaluated)) > 15
    assert trained & evaluated == set()


def forms_in(content: Any) -> Iterator[str]:
    """Yield all texts of a file."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for part in content.values() if isinstance(content, dict) else content:
            yield from forms_in(part)


def test_no_line_of_a_file_is_of_both_sides() -> None:
    plain = {"go to {thing}", "pick up {thing}", "open {thing}", "put {thing} next to {beside}", ""}
    plain |= {"{first} and {second}", "{first}, then {second}", "{first} after you {second}"}  # BabyAI's own

    def lines_of(folder: Path) -> set[str]:
        contents = [yaml.safe_load(path.read_text("utf-8")) for path in folder.glob("*.yaml") if path.stem != "worlds"]
        for content in contents:
            if "thing" in content:  # of a language: articles are no entries, and how words stand in a row neither
                content["nouns"] = {kind: noun["word"] for kind, noun in content["nouns"].items()}
                del content["thing"]
                content.pop("contractions", None)
        return {line for content in contents for line in forms_in(content)} - plain

    trained, evaluated = lines_of(DATA), lines_of(FOLDER)
    assert min(len(trained), len(evaluated)) > 150
    assert trained & evaluated == set()
    assert not {f"{name}.yaml" for name in LANGUAGES} & {path.name for path in FOLDER.glob("*.yaml")}


def test_no_text_that_poses_as_an_instruction_is_of_both_sides() -> None:
    text: Any = axis("injected-text")
    attack = text.text.format(instruction="go to the ball")
    texts = data("injected")
    trained = [form.format(other="go to the ball", instruction="") for key in texts for form in texts[key]]
    assert len(trained) > 20
    assert all(attack not in one and one not in attack for one in trained)


@pytest.mark.parametrize("level", ["BabyAI-GoToLocal-v0", "BabyAI-PutNextLocal-v0"])
def test_no_two_parts_are_put_together_on_both_sides(level: str) -> None:
    env = TwoParts(make_env(level), share=1.0)
    plain, longer = make_env(level), axis("longer").make_env(level)
    trained, evaluated = set(), set()
    for seed in range(150):
        own, both = plain.reset(seed=seed)[0]["instruction"], env.reset(seed=seed)[0]["instruction"]
        if both != own:
            (other,) = set(re.split(", then | after you | and ", both)) - {own}
            trained.add(frozenset((own, other)))
            assert not is_kept_for_evaluations(own, other)
        _, info = longer.reset(seed=1000 + seed)
        if info["shown"] != info["instruction"]:
            first, second = info["shown"].split(", then ")
            evaluated.add(frozenset((first, second)))
    assert min(len(trained), len(evaluated)) > 60
    assert all(is_kept_for_evaluations(*sorted(pair)) for pair in evaluated)
    assert trained & evaluated == set()


def test_two_thirds_of_the_pairs_are_kept_whatever_order_or_article_they_have() -> None:
    names = [f"go to {thing}" for thing in things((None,))]
    kept = [is_kept_for_evaluations(one, other) for one, other in itertools.combinations(names, 2)]
    assert np.mean(kept) == pytest.approx(2 / 3, abs=0.05)
    for one, other in (("go to a red ball", "open the door"), ("pick up the key", "put a box next to the ball")):
        swapped = is_kept_for_evaluations(other, one)
        assert is_kept_for_evaluations(one, other) == swapped
        assert is_kept_for_evaluations(one.replace(" a ", " the "), other.replace(" the ", " a ")) == swapped
