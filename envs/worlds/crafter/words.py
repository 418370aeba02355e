"""Crafter in words: instructions, actions, and what the player sees, from plain data.

    facing tree up; grass down; grass left; sand right; cow 2 down 3 left; water 4 right; carrying 2 wood, 1 sapling;
    health 9; food 8; drink 7; energy 9

- First what the player faces and where; then what lies on the three other sides. Places are up, down, left and right as
  on the map, whichever way the player faces: Crafter's actions go up, down, left and right too.
- Then whatever moves or grows within sight, all of it, the nearest first; then, of each kind of ground that does not
  lie next to the player, the nearest cell.
- Then `dark` at night and `asleep`, what the player carries, and how it is.

Sight is Crafter's own, the 9 x 7 cells of its picture. What the words leave out of the picture is where else there is
ground of a kind; what they do not have of it is its noise at night.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heed.envs.classic.toy_text import offset

ACTIONS = {
    "noop": "wait",
    "move_left": "go left",
    "move_right": "go right",
    "move_up": "go up",
    "move_down": "go down",
    "do": "use what is in front",
    "sleep": "sleep",
    "place_stone": "place a stone",
    "place_table": "place a table",
    "place_furnace": "place a furnace",
    "place_plant": "plant a sapling",
    "make_wood_pickaxe": "make a wooden pickaxe",
    "make_stone_pickaxe": "make a stone pickaxe",
    "make_iron_pickaxe": "make an iron pickaxe",
    "make_wood_sword": "make a wooden sword",
    "make_stone_sword": "make a stone sword",
    "make_iron_sword": "make an iron sword",
}
"""Words for Crafter's actions, in Crafter's order."""


@dataclass(frozen=True, kw_only=True)
class Achievement:
    """One of Crafter's achievements as an instruction."""

    instruction: str
    ground: tuple[str, ...]
    """What the world must hold for it: ground that gives it, or what the tools for it are made of, or where creatures
    live. Whether there is a way to it is not looked at."""
    first: tuple[str, ...] = ()
    """Achievements that come before it, those that theirs need included."""


_TABLE = ("collect_wood", "place_table")
_WOOD_PICKAXE = (*_TABLE, "make_wood_pickaxe")
_STONE = (*_WOOD_PICKAXE, "collect_stone")
_STONE_PICKAXE = (*_STONE, "make_stone_pickaxe")
_IRON_TOOLS = (*_STONE_PICKAXE, "collect_coal", "collect_iron", "place_furnace")
_IRON_GROUND = ("tree", "stone", "coal", "iron")

ACHIEVEMENTS = {
    "collect_coal": Achievement(instruction="collect coal", ground=("tree", "coal"), first=_WOOD_PICKAXE),
    "collect_diamond": Achievement(
        instruction="collect a diamond",
        ground=(*_IRON_GROUND, "diamond"),
        first=(*_IRON_TOOLS, "make_iron_pickaxe"),
    ),
    "collect_drink": Achievement(instruction="drink water", ground=("water",)),
    "collect_iron": Achievement(instruction="collect iron", ground=("tree", "stone", "iron"), first=_STONE_PICKAXE),
    "collect_sapling": Achievement(instruction="collect a sapling", ground=("grass",)),
    "collect_stone": Achievement(instruction="collect stone", ground=("tree", "stone"), first=_WOOD_PICKAXE),
    "collect_wood": Achievement(instruction="collect wood", ground=("tree",)),
    "defeat_skeleton": Achievement(instruction="defeat a skeleton", ground=("path",)),
    "defeat_zombie": Achievement(instruction="defeat a zombie", ground=("grass",)),
    "eat_cow": Achievement(instruction="eat a cow", ground=("grass",)),
    "eat_plant": Achievement(
        instruction="eat a ripe plant", ground=("grass",), first=("collect_sapling", "place_plant")
    ),
    "make_iron_pickaxe": Achievement(instruction="make an iron pickaxe", ground=_IRON_GROUND, first=_IRON_TOOLS),
    "make_iron_sword": Achievement(instruction="make an iron sword", ground=_IRON_GROUND, first=_IRON_TOOLS),
    "make_stone_pickaxe": Achievement(instruction="make a stone pickaxe", ground=("tree", "stone"), first=_STONE),
    "make_stone_sword": Achievement(instruction="make a stone sword", ground=("tree", "stone"), first=_STONE),
    "make_wood_pickaxe": Achievement(instruction="make a wooden pickaxe", ground=("tree",), first=_TABLE),
    "make_wood_sword": Achievement(instruction="make a wooden sword", ground=("tree",), first=_TABLE),
    "place_furnace": Achievement(instruction="place a furnace", ground=("tree", "stone"), first=_STONE),
    "place_plant": Achievement(instruction="plant a sapling", ground=("grass",), first=("collect_sapling",)),
    "place_stone": Achievement(instruction="place a stone", ground=("tree", "stone"), first=_STONE),
    "place_table": Achievement(instruction="place a table", ground=("tree",), first=("collect_wood",)),
    "wake_up": Achievement(instruction="sleep until you wake up rested", ground=()),
}
"""All of Crafter's achievements by its own names."""

WITHOUT_PREREQUISITES = (
    "collect_drink",
    "collect_sapling",
    "collect_wood",
    "defeat_zombie",
    "eat_cow",
    "wake_up",
)
"""Those that need no other one first, but for the skeletons: their caves often cannot be entered without a pickaxe."""

ALL = "all"
"""Told for `achievements`: every one."""


def chosen_achievements(told: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of achievements that were told in Crafter's own names or in words, or as "all".

    Raises:
        ValueError: if one is unknown or told twice, or none is told.
    """
    if told == ALL:
        return tuple(ACHIEVEMENTS)
    by_instruction = {achievement.instruction: name for name, achievement in ACHIEVEMENTS.items()}
    names = []
    for entry in [told] if isinstance(told, str) else told:
        name = by_instruction.get(entry, entry.replace(" ", "_"))
        if name not in ACHIEVEMENTS:
            raise ValueError(f"Crafter has no achievement {entry!r}; it has {', '.join(ACHIEVEMENTS)}.")
        names.append(name)
    if not names:
        raise ValueError(f"No achievement was told: name some of {', '.join(ACHIEVEMENTS)}, or {ALL!r}.")
    if len(set(names)) < len(names):
        raise ValueError(f"An achievement was told twice: {', '.join(names)}.")
    return tuple(names)


VITALS = ("health", "food", "drink", "energy")
"""What stands in Crafter's inventory beside the things that are carried."""
DARK = 0.5
"""Below so much daylight, of 1, Crafter's picture gets noisy."""
BEYOND = "the world's edge"

_SIDES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
_ITEMS = {"wood_pickaxe": "wooden pickaxe", "wood_sword": "wooden sword"}


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the player sees and is; places are (rows down, columns to the right) of the player."""

    ground: tuple[tuple[str | None, ...], ...]
    """Rows of the cells in sight, from above to below, the player in the middle; None beyond the world's edge."""
    things: tuple[tuple[str, tuple[int, int]], ...]
    """What moves or grows, each with its place."""
    facing: tuple[int, int]
    inventory: Mapping[str, int]
    daylight: float
    sleeping: bool


def words_for(surroundings: Surroundings) -> str:
    """Return what the player perceives, as the head of this file says."""
    middle = len(surroundings.ground) // 2, len(surroundings.ground[0]) // 2
    there = {place: name for name, place in surroundings.things}

    def at(place: tuple[int, int]) -> str:
        return there.get(place) or surroundings.ground[middle[0] + place[0]][middle[1] + place[1]] or BEYOND

    sides = sorted(_SIDES.items(), key=lambda side: side[1] != surroundings.facing)  # the one that is faced comes first
    parts = [f"{at(place)} {name}" for name, place in sides]
    parts[0] = f"facing {parts[0]}"
    by_distance = sorted(surroundings.things, key=lambda thing: _distance(thing[1]))  # stable: as they were told
    parts += [f"{name} {offset(*place)}" for name, place in by_distance if place not in _SIDES.values()]
    parts += _nearest_ground(surroundings, middle)
    if surroundings.daylight < DARK:
        parts.append("dark")
    if surroundings.sleeping:
        parts.append("asleep")
    inventory = surroundings.inventory
    carried = [
        f"{amount} {_ITEMS.get(item) or item.replace('_', ' ')}"
        for item, amount in inventory.items()
        if amount and item not in VITALS
    ]
    if carried:
        parts.append(f"carrying {', '.join(carried)}")
    parts += [f"{vital} {inventory[vital]}" for vital in VITALS]
    return "; ".join(parts)


def _nearest_ground(surroundings: Surroundings, middle: tuple[int, int]) -> list[str]:
    """Return the nearest cell of each kind of ground that does not lie next to the player."""
    places: dict[str, tuple[int, int]] = {}
    for row, cells in enumerate(surroundings.ground):
        for column, kind in enumerate(cells):
            place = row - middle[0], column - middle[1]
            if kind is not None and place != (0, 0):
                nearest = places.get(kind)
                if nearest is None or _distance(place) < _distance(nearest):
                    places[kind] = place
    ordered = sorted(places.items(), key=lambda entry: _distance(entry[1]))
    return [f"{kind} {offset(*place)}" for kind, place in ordered if _distance(place) > 1]


def _distance(place: tuple[int, int]) -> int:
    return abs(place[0]) + abs(place[1])
