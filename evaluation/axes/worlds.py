"""Axes that change the world and leave the instructions as they are: the same level with other arguments."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import yaml

from heed.envs.wrappers.shown import Reworded
from heed.evaluation.axes.files import FOLDER
from heed.evaluation.axes.registry import Axis, AxisDoesNotApplyError, PlainLevel

Worlds = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
"""Environment ids, each with arguments and their values; `id` is another environment."""


@dataclass(frozen=True, kw_only=True)
class OtherArguments(Axis):
    """Makes the level with other arguments, those of `worlds.yaml` under the axis's name or those that it is given."""

    same_world: ClassVar[bool] = False
    changes: ClassVar[tuple[str, ...]] = ("world",)
    worlds: Worlds = ()
    """Environment ids with their arguments (in YAML a mapping of mappings), beside and before those of the file."""

    def __post_init__(self) -> None:
        """Refuse what is not of this form."""
        self._given()

    def _given(self) -> dict[str, dict[str, Any]]:
        try:
            return {env_id: dict(arguments) for env_id, arguments in self.worlds}
        except (TypeError, ValueError):
            raise ValueError(f"worlds is {self.worlds!r}, but must be such as {{MyWorld-v0: {{boxes: 8}}}}.") from None

    def play(self, level: PlainLevel) -> gymnasium.Env[Any, Any]:
        """Return the level with other arguments."""
        worlds = {**_worlds()[self.name], **self._given()} if self.name in _worlds() else self._given()
        if level.env_id not in worlds:
            raise AxisDoesNotApplyError(
                f"The axis {self.name} does not know with which arguments to make {level.env_id}: give it some, as in "
                f"{self.name}: {{worlds: {{{level.env_id}: {{...}}}}}}."
            )
        arguments = dict(worlds[level.env_id])
        env_id = arguments.pop("id", level.env_id)
        return Reworded(level.make(env_id, **arguments), lambda words, _: words, purpose=self.name)


@dataclass(frozen=True, kw_only=True)
class MoreDistractors(OtherArguments):
    """More things in the same room, about half as many again."""

    name: ClassVar[str] = "more-distractors"


@dataclass(frozen=True, kw_only=True)
class LargerRooms(OtherArguments):
    """Larger rooms with as many things, which are then oftener out of sight."""

    name: ClassVar[str] = "larger-rooms"


@functools.lru_cache(maxsize=1)
def _worlds() -> dict[str, dict[str, dict[str, Any]]]:
    worlds: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((FOLDER / "worlds.yaml").read_text("utf-8"))
    return worlds
