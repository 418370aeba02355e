"""Axes that replace single words: in the instruction alone, or in instruction, observation and actions alike."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
import yaml

from heed.envs.babyai.grammar import COLORS, KINDS
from heed.envs.wording.words import has_one, replaced, replacer
from heed.envs.wrappers.shown import RenamedWordsEverywhere
from heed.evaluation.axes.files import FOLDER
from heed.evaluation.axes.registry import Axis, AxisDoesNotApplyError, PlainLevel
from heed.evaluation.axes.wording import Rewording

Pairs = tuple[tuple[str, str], ...]
"""Words, each with the one that stands for it."""


@dataclass(frozen=True, kw_only=True)
class UnseenWords(Rewording):
    """Nouns or colors that no level uses, in the instruction only: "go to the crimson ball", "go to the red orb".

    An episode replaces its colors, its nouns, or both. The words are in `words.yaml`; they are English and mean about
    the same, so only what a language model knows of them from elsewhere can help it.
    """

    name: ClassVar[str] = "unseen-words"
    words: Literal["colors", "nouns", "either"] = "either"
    """Which words are replaced; `either` draws in each episode: colors, nouns or both."""

    def __post_init__(self) -> None:
        """Refuse what is no kind of word."""
        if self.words not in ("colors", "nouns", "either"):
            raise ValueError(f"words is {self.words!r}, but must be colors, nouns or either.")

    def require(self, instructions: Collection[str]) -> None:
        """Refuse a level that gives an instruction without any of the words."""
        words = [word for kind in self._kinds for word in _words()["unseen"][kind]]
        for instruction in instructions:
            if not has_one(instruction, words):
                raise AxisDoesNotApplyError(_none_of_them(self, words, instruction))

    def reword(self, instruction: str, generator: np.random.Generator) -> str:
        """Return the instruction with each of the words replaced by one of those that stand for it."""
        unseen = _words()["unseen"]
        return replaced(instruction, generator, {kind: unseen[kind] for kind in self._kinds})

    @property
    def _kinds(self) -> tuple[str, ...]:
        return ("colors", "nouns") if self.words == "either" else (self.words,)


@dataclass(frozen=True, kw_only=True)
class RenamedWords(Axis):
    """The same words renamed in all that the agent reads: "go to the tovy wug", "tovy wug 2 ahead".

    Who matches the words of the instruction with those of the observation need not mind; who has learned the words
    themselves by heart does. Where observations list the actions that there are, these are renamed too ("click wug");
    action texts that are always the same stay, since an agent has them from its training.
    """

    name: ClassVar[str] = "renamed-words"
    changes: ClassVar[tuple[str, ...]] = ("instruction", "observation", "actions")
    words: Pairs = ()
    """Words, each with its new name; without any, BabyAI's colors and nouns get the invented ones of `words.yaml`."""

    def __post_init__(self) -> None:
        """Refuse names that would make two things one."""
        parts: list[Any] = [part for pair in self.words for part in pair]
        if not all(isinstance(part, str) and part.strip() for part in parts):
            raise ValueError(f"words are such as {{ball: wug}}, words with their names, but not {self.words!r}.")
        names = dict(self.words)
        if len(names) < len(self.words) or len(set(names.values())) < len(self.words):
            raise ValueError("every word needs a name, and a name is of one word only.")
        for word, name in names.items():
            if name in (*COLORS, *KINDS) and name not in names:
                raise ValueError(f"{word!r} and {name!r} would both be called {name!r}: rename {name!r} as well.")

    def play(self, level: PlainLevel) -> gymnasium.Env[Any, Any]:
        """Return the level with its words renamed."""
        names = dict(self.words) or _words()["invented"]
        if not any(has_one(instruction, names) for instruction in level.instructions):
            raise AxisDoesNotApplyError(_none_of_them(self, names, level.instructions[0]))
        return RenamedWordsEverywhere(level.make(), replacer(names), purpose=self.name)


def _none_of_them(axis: Axis, words: Collection[str], instruction: str) -> str:
    return f"The axis {axis.name} replaces one of the words {', '.join(words)}: {instruction!r} has none of them."


@functools.lru_cache(maxsize=1)
def _words() -> dict[str, Any]:
    words: dict[str, Any] = yaml.safe_load((FOLDER / "words.yaml").read_text("utf-8"))
    return words
