"""Axes that say the true instruction in other words; the world stays as it is."""

from __future__ import annotations

import functools
import re
from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import yaml

from heed.envs.babyai.grammar import is_of_the_grammar, parse
from heed.envs.wording.language import Language
from heed.envs.wording.typos import with_typos
from heed.envs.wording.words import SHORTEST_WITH_TYPO, VOCABULARY, drawn, long_words
from heed.envs.wrappers.shown import Reworded
from heed.evaluation.axes.files import FOLDER
from heed.evaluation.axes.registry import Axis, AxisDoesNotApplyError, PlainLevel

_language = functools.lru_cache(maxsize=16)(Language)


@dataclass(frozen=True, kw_only=True)
class Rewording(Axis):
    """Says the instruction in other words.

    `reword` is all that an axis of this kind has to write; `require` refuses levels where it has no meaning.
    """

    @abstractmethod
    def reword(self, instruction: str, generator: np.random.Generator) -> str:
        """Return the instruction in other words.

        Args:
            instruction: as the environment gives it.
            generator: of what is drawn; an episode's seed gives the same draws whatever else is played.
        """

    def require(self, instructions: Collection[str]) -> None:
        """Refuse a level that gives instructions such as these.

        Raises:
            AxisDoesNotApplyError: if the axis has no meaning there.
        """

    def play(self, level: PlainLevel) -> gymnasium.Env[Any, Any]:
        """Return the level with its instructions in other words."""
        self.require(level.instructions)
        return Reworded(level.make(), self.reword, purpose=self.name)


def require_grammar(axis: Axis, instructions: Collection[str]) -> None:
    """Refuse instructions that are not of BabyAI's grammar, which the axis reads.

    Raises:
        AxisDoesNotApplyError: if there is such a one.
    """
    for instruction in instructions:
        if not is_of_the_grammar(instruction):
            raise AxisDoesNotApplyError(
                f"The axis {axis.name} reads instructions of BabyAI's grammar, which {instruction!r} is not."
            )


@dataclass(frozen=True, kw_only=True)
class Translated(Rewording):
    """Says the instruction as a file of `heed.envs.wording.language` says it, a language or other English words.

    An axis for a language of one's own is a subclass with its name and its file.
    """

    file: ClassVar[Path]

    def reword(self, instruction: str, generator: np.random.Generator) -> str:
        """Return the instruction as the file says it; one that is not of BabyAI's grammar stays as it is."""
        if not is_of_the_grammar(instruction):
            return instruction
        return _language(self.file).say(parse(instruction), generator)

    def require(self, instructions: Collection[str]) -> None:
        """Refuse what is not of BabyAI's grammar, or not in the file."""
        require_grammar(self, instructions)
        for instruction in instructions:
            if not _language(self.file).can_say(parse(instruction)):
                raise AxisDoesNotApplyError(f"{self.file} has no `relations`, which {instruction!r} needs.")


@dataclass(frozen=True, kw_only=True)
class Synonyms(Translated):
    """Other verbs: "walk to" for "go to", "fetch" for "pick up"."""

    name: ClassVar[str] = "synonyms"
    file: ClassVar[Path] = FOLDER / "synonyms.yaml"


@dataclass(frozen=True, kw_only=True)
class Paraphrase(Rewording):
    """Another word order, politeness, or fillers: "pick the red ball up", "could you go to the red ball?".

    What is not of BabyAI's grammar gets politeness and fillers only.
    """

    name: ClassVar[str] = "paraphrase"

    def reword(self, instruction: str, generator: np.random.Generator) -> str:
        """Draw one of the two ways, and then a form of it."""
        if generator.random() < 0.5 and is_of_the_grammar(instruction):
            return _language(FOLDER / "paraphrases.yaml").say(parse(instruction), generator)
        return drawn(_fillers(), generator).format(instruction=instruction)


@dataclass(frozen=True, kw_only=True)
class Typos(Rewording):
    """Letters of some words swapped, dropped or doubled: "go to teh rred ball".

    No word becomes another one that the level's instructions or BabyAI's grammar use.
    """

    name: ClassVar[str] = "typos"
    share: float = 0.4
    """Of the words of three letters and more, how many get a typo on average; at least one does."""

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}, but must be between 0 and 1.")

    def require(self, instructions: Collection[str]) -> None:
        """Refuse instructions of short words only."""
        for instruction in instructions:
            if not long_words(instruction):
                raise AxisDoesNotApplyError(
                    f"The axis {self.name} needs a word of {SHORTEST_WITH_TYPO} letters, and {instruction!r} has none."
                )

    def play(self, level: PlainLevel) -> gymnasium.Env[Any, Any]:
        """Return the level with typos; its own words are those that no other becomes."""
        self.require(level.instructions)
        valid = VOCABULARY | {word for text in level.instructions for word in re.findall(r"\w+", text.lower())}
        reword = functools.partial(self._mistype, valid=valid)
        return Reworded(level.make(), reword, purpose=self.name)

    def reword(self, instruction: str, generator: np.random.Generator) -> str:
        """Return the instruction with typos."""
        return self._mistype(instruction, generator, valid=VOCABULARY)

    def _mistype(self, instruction: str, generator: np.random.Generator, *, valid: Collection[str]) -> str:
        return with_typos(instruction, generator, share=self.share, mistype=functools.partial(with_typo, valid=valid))


@dataclass(frozen=True, kw_only=True)
class CaseAndPunctuation(Rewording):
    """Other capitals and punctuation: "GO TO THE RED BALL", "Go to the red ball!"."""

    name: ClassVar[str] = "case-and-punctuation"

    def reword(self, instruction: str, generator: np.random.Generator) -> str:
        """Draw one of the ways to write it that differ from how it is written."""
        sentence = f"{instruction[:1].upper()}{instruction[1:]}"
        ways = [
            *(instruction.upper(), instruction.title(), sentence),
            *(f"{sentence}.", f"{sentence}!", f"{instruction}...", f"{instruction}!!", f'"{instruction}"'),
        ]
        return drawn([way for way in ways if way != instruction], generator)


@dataclass(frozen=True, kw_only=True)
class French(Translated):
    """The instruction in French: "va jusqu'à la balle rouge"."""

    name: ClassVar[str] = "french"
    file: ClassVar[Path] = FOLDER / "french.yaml"


@dataclass(frozen=True, kw_only=True)
class Chinese(Translated):
    """The instruction in Chinese: "走到红色的球那里"."""

    name: ClassVar[str] = "chinese"
    file: ClassVar[Path] = FOLDER / "chinese.yaml"


def with_typo(word: str, generator: np.random.Generator, *, valid: Collection[str]) -> str:
    """Return a word with two letters swapped, one dropped, or one doubled.

    Args:
        word: of two letters at least.
        generator: of the draw among all such typos.
        valid: words in lower case that are not to come out.
    """
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    dropped = {word[:i] + word[i + 1 :] for i in range(len(word))}
    doubled = {word[:i] + word[i] + word[i:] for i in range(len(word))}
    ways = [sorted(typo for typo in way if typo.lower() not in valid) for way in (swapped - {word}, dropped, doubled)]
    return drawn(drawn([way for way in ways if way], generator), generator)


@functools.lru_cache(maxsize=1)
def _fillers() -> tuple[str, ...]:
    return tuple(yaml.safe_load((FOLDER / "fillers.yaml").read_text("utf-8")))
