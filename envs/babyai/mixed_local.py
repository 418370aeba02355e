"""The mixture of tasks of GLAM (Carta et al. 2023, arXiv 2302.02662), which BALROG's BabyAI suite plays as well.

Written from the published description: one room of 8x8 cells, eight things, and in each episode one of five tasks. The
description leaves open what follows, so results compare with the published ones as those of the same tasks in worlds of
the same size, not as those of the same episodes:

- The room has two doors of different colors, whatever the task, so that neither the world nor the verb alone tells what
  to do. They are closed but not locked, and lead to empty rooms.
- All eight things differ in color or kind, and every description names both. So each instruction names one thing.
- Half the sequences say "pick up A, then go to B", half "go to B after you pick up A".
- The time is BabyAI's for one room: 64 steps, and 128 for the tasks that have two places to go to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrid.core.constants import COLOR_NAMES
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling
from minigrid.envs.babyai.core.verifier import (
    AfterInstr,
    BeforeInstr,
    GoToInstr,
    Instr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
)

from heed.envs.babyai.level_of_tasks import LevelOfTasks

TASKS = ("go to", "pick up", "put next", "pick up then go to", "open door")
"""What an episode may ask for."""

DOORS = 2


class MixedTrainLocal(LevelOfTasks):
    """One of `TASKS` in one room.

    Args:
        room_size: cells along a side of the room, its walls included.
        num_dists: things in the room.
        tasks: those of `TASKS` that are drawn, each as often.
        kwargs: go to `RoomGridLevel`, such as `max_steps`.

    Raises:
        ValueError: if there is no task, or one that is not known.
    """

    def __init__(self, room_size: int = 8, num_dists: int = 8, tasks: Sequence[str] = TASKS, **kwargs: Any):
        self.num_dists = num_dists
        super().__init__(tasks=tasks, known=TASKS, num_rows=3, num_cols=3, room_size=room_size, **kwargs)

    def gen_mission(self) -> None:
        """Furnish the room in the middle, then draw a task: the world is the same whatever the task."""
        colors = self._rand_subset(COLOR_NAMES, DOORS)
        walls = self._rand_subset(range(4), DOORS)
        doors = [self.add_door(1, 1, wall, color, locked=False)[0] for wall, color in zip(walls, colors, strict=True)]
        self.place_agent(1, 1)
        things = self.add_distractors(1, 1, num_distractors=self.num_dists, all_unique=True)
        if not self.check_objs_reachable(raise_exc=False):  # type: ignore[no-untyped-call]
            raise RejectSampling("A thing or a door is out of reach.")
        one, other = (_description(thing) for thing in self._rand_subset(things, 2))
        door = _description(self._rand_elem(doors))
        says_then = self._rand_bool()
        self.draw_task()
        self.instrs = self._instruction(one, other, door, says_then=says_then)

    def _instruction(self, one: ObjDesc, other: ObjDesc, door: ObjDesc, *, says_then: bool) -> Instr:
        if self.task == "go to":
            return GoToInstr(one)
        if self.task == "pick up":
            return PickupInstr(one)
        if self.task == "put next":
            return PutNextInstr(one, other)
        if self.task == "open door":
            return OpenInstr(door)
        pick_up, go_to = PickupInstr(one), GoToInstr(other)
        return BeforeInstr(pick_up, go_to) if says_then else AfterInstr(go_to, pick_up)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode, with the time for one room and not for nine."""
        observation, info = super().reset(**kwargs)
        if not self.fixed_max_steps:
            self.max_steps = self.num_navs_needed(self.instrs) * self.room_size**2
        return observation, info


def _description(thing: Any) -> ObjDesc:
    return ObjDesc(thing.type, thing.color)
