"""Axes of an evaluation: one thing about the instruction or the world changed, all else as it was."""

from heed.envs.wording.language import Language, LanguageDataError
from heed.envs.wrappers.shown import EitherInstruction, OtherInstruction, ShownInstruction
from heed.evaluation.axes.combinations import UnseenCombinations
from heed.evaluation.axes.examples import Example, examples
from heed.evaluation.axes.generalisation import InventedWords, NewNouns, held_out_words
from heed.evaluation.axes.other_instructions import (
    Blank,
    ChangedMidway,
    Impossible,
    InjectedText,
    Longer,
    Swapped,
    TrueInstruction,
)
from heed.evaluation.axes.registry import (
    Axis,
    AxisDoesNotApplyError,
    AxisError,
    PlainLevel,
    axis,
    axis_from,
    axis_names,
    register_axis,
)
from heed.evaluation.axes.swapped_roles import SwappedRoles
from heed.evaluation.axes.wording import (
    CaseAndPunctuation,
    Chinese,
    French,
    Paraphrase,
    Rewording,
    Synonyms,
    Translated,
    Typos,
)
from heed.evaluation.axes.words import RenamedWords, UnseenWords
from heed.evaluation.axes.worlds import LargerRooms, MoreDistractors

OWN_AXES: tuple[type[Axis], ...] = (
    *(TrueInstruction, Blank, Swapped),
    *(Synonyms, Paraphrase, Typos, CaseAndPunctuation, French, Chinese, UnseenWords, RenamedWords, UnseenCombinations),
    *(NewNouns, InventedWords, SwappedRoles, Longer, ChangedMidway, Impossible, InjectedText),
    *(MoreDistractors, LargerRooms),
)
"""Those that ship with Heed: what all are held against, then other words, other instructions, other worlds."""

for own in OWN_AXES:
    register_axis(own)

__all__ = [
    "OWN_AXES",
    "Axis",
    "AxisDoesNotApplyError",
    "AxisError",
    "Blank",
    "CaseAndPunctuation",
    "ChangedMidway",
    "Chinese",
    "EitherInstruction",
    "Example",
    "French",
    "Impossible",
    "InjectedText",
    "InventedWords",
    "Language",
    "LanguageDataError",
    "LargerRooms",
    "Longer",
    "MoreDistractors",
    "NewNouns",
    "OtherInstruction",
    "Paraphrase",
    "PlainLevel",
    "RenamedWords",
    "Rewording",
    "ShownInstruction",
    "Swapped",
    "SwappedRoles",
    "Synonyms",
    "Translated",
    "TrueInstruction",
    "Typos",
    "UnseenCombinations",
    "UnseenWords",
    "axis",
    "axis_from",
    "axis_names",
    "examples",
    "held_out_words",
    "register_axis",
]
