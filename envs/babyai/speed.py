"""MiniGrid and BabyAI, faster, with nothing changed in what they do.

Three of their methods take most of the time, being loops over cells in Python: drawing the agent's view, which
every step does; finding the instruction's things again after each attempt to drop something; and testing whether
all things of a new level can be reached. The tests compare each with the original.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from operator import itemgetter
from types import MethodType
from typing import Any

import numpy as np
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Wall
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.minigrid_env import MiniGridEnv

_UNSEEN_CODE = bytes((OBJECT_TO_IDX["unseen"], 0, 0))
_EMPTY_CODE = bytes((OBJECT_TO_IDX["empty"], 0, 0))
_OUTSIDE = Wall()  # what MiniGrid shows beyond the grid's edge


def speed_up(env: MiniGridEnv) -> None:
    """Give this `env` the faster methods below, in place of those that its class has from MiniGrid or BabyAI."""
    faster: dict[str, Any] = {}
    if _inherits(env, MiniGridEnv, "gen_obs", "gen_obs_grid"):
        faster["gen_obs"] = MethodType(gen_obs, env)
    if _inherits(env, RoomGridLevel, "check_objs_reachable"):
        faster["check_objs_reachable"] = MethodType(check_objs_reachable, env)
    if _inherits(env, RoomGridLevel, "update_objs_poss"):
        faster["update_objs_poss"] = PositionUpdates(env)
    for name, method in faster.items():
        setattr(env, name, method)


def _inherits(env: MiniGridEnv, ancestor: type[Any], *names: str) -> bool:
    """Say whether `env` has these methods of `ancestor`, overridden by nobody."""
    return isinstance(env, ancestor) and all(
        name not in vars(env) and getattr(type(env), name) is getattr(ancestor, name) for name in names
    )


def gen_obs(env: MiniGridEnv) -> dict[str, Any]:
    """Return exactly what `MiniGridEnv.gen_obs` returns.

    That cuts the view out of the grid, rotates it up to four times, spreads the light through it and encodes it.
    Where the view's cells lie in the grid depends on the agent's pose only, and what is lit on what hides the
    cells behind it, so both are looked up here, in tables that MiniGrid's own code fills.
    """
    grid, size = env.grid, env.agent_view_size
    if type(grid) is not Grid:  # one that may cut, light or encode otherwise
        observation: dict[str, Any] = MiniGridEnv.gen_obs(env)
        return observation
    left, top, _, _ = env.get_view_exts()
    pick_cells = _cells_in_view(grid.width, grid.height, left, top, size, env.agent_dir + 1)
    cells = pick_cells([*grid.grid, _OUTSIDE])

    lit: Iterable[int] = range(len(cells))
    if not env.see_through_walls:
        lit = _lit_cells(bytes([0 if cell and not cell.see_behind() else 1 for cell in cells]), size)
    codes = [_UNSEEN_CODE] * len(cells)
    for index in lit:
        cell = cells[index]
        codes[index] = _EMPTY_CODE if cell is None else bytes(cell.encode())
    # The agent's own cell shows what it carries.
    carried: Any = env.carrying
    codes[size // 2 * size + size - 1] = bytes(carried.encode()) if carried else _EMPTY_CODE

    # A bytearray, since MiniGrid's own picture can be written to.
    image = np.frombuffer(bytearray(b"".join(codes)), dtype=np.uint8).reshape(size, size, 3)
    return {"image": image, "direction": env.agent_dir, "mission": env.mission}


@functools.lru_cache(maxsize=10_000)
def _cells_in_view(
    width: int, height: int, left: int, top: int, size: int, quarter_turns: int
) -> Callable[[list[Any]], tuple[Any, ...]]:
    """Return what picks the view's cells, column by column, from a grid's cells and one cell from outside it."""
    numbers: Any = Grid(width, height)
    numbers.grid = list(range(width * height))
    view = numbers.slice(left, top, size, size)
    for _ in range(quarter_turns):
        view = view.rotate_left()
    found = [view.get(i, j) for i in range(size) for j in range(size)]
    return itemgetter(*[-1 if isinstance(number, Wall) else number for number in found])


@functools.lru_cache(maxsize=10_000)
def _lit_cells(see_behind: bytes, size: int) -> tuple[int, ...]:
    """Return which of the view's cells the agent sees, given which cells it can see behind."""
    view = Grid(size, size)
    for index, transparent in enumerate(see_behind):
        if not transparent:
            view.set(*divmod(index, size), _OUTSIDE)
    mask = view.process_vis(agent_pos=(size // 2, size - 1))
    return tuple(np.flatnonzero(mask).tolist())


class PositionUpdates:
    """Does what `RoomGridLevel.update_objs_poss` does, if there is anything to do.

    That searches the level for each thing of the instruction after every action "drop". What it finds depends on
    the cells only, so where these are as they were it is spared: most drops of a beginner drop nothing.
    """

    def __init__(self, level: Any):
        self._level = level
        self._last: list[Any] = []

    def __call__(self, instr: Any = None) -> None:
        """Bring the positions up to date of all things, or of those of a part `instr` of the instruction."""
        level = self._level
        if instr is not None:  # the original comes back for the parts of an instruction
            RoomGridLevel.update_objs_poss(level, instr)
            return
        now = [level.instrs, *level.grid.grid]
        if now != self._last:  # compares identities: things have no equality of their own
            RoomGridLevel.update_objs_poss(level)
            self._last = now


def check_objs_reachable(level: RoomGridLevel, raise_exc: bool = True) -> bool:
    """Return or raise exactly what `RoomGridLevel.check_objs_reachable` does.

    Sets of cells are integers here, one bit a cell, so all cells are reached at once that lie one step further.
    The original tells which thing is out of reach, if it is to raise.
    """
    grid = level.grid
    stride = grid.width + 1  # a bit more than a row has cells, so that no step leads from its end to the next row
    free = things = 0
    for index, cell in enumerate(grid.grid):
        bit = 1 << (index + index // grid.width)
        if not cell or cell.type == "door":
            free |= bit
        if cell and cell.type != "wall":
            things |= bit

    x, y = level.agent_pos
    inside, reached = 0, 1 << (int(y) * stride + int(x))
    while inside != reached & free:
        inside = reached & free
        reached |= inside << 1 | inside >> 1 | inside << stride | inside >> stride
    if things & ~reached:
        return raise_exc and bool(RoomGridLevel.check_objs_reachable(level, raise_exc))
    return True
