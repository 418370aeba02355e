"""A tiny environment whose actions change from state to state."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs import ChangingActions, LanguageVecEnv, language_space

COLORS = ("red", "green", "blue", "grey")
MOST = 3


class Doors(gymnasium.Env[Any, Any]):
    """Two rooms, each with two or three doors: open the door that the instruction names, twice.

    Another door ends the episode without a reward. Which doors there are, and in which order, is drawn for each room;
    opening any of them without reading succeeds one time in six on the average, or less.
    """

    def __init__(self, numbers: bool = False) -> None:
        self._numbers = numbers
        self.observation_space = language_space(changing_actions=True)
        if numbers:
            box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
            self.observation_space = language_space(changing_actions=True, numbers=box)
        self.action_space = ChangingActions(MOST)
        self._named, self._room = 0, 0
        self._doors: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._named, self._room = int(self.np_random.integers(len(COLORS))), 1
        self._enter()
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not 0 <= action < len(self._doors):
            raise ValueError(f"There are {len(self._doors)} doors, but the action is {action}.")
        right = self._doors[int(action)] == self._named
        over = not right or self._room == 2
        if not over:
            self._room = 2
            self._enter()
        return self._words(), float(right and over), over, False, {"is_success": right and over}

    def _enter(self) -> None:
        others = [color for color in range(len(COLORS)) if color != self._named]
        chosen = self.np_random.choice(others, size=int(self.np_random.integers(1, MOST)), replace=False).tolist()
        self._doors = [int(door) for door in self.np_random.permutation([self._named, *chosen])]

    def _words(self) -> dict[str, Any]:
        observation: dict[str, Any] = {
            "instruction": f"open the {COLORS[self._named]} door",
            "observation": f"room {self._room}",
            "actions": tuple(f"open {COLORS[door]} door" for door in self._doors),
        }
        if self._numbers:
            observation["numbers"] = np.array([self._room, len(self._doors)], dtype=np.float32)
        return observation


class Dial(gymnasium.Env[Any, Any]):
    """A number between -1 and 1 that no word tells: say whether it is above zero. Guessing succeeds half the time."""

    action_texts = ("below zero", "above zero")

    def __init__(self, picture: bool = False) -> None:
        self._picture = picture
        self.observation_space = language_space(numbers=spaces.Box(-1, 1, (3,), np.float32))
        if picture:
            self.observation_space = language_space(image=spaces.Box(0, 255, (9, 7, 3), np.uint8))
        self.action_space = spaces.Discrete(2)
        self._number = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._number = float(self.np_random.uniform(-1, 1))
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        success = bool(action) == (self._number > 0)
        return self._words(), float(success), True, False, {"is_success": success}

    def _words(self) -> dict[str, Any]:
        words: dict[str, Any] = {"instruction": "read the dial", "observation": "a dial"}
        if self._picture:
            words["image"] = np.full((9, 7, 3), 250 if self._number > 0 else 5, dtype=np.uint8)
        else:
            words["numbers"] = np.array([0.5, self._number, -0.5], dtype=np.float32)
        return words


def make_doors(n_envs: int, seed: int = 0, **options: Any) -> LanguageVecEnv:
    """Return `n_envs` of them, vectorised."""
    return LanguageVecEnv([lambda: Doors(**options)] * n_envs, seed=seed)


def make_dials(n_envs: int, seed: int = 0, **options: Any) -> LanguageVecEnv:
    """Return `n_envs` of them, vectorised."""
    return LanguageVecEnv([lambda: Dial(**options)] * n_envs, seed=seed)
