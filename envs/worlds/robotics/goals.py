"""Goals of a robot in words: places told in whole centimetres, from somewhere that is named.

Directions are the robot's own, as Gymnasium-Robotics' simulations have them: x goes ahead, y to the left, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = Sequence[float] | npt.NDArray[np.float64]

HERE = "here"

_WAYS = (("ahead", "back"), ("left", "right"), ("up", "down"))


def offset_in_words(offset: Numbers) -> str:
    """Return an offset in metres as "12 cm ahead, 5 cm left, 3 cm up", or "here" where all round to zero.

    Args:
        offset: along x, y and, if there is one, z.
    """
    parts = []
    for length, (positive, negative) in zip(offset, _WAYS, strict=False):
        centimetres = round(100 * float(length))
        if centimetres:
            parts.append(f"{abs(centimetres)} cm {positive if centimetres > 0 else negative}")
    return ", ".join(parts) or HERE


def height_in_words(metres: float) -> str:
    """Return how high above the table something is: "on the table", or "12 cm above the table"."""
    centimetres = round(100 * float(metres))
    if centimetres == 0:
        return "on the table"
    return f"{abs(centimetres)} cm {'above' if centimetres > 0 else 'below'} the table"


def gripper_goal(goal: Numbers, start: Numbers) -> str:
    """Return the instruction to move the gripper; both places are (x, y, z) in metres."""
    where = offset_in_words(_difference(goal, start))
    return "keep the gripper where it starts" if where == HERE else f"move the gripper {where} from where it starts"


def thing_goal(verb: str, thing: str, goal: Numbers, start: Numbers, table: float) -> str:
    """Return the instruction to bring a thing somewhere.

    It reads as "push the block to 4 cm left of where the gripper starts, on the table".

    Args:
        verb: what to do with it.
        thing: what it is called.
        goal: (x, y, z) in metres.
        start: where the gripper starts.
        table: height at which the thing lies on the table.
    """
    where = offset_in_words(_difference(goal, start)[:2])
    place = "below where the gripper starts" if where == HERE else f"to {where} of where the gripper starts"
    return f"{verb} the {thing} {place}, {height_in_words(goal[2] - table)}"


def _difference(one: Numbers, other: Numbers) -> list[float]:
    return [float(a) - float(b) for a, b in zip(one, other, strict=True)]


def maze_goal(cell: tuple[int, int]) -> str:
    """Return the instruction to roll the ball into a cell of a maze; rows and columns count from 1, outer walls too."""
    return f"roll the ball to row {cell[0] + 1}, column {cell[1] + 1} of the maze"


def maze_observation(
    maze: Sequence[Sequence[Any]],
    cell: tuple[int, int],
    to_goal: Numbers,
    velocity: Numbers,
) -> str:
    """Return what a ball in a maze perceives: "row 2, column 2; goal 210 cm right, 100 cm down; wall up; wall left".

    Args:
        maze: its map, row by row from above; 1 is a wall.
        cell: (row, column) of the ball.
        to_goal: (x to the right, y up) in metres.
        velocity: likewise, in metres a second.
    """
    row, column = cell
    parts = [f"row {row + 1}, column {column + 1}", f"goal {_on_the_map(to_goal) or HERE}"]
    speed = _on_the_map(velocity)
    parts.append(f"rolling {speed} a second" if speed else "at rest")
    sides = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
    for name, (down, right) in sides.items():
        r, c = row + down, column + right
        if not (0 <= r < len(maze) and 0 <= c < len(maze[0])) or maze[r][c] == 1:
            parts.append(f"wall {name}")
    return "; ".join(parts)


def _on_the_map(offset: Numbers) -> str:
    """Return an offset as "210 cm right, 100 cm down"; "" where both round to zero."""
    parts = []
    for length, (positive, negative) in zip(offset, (("right", "left"), ("up", "down")), strict=True):
        centimetres = round(100 * float(length))
        if centimetres:
            parts.append(f"{abs(centimetres)} cm {positive if centimetres > 0 else negative}")
    return ", ".join(parts)
