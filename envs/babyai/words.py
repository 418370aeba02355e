"""BabyAI and MiniGrid in words: what the agent sees and carries, told from where it stands.

    red ball 2 left 3 ahead; closed grey door 4 ahead; wall 4 ahead; wall 1 right; carrying blue key

- Things come first, the nearest first; then walls; then what the agent carries.
- `2 left 3 ahead` is a place in the agent's own frame; a zero is left out (`3 ahead`, `2 left`).
- `wall 4 ahead` is a whole line: all that is seen at that distance is wall (or a door that is named).
  `wall 2 right` likewise.
- `wall 3 to 1 left 4 ahead` and `wall 2 left 1 to 3 ahead` are shorter pieces, `wall 2 left 4 ahead` is one cell;
  where a cell's words would mean a line, they end in `alone`: `wall 4 ahead alone`.
- A cell that is not named is empty or out of sight.

The words hold all that the 7x7 symbolic picture holds but that last difference; the tests rebuild the picture
from them. BabyAI's instructions of the form "the ball on your left" mean left of where the episode *began*, and ours of
the form "the ball left of the box" left as seen from there; with those, and only those, the words also tell where that
was: `start 1 left 2 behind facing right`.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.minigrid_env import MiniGridEnv

from heed.envs.babyai.bot import BotExpert
from heed.envs.babyai.instructions import FulfilledInstructions
from heed.envs.babyai.relations import SIDED
from heed.envs.babyai.speed import speed_up
from heed.envs.words.verbalize import Verbalizer

ACTION_TEXTS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle", "done")
"""Words for MiniGrid's seven actions, in the order of `minigrid.core.actions.Actions`."""

NOTHING = "nothing"
"""What the words say where the agent sees no thing and no wall and carries nothing."""

_UNSEEN, _EMPTY = OBJECT_TO_IDX["unseen"], OBJECT_TO_IDX["empty"]
_WALL, _DOOR, _LAVA = OBJECT_TO_IDX["wall"], OBJECT_TO_IDX["door"], OBJECT_TO_IDX["lava"]
_NO_THINGS = frozenset((_UNSEEN, _EMPTY, _WALL))
# All that the words for walls depend on: what else is seen stands as if it were empty.
_WALL_OR_DOOR = bytes(kind if kind in (_UNSEEN, _WALL, _DOOR) else _EMPTY for kind in range(256))
_DOOR_STATES = {index: state for state, index in STATE_TO_IDX.items()}
_RELATIVE_PLACES = ("in front of you", "behind you", "on your left", "on your right")
_HEADINGS = ("ahead", "right", "behind", "left")  # of another heading, in quarter turns clockwise from ours

Cell = tuple[int, int]
"""A place in the agent's frame: (steps to the right, negative for left; steps ahead)."""


class QuietLevelGeneration(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps BabyAI from printing "Sampling rejected" to the terminal, and mends its first observation."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment with standard output held back."""
        with contextlib.redirect_stdout(io.StringIO()):
            observation, info = self.env.reset(seed=seed, options=options)
        minigrid: Any = self.env.unwrapped
        if minigrid.carrying is not None:
            # The PutNext...Carrying levels hand the agent its thing after they have drawn the first observation.
            observation = {**observation, "image": minigrid.gen_obs()["image"]}
        return observation, info


class MiniGridVerbalizer(Verbalizer):
    """Words for every MiniGrid and BabyAI environment with the symbolic partial view, of any size."""

    reads_through = ("DirectionObsWrapper", "ViewSizeWrapper")

    @classmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        """Say whether a space holds a symbolic view and a mission."""
        if not isinstance(space, spaces.Dict) or not {"image", "mission"} <= space.spaces.keys():
            return False
        image = space.spaces["image"]
        return isinstance(image, spaces.Box) and len(image.shape) == 3 and image.shape[2] == 3

    def __init__(self, env: gymnasium.Env[Any, Any]):
        unwrapped = env.unwrapped
        if not isinstance(unwrapped, MiniGridEnv):
            raise TypeError(f"This verbalizer needs a MiniGrid environment, not {type(unwrapped).__name__}.")
        speed_up(unwrapped)
        quiet = QuietLevelGeneration(env)
        is_babyai = isinstance(unwrapped, RoomGridLevel)
        super().__init__(FulfilledInstructions(BotExpert(quiet)) if is_babyai else quiet)
        self._minigrid = unwrapped
        self._start_position = (0, 0)
        self._start_direction = 0

    def on_reset(self) -> None:
        """Remember where the episode began: some instructions speak of it."""
        self._start_position = (int(self._minigrid.agent_pos[0]), int(self._minigrid.agent_pos[1]))
        self._start_direction = int(self._minigrid.agent_dir)

    def instruction(self, observation: Any) -> str:
        """Return BabyAI's or MiniGrid's mission as it stands; Playground, which has none, lets the agent explore."""
        return str(observation["mission"]) or "explore"

    def observation(self, observation: Any) -> str:
        """Return what the agent sees and carries."""
        image: npt.NDArray[np.uint8] = observation["image"]
        words = _describe_view(image.tobytes(), image.shape[0], image.shape[1])
        if _speaks_of_the_start(observation["mission"]):
            return f"{words}; {self._describe_start()}"
        return words

    def action_texts(self) -> tuple[str, ...]:
        """Return the words for MiniGrid's seven actions (or the first few, where a level has fewer)."""
        space = self._minigrid.action_space
        assert isinstance(space, spaces.Discrete)
        return ACTION_TEXTS[: int(space.n)]

    def _describe_start(self) -> str:
        (x, y), (start_x, start_y) = self._minigrid.agent_pos, self._start_position
        forward, right = self._minigrid.dir_vec, self._minigrid.right_vec
        offset = (start_x - int(x), start_y - int(y))
        side = offset[0] * int(right[0]) + offset[1] * int(right[1])
        ahead = offset[0] * int(forward[0]) + offset[1] * int(forward[1])
        heading = _HEADINGS[(self._start_direction - int(self._minigrid.agent_dir)) % 4]
        return f"start {_place(side, ahead)} facing {heading}"


@functools.lru_cache(maxsize=10_000)
def _speaks_of_the_start(mission: str) -> bool:
    return any(place in mission for place in _RELATIVE_PLACES) or any(f" {side} " in mission for side in SIDED)


@functools.lru_cache(maxsize=100_000)
def _describe_view(image: bytes, width: int, height: int) -> str:
    """Put MiniGrid's encoded view into words; memoised, since small levels show the same views again."""
    kinds = image[::3]
    phrases = [
        f"{_thing(image[3 * index : 3 * index + 3])} {place}"
        for index, place in _places_in_order(width, height)
        if kinds[index] not in _NO_THINGS
    ]
    phrases += _describe_walls(kinds.translate(_WALL_OR_DOOR), width, height)
    own = (width // 2) * height + height - 1  # the agent's own cell shows what it carries
    if kinds[own] not in (_EMPTY, _UNSEEN):
        phrases.append(f"carrying {_thing(image[3 * own : 3 * own + 3])}")
    return "; ".join(phrases) or NOTHING


@functools.lru_cache(maxsize=16)
def _places_in_order(width: int, height: int) -> tuple[tuple[int, str], ...]:
    """Return the view's cells but the agent's own, the nearest first: each its index in the view, and its words."""
    cells = [(i - width // 2, height - 1 - j) for i in range(width) for j in range(height)]
    order = sorted((ahead + abs(side), ahead, side, index) for index, (side, ahead) in enumerate(cells))
    return tuple((index, _place(side, ahead)) for distance, ahead, side, index in order if distance > 0)


@functools.lru_cache(maxsize=10_000)
def _describe_walls(kinds: bytes, width: int, height: int) -> tuple[str, ...]:
    """Return phrases that name every wall cell of the view; memoised, since many views differ in their things only."""
    view = {
        (i - width // 2, height - 1 - j): kinds[i * height + j]
        for i in range(width)
        for j in range(height)
        if kinds[i * height + j] != _UNSEEN
    }
    view.pop((0, 0), None)  # what the agent carries
    return tuple(_wall_phrases(view))


def _wall_phrases(view: dict[Cell, int]) -> Iterator[str]:
    """Yield phrases that name every wall cell of the view, whole lines first."""
    walls = {place for place, kind in view.items() if kind == _WALL}
    rows: dict[int, set[Cell]] = {}
    columns: dict[int, set[Cell]] = {}
    for side, ahead in view:
        rows.setdefault(ahead, set()).add((side, ahead))
        columns.setdefault(side, set()).add((side, ahead))

    def is_line(line: set[Cell]) -> bool:
        """Two or more walls, and nothing seen on the line but walls and doors."""
        return len(line & walls) >= 2 and all(place in walls or view[place] == _DOOR for place in line)

    told: set[Cell] = set()
    for ahead in sorted(rows):
        # Ahead 0 is the agent's own row: walls on it stand beside the agent, so a line is not all there is.
        if ahead > 0 and is_line(rows[ahead]):
            told |= rows[ahead]
            yield f"wall {_place(0, ahead)}"
    for side in sorted(columns, key=lambda side: (abs(side), side)):
        if side != 0 and is_line(columns[side]) and (columns[side] & walls) - told:
            told |= columns[side]
            yield f"wall {_place(side, 0)}"

    rest = walls - told
    while rest:
        side, ahead = min(rest, key=lambda place: (place[1] + abs(place[0]), place[1], place[0]))
        across = _run({s for s, a in rest if a == ahead}, side)
        along = _run({a for s, a in rest if s == side}, ahead)
        if len(across) >= len(along):
            rest -= {(s, ahead) for s in across}
            yield f"wall {_span(across, ahead)}"
        else:
            rest -= {(side, a) for a in along}
            beside = f"{_place(side, 0)} " if side else ""
            yield f"wall {beside}{along[0]} to {along[-1]} ahead"


def _run(positions: set[int], start: int) -> range:
    """Return the longest run of consecutive positions that holds `start`."""
    low = high = start
    while low - 1 in positions:
        low -= 1
    while high + 1 in positions:
        high += 1
    return range(low, high + 1)


def _span(across: range, ahead: int) -> str:
    """Return the words for the cells from `across[0]` to `across[-1]` at distance `ahead`."""
    if len(across) == 1:
        # "wall 2 left" and "wall 4 ahead" mean whole lines.
        only = _place(across[0], ahead)
        return only if across[0] and ahead else f"{only} alone"
    first, final = across[0], across[-1]
    if first < 0 < final:
        sides = f"{-first} left to {final} right"
    elif final <= 0:
        sides = f"{-first} to {-final} left"
    else:
        sides = f"{first} to {final} right"
    return f"{sides} {ahead} ahead"


def _place(side: int, ahead: int) -> str:
    """Return the words for a place in the agent's frame: "2 left 3 ahead"."""
    parts = []
    if side:
        parts.append(f"{abs(side)} {'left' if side < 0 else 'right'}")
    if ahead:
        parts.append(f"{abs(ahead)} {'behind' if ahead < 0 else 'ahead'}")
    return " ".join(parts) or "here"


@functools.lru_cache(maxsize=1_000)
def _thing(code: bytes) -> str:
    """Return the name of an encoded thing: "red ball", "closed grey door", "lava"."""
    kind, color, state = code
    name = IDX_TO_OBJECT[kind]
    if kind == _LAVA:
        return name
    if kind == _DOOR:
        return f"{_DOOR_STATES[state]} {IDX_TO_COLOR[color]} {name}"
    return f"{IDX_TO_COLOR[color]} {name}"
