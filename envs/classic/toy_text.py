"""Gymnasium's toy-text environments in words: FrozenLake, Taxi, CliffWalking, Blackjack.

The words say all that the state's number says (the tests hold them apart for every state), in the manner of
`heed.envs.babyai.words`: places are told from where the agent stands, up, down, left and right as on the map.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium
from gymnasium.envs.toy_text.frozen_lake import MAPS
from gymnasium.wrappers import TimeLimit

from heed.envs.classic.planned_expert import PlannedExpert
from heed.envs.words.verbalize import Verbalizer

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
MOST_HOLES = 40
"""Of a map of one's own so many holes are told, the nearest first."""
STOPS = ("red", "green", "yellow", "blue")
"""Of Taxi's map, in the order of its numbers."""
RIDING = 4
"""Where Taxi's passenger is in the taxi."""


class StateVerbalizer(Verbalizer):
    """A verbalizer for an environment whose observation is a state's number: each state is put into words once.

    The environment's own table of transitions makes an expert: what it does is the best that can be done.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(PlannedExpert(env))
        self._told: dict[int, str] = {}

    def observation(self, observation: Any) -> str:
        """Return the state's words."""
        told = self._told.get(observation)
        if told is None:
            told = self._told[observation] = self.describe_state(int(observation))
        return told

    @abstractmethod
    def describe_state(self, state: int) -> str:
        """Put a state into words."""


class FrozenLakeVerbalizer(StateVerbalizer):
    """Where the goal is, and what lies on each side.

    On Gymnasium's two maps, which an agent meets again in each episode, that tells places apart. On any other, random
    or one's own, the words name all other holes as well (`MOST_HOLES`), so that a way can be found on maps never seen.

    Raises:
        ValueError: if the map has no goal.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        lake: Any = env.unwrapped
        self._map = [[cell.decode() for cell in row] for row in lake.desc]
        self._goals, self._holes = self._places("G"), self._places("H")
        if not self._goals:
            raise ValueError(f"The frozen lake {[''.join(row) for row in self._map]} has no goal: put a G on its map.")
        self._tells_holes = ["".join(row) for row in self._map] not in MAPS.values()

    def instruction(self, observation: Any) -> str:
        """Return the one task."""
        return "walk over the frozen lake to the goal, around the holes"

    def describe_state(self, state: int) -> str:
        """Return the goal's place and the four neighbours: "goal 3 down 3 right; ice down; ice right"."""
        row, column = divmod(state, len(self._map[0]))
        parts = [f"goal {offset(r - row, c - column)}" for r, c in self._goals]
        beside = {(row, column)}
        for name, (down, right) in {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}.items():
            r, c = row + down, column + right
            if 0 <= r < len(self._map) and 0 <= c < len(self._map[0]):
                parts.append(f"{GROUND[self._map[r][c]]} {name}")
                beside.add((r, c))
        if self._tells_holes:
            others = sorted((abs(r - row) + abs(c - column), r, c) for r, c in self._holes if (r, c) not in beside)
            told = [offset(r - row, c - column) for _, r, c in others[:MOST_HOLES]]
            if told:
                parts.append(f"hole{'s' if len(told) > 1 else ''} {', '.join(told)}")
        return "; ".join(parts)

    def action_texts(self) -> tuple[str, ...]:
        """Return the four ways to go."""
        return ("go left", "go down", "go right", "go up")

    def _places(self, letter: str) -> list[tuple[int, int]]:
        return [(r, c) for r, row in enumerate(self._map) for c, cell in enumerate(row) if cell == letter]


class TaxiVerbalizer(StateVerbalizer):
    """Where the passenger and the destination are, and on which sides walls stand."""

    def instruction(self, observation: Any) -> str:
        """Return the episode's task."""
        return f"take the passenger to the {STOPS[int(observation) % len(STOPS)]} stop"

    def describe_state(self, state: int) -> str:
        """Return where everything is: "red stop 2 up 1 left; passenger at the green stop, 2 up 3 right; wall right"."""
        taxi: Any = self.env.unwrapped
        row, column, passenger, destination = taxi.decode(state)
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


class CliffWalkingVerbalizer(StateVerbalizer):
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

    def describe_state(self, state: int) -> str:
        """Return the goal's place, and the sides with the cliff: "goal 1 down 10 right; cliff down"."""
        row, column = divmod(state, self._shape[1])
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


class BlackjackVerbalizer(Verbalizer):
    """The sum of one's cards, whether an ace among them counts as 11, and the dealer's open card. Success is to win."""

    def instruction(self, observation: Any) -> str:
        """Return the one task."""
        return "beat the dealer: come closer to 21, and not beyond"

    def observation(self, observation: Any) -> str:
        """Return what lies on the table: "you have 15, an ace counts as 11; the dealer shows 10"."""
        total, dealer, usable_ace = observation
        ace = ", an ace counts as 11" if usable_ace else ""
        bust = ", too much" if total > 21 else ""
        return f"you have {total}{bust}{ace}; the dealer shows {'an ace' if dealer == 1 else dealer}"

    def action_texts(self) -> tuple[str, ...]:
        """Return what a player may do."""
        return ("stick", "take a card")
