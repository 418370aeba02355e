"""A world with all that Heed can use of one, in one file: bring a thing to a room.

    heed check-env ./examples/errands.py
    heed train --env ./examples/errands.py --steps 60000
    heed evaluate runs/errands-ppo-seed0

Beside the language contract, which is `reset`, `step`, two spaces and `action_texts`, it has an expert, for
demonstrations, and tells which instructions an episode has fulfilled and which others it could have been given: what
hindsight replay learns from, and what an evaluation asks for. None of these is needed to train.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import LanguageObservation, language_space

ROOMS = ("garden", "hall", "kitchen")
"""In a row, from west to east."""
THINGS = ("cup", "book")
MISSING = ("ball", "hat")
"""Things that are never there."""
WEST, EAST, DROP, TAKE = range(4)
"""The actions; TAKE and those after it take the first thing, the second, ..."""


class Errands(gymnasium.Env[Any, Any]):
    """Things lie about in three rooms; the episode ends when the named one is put down in the named room."""

    action_texts = ("go west", "go east", "put it down", *(f"take the {thing}" for thing in THINGS))

    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(len(self.action_texts))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Lay the things about and choose an errand that is not done yet."""
        super().reset(seed=seed)
        self._room = int(self.np_random.integers(len(ROOMS)))
        self._places = [int(place) for place in self.np_random.integers(len(ROOMS), size=len(THINGS))]
        self._carried: int | None = None
        self._put_down: int | None = None
        self._thing = int(self.np_random.integers(len(THINGS)))
        elsewhere = [room for room in range(len(ROOMS)) if room != self._places[self._thing]]
        self._goal = int(self.np_random.choice(elsewhere))
        self._began = list(self._places)
        return self._words(), {}

    def step(self, action: int) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Go, take, or put down; what cannot be done changes nothing."""
        self._put_down = None
        if action == WEST:
            self._room = max(self._room - 1, 0)
        elif action == EAST:
            self._room = min(self._room + 1, len(ROOMS) - 1)
        elif action == DROP:
            self._put_down, self._carried = self._carried, None
        elif self._carried is None and self._places[action - TAKE] == self._room:
            self._carried = int(action) - TAKE
        if self._carried is not None:
            self._places[self._carried] = self._room
        success = self._put_down == self._thing and self._room == self._goal
        return self._words(), float(success), success, False, {"is_success": success}

    def _words(self) -> LanguageObservation:
        where = [
            f"{thing} {'in your hand' if self._carried == index else f'in the {ROOMS[place]}'}"
            for index, (thing, place) in enumerate(zip(THINGS, self._places, strict=True))
        ]
        return {
            "instruction": _errand(THINGS[self._thing], ROOMS[self._goal]),
            "observation": "; ".join([f"you are in the {ROOMS[self._room]}", *where]),
        }

    def expert_action(self) -> int:
        """Return what an expert would do now: `heed demos` records it."""
        if self._carried is not None and self._carried != self._thing:
            return DROP
        target = self._goal if self._carried == self._thing else self._places[self._thing]
        if self._room != target:
            return EAST if self._room < target else WEST
        return DROP if self._carried == self._thing else TAKE + self._thing

    def fulfilled_instructions(self) -> Mapping[str, float]:
        """Return the errands that the last step has done, each with its reward: hindsight replay learns from them."""
        if self._put_down is None or self._room == self._began[self._put_down]:
            return {}
        return {_errand(THINGS[self._put_down], ROOMS[self._room]): 1.0}

    def possible_instructions(self) -> tuple[str, ...]:
        """Return the other errands that could be run in this episode."""
        return tuple(
            _errand(thing, ROOMS[room])
            for index, thing in enumerate(THINGS)
            for room in range(len(ROOMS))
            if room != self._began[index] and (index, room) != (self._thing, self._goal)
        )

    def impossible_instructions(self) -> tuple[str, ...]:
        """Return errands that nobody can run: there is no such thing."""
        return tuple(_errand(thing, room) for thing in MISSING for room in ROOMS)


def _errand(thing: str, room: str) -> str:
    return f"bring the {thing} to the {room}"


gymnasium.register(id="Errands-v0", entry_point=f"{__name__}:Errands", max_episode_steps=30)
