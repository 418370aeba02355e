"""What can be seen from a place in a MiniWorld: plain geometry of the floor plan, without MiniWorld.

    red box 15 degrees left 3.2 m; blue key straight ahead 5.0 m; wall 4.1 m ahead, 6.0 m at 30 degrees left, 2.2 m at
    30 degrees right; carrying green ball

Angles are rounded to 5 degrees and distances to a decimetre. A thing is in view if its middle, or the middle of its
left or its right half, lies within the picture, some of its height too (what stands close before the feet is below the
picture), and no wall stands between. Things do not hide one another; at most the eight nearest are told. Walls are
told along three lines.

Coordinates are MiniWorld's: x to the east and z to the south; directions in radians, counter-clockwise from the east.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DEGREES = 5
"""Angles are told in steps of so many."""
WALL_ANGLES = (0, 30, -30)
"""Where the distance to the next wall is told, in degrees to the left."""
MOST_THINGS = 8
"""Of more things in view only the number is told."""
BEFORE_A_WALL = 0.1
"""Metres before a thing where the line of sight ends: what hangs on a wall is not hidden by it."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that can be seen."""

    name: str
    place: tuple[float, float]
    radius: float = 0.0
    bottom: float = 0.0
    """Metres above the floor."""
    top: float = 0.0
    front: float | None = None
    """Which way it looks, if it is flat and seen from the front only."""


@dataclass(frozen=True, kw_only=True)
class View:
    """From where one looks, in which direction, how wide, and what stands there."""

    place: tuple[float, float]
    direction: float
    width: float
    """Of the picture, in radians."""
    height: float
    """Of the picture, in radians."""
    eye: float
    """Metres above the floor."""
    things: Sequence[Thing]
    walls: Floats
    """Shape (W, 2, 2): the two ends of each wall on the floor."""


def words_for(view: View) -> list[str]:
    """Return what is in view, the nearest first, and the distances to walls."""
    seen = []
    for thing in view.things:
        angle, distance = _relative(view, thing.place)
        if is_in_view(view, thing):
            seen.append((distance, f"{thing.name} {_direction(angle)} {distance:.1f} m"))
    seen.sort()
    parts = [words for _, words in seen[:MOST_THINGS]]
    if len(seen) > MOST_THINGS:
        parts.append(f"{len(seen) - MOST_THINGS} more further away")
    walls = []
    for degrees in WALL_ANGLES:
        distance = distance_to_wall(view.place, view.direction + math.radians(degrees), view.walls)
        if math.isfinite(distance):
            where = "ahead" if degrees == 0 else f"at {_direction(math.radians(degrees))}"
            walls.append(f"{distance:.1f} m {where}")
    if walls:
        parts.append(f"wall {', '.join(walls)}")
    return parts


def is_in_view(view: View, thing: Thing) -> bool:
    """Say whether a thing's middle, or the middle of one of its halves, is within the picture and not behind a wall."""
    angle, distance = _relative(view, thing.place)
    if distance <= BEFORE_A_WALL:
        return True
    if thing.front is not None:
        # In front of it is where the way to the viewer goes along its own direction.
        towards = view.direction + angle + math.pi
        if math.cos(towards - thing.front) <= 0:
            return False
    line = view.direction + angle
    for aside in (0.0, thing.radius / 2, -thing.radius / 2):
        place = thing.place[0] - math.sin(line) * aside, thing.place[1] - math.cos(line) * aside
        angle, distance = _relative(view, place)
        if abs(angle) > view.width / 2 or not _is_level(view, thing, distance * math.cos(angle)):
            continue
        if distance_to_wall(view.place, view.direction + angle, view.walls) >= distance - BEFORE_A_WALL:
            return True
    return False


def _is_level(view: View, thing: Thing, ahead: float) -> bool:
    """Say whether some of a thing is neither above nor below the picture, whose edges are straight lines on a plane."""
    reach = math.tan(view.height / 2) * ahead
    return thing.top >= view.eye - reach and thing.bottom <= view.eye + reach


def distance_to_wall(place: tuple[float, float], direction: float, walls: Floats) -> float:
    """Return how far it is to the next wall, in metres; infinity where there is none.

    Args:
        place: (x, z) from where.
        direction: where to.
        walls: shape (W, 2, 2).
    """
    if not len(walls):
        return math.inf
    ray = np.array([math.cos(direction), -math.sin(direction)])
    along = walls[:, 1] - walls[:, 0]
    start = walls[:, 0] - np.asarray(place)
    # Where place + s * ray = wall start + t * along, by Cramer's rule.
    cross = ray[0] * along[:, 1] - ray[1] * along[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        s = (start[:, 0] * along[:, 1] - start[:, 1] * along[:, 0]) / cross
        t = (start[:, 0] * ray[1] - start[:, 1] * ray[0]) / cross
    hits = s[(cross != 0) & (s >= 0) & (t >= 0) & (t <= 1)]
    return float(hits.min()) if len(hits) else math.inf


def _relative(view: View, place: tuple[float, float]) -> tuple[float, float]:
    """Return the angle to a place, to the left, from -pi to pi, and its distance."""
    x, z = place[0] - view.place[0], place[1] - view.place[1]
    angle = math.atan2(-z, x) - view.direction
    return (angle + math.pi) % (2 * math.pi) - math.pi, math.hypot(x, z)


def _direction(angle: float) -> str:
    degrees = DEGREES * round(math.degrees(angle) / DEGREES)
    if degrees == 0:
        return "straight ahead"
    return f"{abs(degrees)} degrees {'left' if degrees > 0 else 'right'}"
