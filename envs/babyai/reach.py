"""What can be reached in a BabyAI level, and what only by way of something else: a key, a door, a ball in the way.

A model of the rules, not a search for a plan: what can be carried does not stand in the way for long, a door opens, and
a locked one with a key of its color. It errs only where nothing can be put aside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from minigrid.core.world_object import Box, Door, Key, WorldObj
from minigrid.envs.babyai.core.verifier import ObjDesc, OpenInstr, PickupInstr, PutNextInstr


class Reach:
    """Where the agent can come to from where it stands without touching some things.

    Args:
        level: as it is now.
        untouched: things that are neither moved, used nor passed through.
    """

    def __init__(self, level: Any, untouched: Iterable[WorldObj] = ()):
        self._untouched = {id(thing) for thing in untouched}
        self._cells: list[WorldObj | None] = level.grid.grid
        self._width = int(level.grid.width)
        self._places = {id(thing): index for index, thing in enumerate(self._cells) if thing is not None}
        self._carried = level.carrying
        self._keys: set[str] = set()
        self._region: set[int] = set()
        if self._carried is not None:
            self._use(self._carried)
        x, y = level.agent_pos
        self._spread([int(y) * self._width + int(x)])

    def touches(self, things: Collection[WorldObj], *, opens: bool = False) -> bool:
        """Say whether the agent can come to stand before one of some things, with the key to a locked door if it opens.

        Args:
            things: any of them will do.
            opens: whether it is to be opened.
        """
        return any(self._touches(thing, opens) for thing in things)

    def _touches(self, thing: WorldObj, opens: bool) -> bool:
        if id(thing) in self._untouched:
            return False
        if thing is self._carried:
            return True
        place = self._places.get(id(thing))
        if place is None or (opens and isinstance(thing, Door) and thing.is_locked and thing.color not in self._keys):
            return False
        return any(cell in self._region for cell in self._beside(place))

    def _spread(self, frontier: list[int]) -> None:
        """Go wherever there is a way, again where a key was found, until nothing is new."""
        locked: set[int] = set()
        while frontier:
            place = frontier.pop()
            if place in self._region:
                continue
            self._region.add(place)
            for cell in self._beside(place):
                thing = self._cells[cell]
                if thing is not None and id(thing) not in self._untouched:
                    known = len(self._keys)
                    self._use(thing)
                    if len(self._keys) > known:
                        frontier += [door for door in locked if self._lets_through(self._cells[door])]
                if self._lets_through(thing):
                    frontier.append(cell)
                elif isinstance(thing, Door):
                    locked.add(cell)

    def _beside(self, place: int) -> tuple[int, ...]:
        # Rooms have walls around them, so that no step leads beyond the grid.
        return tuple(
            cell
            for cell in (place - 1, place + 1, place - self._width, place + self._width)
            if 0 <= cell < len(self._cells)
        )

    def _use(self, thing: WorldObj) -> None:
        if id(thing) in self._untouched:
            return
        if isinstance(thing, Key):
            self._keys.add(str(thing.color))
        elif isinstance(thing, Box):
            inside: Any = thing.contains
            if inside is not None:
                self._use(inside)

    def _lets_through(self, thing: WorldObj | None) -> bool:
        if thing is None:
            return True
        if id(thing) in self._untouched:
            return False
        if isinstance(thing, Door):
            return not thing.is_locked or thing.color in self._keys
        return bool(thing.can_pickup() or thing.can_overlap()) and thing.type != "lava"


def descriptions_of(part: Any) -> list[ObjDesc]:
    """Return what an instruction without parts says of things."""
    return [part.desc_move, part.desc_fixed] if isinstance(part, PutNextInstr) else [part.desc]


def is_done_already(level: Any, instruction: Any) -> bool:
    """Say whether an instruction is fulfilled as the episode begins."""
    if isinstance(instruction, PutNextInstr):
        return False  # of these a level asks for none
    things = instruction.desc.obj_set
    if isinstance(instruction, OpenInstr):
        return any(isinstance(thing, Door) and thing.is_open for thing in things)
    if isinstance(instruction, PickupInstr):
        return any(thing is level.carrying for thing in things)
    return any(thing is level.grid.get(*level.front_pos) for thing in things)


def apart_from(level: Any, own: Sequence[Any], others: Sequence[Any], things: Collection[WorldObj]) -> Iterator[Any]:
    """Yield those of the other instructions that are not on the way to the own one, nor the own one on theirs.

    Args:
        level: as an episode begins in it.
        own: the parts of the episode's instruction.
        others: instructions about other things.
        things: all that the level can speak of.
    """
    if not _can_be_done(own, Reach(level)):  # it cannot be said what is on the way
        yield from others
        return
    ours = {id(thing) for part in own for description in descriptions_of(part) for thing in description.obj_set}
    named = [thing for thing in things if id(thing) not in ours]
    # In a room of its own nothing is in the way of anything: then one look is enough.
    nothing_needed = _can_be_done(own, Reach(level, named))
    whole = own[0] if len(own) == 1 and not isinstance(own[0], PutNextInstr) else None
    before_own = None if whole is None else Reach(level, _things_that_end(whole))
    for other in others:
        if before_own is not None and not _can_be_done([other], before_own):
            continue
        # Who puts a thing next to another has done more than to pass by.
        if nothing_needed or isinstance(other, PutNextInstr) or _can_be_done(own, Reach(level, other.desc.obj_set)):
            yield other


def _can_be_done(instructions: Iterable[Any], reach: Reach) -> bool:
    """Say whether all that instructions speak of can be reached."""
    return all(
        reach.touches(description.obj_set, opens=isinstance(instruction, OpenInstr))
        for instruction in instructions
        for description in descriptions_of(instruction)
    )


def _things_that_end(own: Any) -> list[WorldObj]:
    """Return the things that an episode ends with as soon as they are used: of an open door nobody needs to open it."""
    opens = isinstance(own, OpenInstr)
    return [thing for thing in own.desc.obj_set if not (opens and isinstance(thing, Door) and thing.is_open)]
