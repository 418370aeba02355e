"""Those of GLAM's tests of generalisation (Carta et al. 2023, arXiv 2302.02662) that rename things.

Of their four, `synonyms` and `french` change the instruction. These two rename things in all that the agent reads, so
the world speaks of what no training has named. Both draw the names anew for each episode.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import yaml

from heed.envs.babyai.grammar import COLORS, KINDS
from heed.envs.contract import action_texts_of
from heed.envs.wording.words import has_one, replacer
from heed.envs.wrappers.shown import RenamedWordsEverywhere
from heed.evaluation.axes.files import FOLDER
from heed.evaluation.axes.registry import Axis, AxisDoesNotApplyError, PlainLevel


@dataclass(frozen=True, kw_only=True)
class NamesOfAnEpisode(Axis):
    """Renames BabyAI's words in instruction, observation and listed actions, by names drawn for each episode."""

    changes: ClassVar[tuple[str, ...]] = ("instruction", "observation", "actions")
    renames: ClassVar[tuple[str, ...]]
    """The words that get new names."""
    section: ClassVar[str]
    """Of `held_out_words.yaml`: where the names are."""

    def play(self, level: PlainLevel) -> gymnasium.Env[Any, Any]:
        """Return the level with its words renamed."""
        for instruction in level.instructions:
            if not has_one(instruction, self.renames):
                raise AxisDoesNotApplyError(
                    f"The axis {self.name} renames {', '.join(self.renames)}: {instruction!r} has none of them."
                )
        return _RenamedEachEpisode(level.make(), self.draw, purpose=self.name)

    def draw(self, generator: np.random.Generator) -> dict[str, str]:
        """Return the words of an episode, each with its name; no two have the same."""
        names = generator.permutation(_sections()[self.section])
        return dict(zip(self.renames, map(str, names), strict=False))


@dataclass(frozen=True, kw_only=True)
class NewNouns(NamesOfAnEpisode):
    """Nouns that no training has used, in all that the agent reads: "go to the red walrus", "red walrus 2 ahead"."""

    name: ClassVar[str] = "new-nouns"
    renames: ClassVar[tuple[str, ...]] = KINDS
    section: ClassVar[str] = "nouns"


@dataclass(frozen=True, kw_only=True)
class InventedWords(NamesOfAnEpisode):
    """Invented nouns and colors in all that the agent reads: "go to the snorv florp", "snorv florp 2 ahead"."""

    name: ClassVar[str] = "invented-words"
    renames: ClassVar[tuple[str, ...]] = (*KINDS, *COLORS)
    section: ClassVar[str] = "invented"


class _RenamedEachEpisode(RenamedWordsEverywhere):
    """Draws the names when an episode begins."""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        draw: Callable[[np.random.Generator], dict[str, str]],
        *,
        purpose: str,
    ):
        super().__init__(env, str, purpose=purpose)
        self._draw = draw
        self._begins = True

    @property
    def listed_action_texts(self) -> tuple[str, ...] | None:
        """Texts that are always the same: they are asked for before there is an episode, and keep their names."""
        return action_texts_of(self.env)

    def reset(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode, with names of its own."""
        self._begins = True
        return super().reset(**options)

    def choose(self, true: str) -> str:
        """Return the instruction with the episode's names, also where it changes within the episode."""
        if self._begins:
            self._rename = replacer(self._draw(self.generator))
            self._begins = False
        return self._rename(true)


def held_out_words() -> frozenset[str]:
    """Return the words that nothing of ours that trains a model may use, in lower case.

    Those of `held_out_words.yaml`, and the unseen and invented ones of `words.yaml`.
    """
    words = yaml.safe_load((FOLDER / "words.yaml").read_text("utf-8"))
    unseen = [word for kind in words["unseen"].values() for several in kind.values() for word in several]
    return frozenset((*unseen, *words["invented"].values(), *(word for part in _sections().values() for word in part)))


@functools.lru_cache(maxsize=1)
def _sections() -> dict[str, Sequence[str]]:
    sections: dict[str, Sequence[str]] = yaml.safe_load((FOLDER / "held_out_words.yaml").read_text("utf-8"))
    return sections
