"""The axis of what was held out at training: a color and a thing, each known, whose combination was never named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium

from heed.envs.hold_out import OnlyWithPhrases, checked_phrases
from heed.envs.make import gives_instruction_with
from heed.envs.wrappers.shown import Reworded
from heed.evaluation.axes.registry import Axis, AxisDoesNotApplyError, PlainLevel


@dataclass(frozen=True, kw_only=True)
class UnseenCombinations(Axis):
    """Only instructions that name a phrase held out at training (`heed train --hold-out "purple key"`).

    An episode whose instruction names none is drawn anew, from seeds that follow from its own; of a mixture the level
    too, since not every level may name one.
    """

    name: ClassVar[str] = "unseen-combinations"
    same_world: ClassVar[bool] = False
    changes: ClassVar[tuple[str, ...]] = ("world",)
    phrases: tuple[str, ...] = ()
    """Those of the training, such as "purple key"."""

    def __post_init__(self) -> None:
        """Refuse what are no phrases."""
        checked_phrases(self.phrases)

    def play(self, level: PlainLevel) -> gymnasium.Env[Any, Any]:
        """Return the level with only those instructions."""
        if not self.phrases:
            raise AxisDoesNotApplyError(
                f"The axis {self.name} needs the phrases that were held out at training, and none were: train with "
                '--hold-out "purple key", or give the axis its phrases.'
            )
        # Of a mixture not every level needs to: it is the whole that is drawn anew.
        if not gives_instruction_with(self.phrases, level.mixture, **level.arguments):
            raise AxisDoesNotApplyError(f"No instruction of {level.mixture} names one of {', '.join(self.phrases)}.")
        return Reworded(level.make(), lambda words, _: words, purpose=self.name)

    def around(self, env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        """Return the environment with those episodes only."""
        return OnlyWithPhrases(env, self.phrases)
