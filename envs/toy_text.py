"""Gymnasium's toy-text environments in words: FrozenLake, Taxi, CliffWalking.

The words say all that the state's number says (the tests hold them apart for every state), in the manner of
`heed.envs.babyai`: places are told from where the agent stands, up, down, left and right as on the map.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from heed.envs.verbalize import Verbalizer

CLIFF_STEPS = 200
"""Of an episode of CliffWalking, which has no time limit of its own: an agent might walk to and fro for ever."""


def offset(rows: int, columns: int) -> str:
    """Return where something lies that many rows down and columns to the right: "2 up 1 right", or "here"."""
    parts = []
    if rows:
        parts.append(f"{abs(rows)} {'down' if rows > 0 else 'up'}")
    if columns:
        parts.append(f"{abs(columns)} {'right' if columns > 0 else 'left'}")
    return " ".join(parts) or "here"


GROUND = {"S": "ice", "F": "ice", "H": "hole", "G": "goal"}
"""The letters of FrozenLake's maps."""
STOPS = ("red", "green", "yellow", "blue")
"""Of Taxi's map, in the order of its numbers."""
RIDING = 4
"""Where Taxi's passenger is in the taxi."""


class FrozenLakeVerbalizer(Verbalizer):
    """Where the goal is, and what lies on each side."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        lake: Any = env.unwrapped
        self._map = [[cell.decode() for cell in row] for row in lake.desc]
        self._goal = next((r, row.index("G")) for r, row in enumerate(self._map) if "G" in row)

    def instruction(self, observation: Any) -> str:
        """Return the one task."""
        return "walk over the frozen lake to the goal, around the holes"

    def observation(self, observation: Any) -> str:
        """Return the goal's place and the four neighbours: "goal 3 down 3 right; ice down; ice right"."""
        row, column = divmod(int(observation), len(self._map[0]))
        parts = [f"goal {offset(self._goal[0] - row, self._goal[1] - column)}"]
        for name, (down, right) in {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}.items():
            r, c = row + down, column + right
            if 0 <= r < len(self._map) and 0 <= c < len(self._map[0]):
                parts.append(f"{GROUND[self._map[r][c]]} {name}")
        return "; ".join(parts)

    def action_texts(self) -> tuple[str, ...]:
        """Return the four ways to go."""
        return ("go left", "go down", "go right", "go up")


class TaxiVerbalizer(Verbalizer):
    """Where the passenger and the destination are, and on which sides walls stand."""

    def instruction(self, observation: Any) -> str:
        """Return the episode's task."""
        *_, destination = self._decode(observation)
        return f"take the passenger to the {STOPS[destination]} stop"

    def observation(self, observation: Any) -> str:
        """Return where everything is: "red stop 2 up 1 left; passenger at the green stop, 2 up 3 right; wall right"."""
        row, column, passenger, destination = self._decode(observation)
        taxi: Any = self.env.unwrapped
        places = [offset(r - row, c - column) for r, c in taxi.locs]
        parts = [f"{STOPS[destination]} stop {places[destination]}"]
        if passenger == RIDING:
            parts.append("passenger in the taxi")
        else:
            parts.append(f"passenger at the {STOPS[passenger]} stop, {places[passenger]}")
        # The map: "|" is a wall between two cells, ":" a passage.
        for name, place in (("left", 2 * column), ("right", 2 * column + 2)):
            if taxi.desc[1 + row, place] == b"|":
                parts.append(f"wall {name}")
        return "; ".join(parts)

    def action_texts(self) -> tuple[str, ...]:
        """Return the six things that a taxi does."""
        return (
            "drive down",
            "drive up",
            "drive right",
            "drive left",
            "pick the passenger up",
            "let the passenger out",
        )

    def _decode(self, observation: Any) -> tuple[int, int, int, int]:
        taxi: Any = self.env.unwrapped
        row, column, passenger, destination = taxi.decode(int(observation))
        return int(row), int(column), int(passenger), int(destination)


class CliffWalkingVerbalizer(Verbalizer):
    """Where the goal is, and on which side the cliff."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        limited = env.spec is not None and env.spec.max_episode_steps is not None
        super().__init__(env if limited else TimeLimit(env, CLIFF_STEPS))
        cliff: Any = env.unwrapped
        self._shape: tuple[int, int] = cliff.shape
        self._cliff = cliff._cliff

    def instruction(self, observation: Any) -> str:
        """Return the one task."""
        return "walk to the goal, and do not step over the cliff"

    def observation(self, observation: Any) -> str:
        """Return the goal's place, and the sides with the cliff or the map's edge: "goal 1 down 11 right"."""
        row, column = divmod(int(observation), self._shape[1])
        parts = [f"goal {offset(self._shape[0] - 1 - row, self._shape[1] - 1 - column)}"]
        for name, (down, right) in {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1)}.items():
            r, c = row + down, column + right
            if 0 <= r < self._shape[0] and 0 <= c < self._shape[1] and self._cliff[r, c]:
                parts.append(f"cliff {name}")
        return "; ".join(parts)

    def action_texts(self) -> tuple[str, ...]:
        """Return the four ways to go."""
        return ("go up", "go right", "go down", "go left")

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the goal was reached: nothing else ends an episode, and no reward is positive."""
        return terminated
