"""The axis of word order: the two things of an instruction in each other's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium

from heed.envs.babyai.grammar import is_of_the_grammar, parse, with_roles_swapped
from heed.envs.contract import can_be_told
from heed.envs.make import POOL_EPISODES
from heed.envs.wrappers.shown import EitherInstruction
from heed.evaluation.axes.other_instructions import MOST_EPISODES_WITHOUT
from heed.evaluation.axes.registry import Axis, AxisDoesNotApplyError, PlainLevel


@dataclass(frozen=True, kw_only=True)
class SwappedRoles(Axis):
    """The two things of the instruction swapped: "put the box next to the ball" for "put the ball next to the box".

    The words are the same, so who reads them in any order does the true task as often as the shown one. The episode
    ends as soon as either is fulfilled: `is_success` is of the true one, `shown_success` of the one that was shown.
    """

    name: ClassVar[str] = "swapped-roles"
    changes: ClassVar[tuple[str, ...]] = ("instruction", "end")

    def play(self, level: PlainLevel) -> gymnasium.Env[Any, Any]:
        """Return the level with its instructions so."""
        share = _share_of_swappable(level)
        if share < 1 - MOST_EPISODES_WITHOUT:
            raise AxisDoesNotApplyError(
                f"The axis {self.name} swaps the two things of an instruction such as 'put the ball next to the box', "
                f"and {level.env_id} gives such a one, with both orders possible, in only {share:.0%} of its episodes."
            )
        return _SwappedRolesInstruction(level.make(), (), purpose=self.name)


class _SwappedRolesInstruction(EitherInstruction):
    def fitting(self, true: str, listed: Sequence[str]) -> list[str]:
        """Return the instruction with its roles swapped, if it can be done."""
        swapped = _swapped(true)
        return [words for words in listed if words == swapped]


def _swapped(instruction: str) -> str | None:
    swapped = with_roles_swapped(parse(instruction)) if is_of_the_grammar(instruction) else None
    return None if swapped is None else str(swapped)


def _share_of_swappable(level: PlainLevel) -> float:
    """Return in which share of a level's first episodes the instruction can be done with its roles swapped."""
    if not any(_swapped(instruction) for instruction in level.instructions):
        return 0.0
    env = level.make()
    possible = can_be_told(env)
    count = 0
    for seed in range(POOL_EPISODES if possible else 0):
        swapped = _swapped(env.reset(seed=seed)[0]["instruction"])
        count += swapped is not None and possible is not None and swapped in possible()
    env.close()
    return count / POOL_EPISODES
