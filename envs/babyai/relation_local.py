"""A level in which only a relation tells what is meant: "go to the red ball left of the blue box".

Four pairs of touching things lie in one room, made of three names, say red ball, blue box and green key. Asked for the
red ball left of the blue box, there is
- a red ball left of a blue box: the one that is meant,
- a red ball right of a blue box: the same words but for the side, or with the two things in the other order,
- a red ball left of a green key: another anchor,
- a green key left of a blue box: another thing.

So each word counts, and their order: with the two things swapped, the same words name another thing. Of "next to" the
anchor is the third name, next to which only one of the three red balls lies. Two things of different pairs never touch.
The agent begins with its back to a wall, so everything lies before it, and left, right, behind and in front of mean the
same for all things (`heed.envs.babyai.relations`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from minigrid.core.constants import COLOR_NAMES, DIR_TO_VEC
from minigrid.core.world_object import Ball, Box, Key
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling
from minigrid.envs.babyai.core.verifier import OBJ_TYPES_NOT_DOOR, GoToInstr

from heed.envs.babyai.level_of_tasks import LevelOfTasks
from heed.envs.babyai.relations import OPPOSITES, RELATIONS, SIDED, Name, Place, RelatedDescription, offset_of

MOST_TRIES = 50
"""To place a pair; then the world is drawn anew."""
_CLASSES: dict[str, type[Any]] = {"ball": Ball, "box": Box, "key": Key}


class GoToRelationLocal(LevelOfTasks):
    """Go to the thing that has a relation to another, in one room.

    Args:
        room_size: cells along a side of the room, its walls included.
        num_dists: further things, of other names, that touch none.
        tasks: the relations that are drawn, each as often: some of `RELATIONS`.
        kwargs: go to `RoomGridLevel`, such as `max_steps`.

    Raises:
        ValueError: if there is no relation, or one that is not known.
    """

    def __init__(self, room_size: int = 8, num_dists: int = 0, tasks: Sequence[str] = RELATIONS, **kwargs: Any):
        self.num_dists = num_dists
        super().__init__(tasks=tasks, known=RELATIONS, num_rows=1, num_cols=1, room_size=room_size, **kwargs)

    def gen_mission(self) -> None:
        """Lay out the pairs, and ask for a thing of the first or the third."""
        self._place_agent_at_a_wall()
        names: list[Name] = self._rand_subset(
            list(itertools.product(OBJ_TYPES_NOT_DOOR, COLOR_NAMES)), 3 + self.num_dists
        )
        one, other, third, *distractors = names
        relation = self.draw_task()
        side = self._rand_elem(SIDED) if relation == "next to" else relation
        pairs = [(one, side, other), (one, OPPOSITES[side], other), (one, side, third), (third, side, other)]
        # The first to be placed find more room: who is in which pair must not tell what is meant.
        for first, how, second in self._rand_subset(pairs, len(pairs)):
            x, y = offset_of(how, self.agent_dir)
            self._lay_out((first, (x, y)), (second, (0, 0)))
        for name in distractors:
            self._lay_out((name, (0, 0)))
        if not self.check_objs_reachable(raise_exc=False):  # type: ignore[no-untyped-call]
            raise RejectSampling("A thing is out of reach.")
        anchor = third if relation == "next to" else other
        self.instrs = GoToInstr(RelatedDescription(self, one, relation, anchor))

    def _place_agent_at_a_wall(self) -> None:
        """Have the agent stand with its back to one of the walls."""
        inside = self.room_size - 2
        heading, along = self._rand_int(0, 4), self._rand_int(1, inside + 1)
        x, y = (int(step) for step in DIR_TO_VEC[heading])
        near = 1 if x + y > 0 else inside
        self.agent_dir = heading
        self.agent_pos = (near, along) if x else (along, near)

    def _lay_out(self, *group: tuple[Name, Place]) -> None:
        """Place things that belong together where they touch no others, and neither wall the agent in nor face it."""
        size = self.room_size
        for _ in range(MOST_TRIES):
            x, y = self._rand_int(1, size - 1), self._rand_int(1, size - 1)
            cells = [(x + dx, y + dy) for _, (dx, dy) in group]
            if all(self._is_apart(cell) for cell in cells):
                for (name, _), cell in zip(group, cells, strict=True):
                    kind, color = name
                    self.put_obj(_CLASSES[kind](color), *cell)
                return
        raise RejectSampling("There is no room for another pair.")

    def _is_apart(self, cell: Place) -> bool:
        """Say whether a cell is free, ahead of the agent and not right before it, and touches no thing."""
        x, y = cell
        if not (0 < x < self.room_size - 1 and 0 < y < self.room_size - 1) or self.grid.get(x, y) is not None:
            return False
        forward_x, forward_y = DIR_TO_VEC[self.agent_dir]
        ahead = (x - self.agent_pos[0]) * forward_x + (y - self.agent_pos[1]) * forward_y
        if ahead < 1 or cell == tuple(int(part) for part in self.front_pos):
            return False
        beside = (self.grid.get(*place) for place in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)))
        return all(thing is None or thing.type == "wall" for thing in beside)
