"""Things that are named by where they are: "the red ball left of the blue box".

A relation holds between two things that touch: their cells have a side in common. "next to" is any side. The others are
as the agent saw the two when the episode began: left and right are its own, "behind" is the side away from the agent,
and "in front of" the side towards it. So a relation is decided by the places that an observation tells, with the place
and heading at the start, which it then tells as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from minigrid.core.constants import COLOR_NAMES, DIR_TO_VEC
from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core.verifier import OBJ_TYPES_NOT_DOOR, ObjDesc

SIDED = ("left of", "right of", "in front of", "behind")
RELATIONS = ("next to", *SIDED)
OPPOSITES = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}

Place = tuple[int, int]
"""A cell of the grid."""
Name = tuple[str, str]
"""Kind and color of a thing."""


def offset_of(relation: str, heading: int) -> Place:
    """Return where, from a thing, the cell lies that has this relation to it.

    Args:
        relation: one of `SIDED`.
        heading: the agent's at the start, as MiniGrid numbers them.
    """
    x, y = (int(step) for step in DIR_TO_VEC[heading])
    return {"left of": (y, -x), "right of": (-y, x), "in front of": (-x, -y), "behind": (x, y)}[relation]


class RelatedDescription(ObjDesc):
    """The things of a kind and color that have a relation to another, as an episode begins.

    Args:
        level: right after its reset, or while its world is made and the agent stands in it.
        name: of the things.
        relation: one of `RELATIONS`.
        anchor: the name of what they are related to.
    """

    def __init__(self, level: Any, name: Name, relation: str, anchor: Name):
        super().__init__(*name)  # type: ignore[no-untyped-call]
        self.relation = relation
        self.anchor = anchor
        self._level = level
        relations = SIDED if relation == "next to" else (relation,)
        pairs = [
            (thing, place)
            for place, thing in _named(level, name)
            for x, y in (offset_of(one, level.agent_dir) for one in relations)
            if _name(level.grid.get(place[0] - x, place[1] - y)) == anchor
        ]
        self.obj_set = [thing for thing, _ in pairs]
        self.obj_poss = [place for _, place in pairs]

    def surface(self, env: Any) -> str:
        """Return the words: "the" two where only one pair has the relation, else "a" for both, as BabyAI has it."""
        return _words(self, "the" if len(self.obj_set) == 1 else "a")

    def find_matching_objs(self, env: Any, use_location: bool = True) -> tuple[list[WorldObj], list[Place]]:
        """Keep to the things of the start; with `use_location=False`, after a drop, see where they are."""
        if not use_location:
            level = self._level
            here = [(thing, thing.cur_pos) for thing in self.obj_set if thing is not level.carrying]
            self.obj_poss = [(int(x), int(y)) for thing, (x, y) in here if level.grid.get(x, y) is thing]
        return self.obj_set, self.obj_poss

    @property
    def speaks_of_the_start(self) -> bool:
        """Whether the relation depends on how the agent stood."""
        return self.relation in SIDED

    def alike(self) -> Iterator[RelatedDescription]:
        """Yield the descriptions with relations of the same sort that something in the world has."""
        names = sorted(set(_names(self._level)))
        for name, relation, anchor in self._combinations(names):
            description = RelatedDescription(self._level, name, relation, anchor)
            if description.obj_set:
                yield description

    def of_nothing(self) -> Iterator[str]:
        """Yield the words of descriptions of the same sort that nothing in the world has."""
        all_names = list(itertools.product(OBJ_TYPES_NOT_DOOR, COLOR_NAMES))
        present = set(_names(self._level))
        for name, relation, anchor in self._combinations(all_names):
            if anchor in present:
                description = RelatedDescription(self._level, name, relation, anchor)
                if not description.obj_set:
                    yield _words(description, "the")

    def _combinations(self, names: list[Name]) -> Iterator[tuple[Name, str, Name]]:
        relations = SIDED if self.speaks_of_the_start else (self.relation,)
        pairs = itertools.permutations(names, 2)
        yield from ((name, relation, anchor) for name, anchor in pairs for relation in relations)


def _words(description: RelatedDescription, article: str) -> str:
    anchor_kind, anchor_color = description.anchor
    thing, anchor = f"{description.color} {description.type}", f"{anchor_color} {anchor_kind}"
    return f"{article} {thing} {description.relation} {article} {anchor}"


def _name(thing: Any) -> Name | None:
    return None if thing is None or thing.type not in OBJ_TYPES_NOT_DOOR else (thing.type, thing.color)


def _names(level: Any) -> Iterator[Name]:
    """Yield the names of all things in the grid."""
    yield from (name for thing in level.grid.grid if (name := _name(thing)) is not None)


def _named(level: Any, name: Name) -> Iterator[tuple[Place, Any]]:
    """Yield the things of a name, each with its place."""
    width = level.grid.width
    for index, thing in enumerate(level.grid.grid):
        if _name(thing) == name:
            yield (index % width, index // width), thing
