"""The smallest environment that an agent can only master by reading its instruction."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import LanguageVecEnv, language_space

COLORS = ("red", "green", "blue")


class Buttons(gymnasium.Env[Any, Any]):
    """One step: press the button that the instruction names. Reading nothing succeeds one time in three."""

    action_texts = tuple(f"press {color}" for color in COLORS)

    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(len(COLORS))
        self._named = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._named = int(self.np_random.integers(len(COLORS)))
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        success = int(action) == self._named
        return self._words(), float(success), True, False, {"is_success": success}

    def _words(self) -> dict[str, str]:
        return {"instruction": f"press the {COLORS[self._named]} button", "observation": "three buttons"}


def make_buttons(n_envs: int, seed: int = 0) -> LanguageVecEnv:
    """Return `n_envs` of them, vectorised."""
    return LanguageVecEnv([Buttons] * n_envs, seed=seed)
