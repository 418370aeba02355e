"""A tiny environment that tells what an episode fulfilled, whatever it was told to do."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import language_space

PLACES = ("left", "middle", "right")
STEP_COST = -0.125


class Places(gymnasium.Env[Any, Any]):
    """Three places in a row: be at the one that the instruction names. Each step costs a little."""

    action_texts = ("go left", "go right", "stay")

    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(3)
        self._at, self._goal, self._steps, self._new = 1, 0, 0, False
        self._seen: set[int] = set()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._at, self._goal, self._steps, self._new = 1, int(self.np_random.integers(3)), 0, False
        self._seen = set()
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._at = min(max(self._at + (-1, 1, 0)[int(action)], 0), 2)
        self._steps += 1
        self._new = self._at not in self._seen
        self._seen.add(self._at)
        success = self._at == self._goal
        reward = 1.0 if success else STEP_COST
        return self._words(), reward, success, not success and self._steps == 4, {"is_success": success}

    def fulfilled_instructions(self) -> dict[str, float]:
        """Tell what being here for the first time fulfils; each place would have paid 1."""
        return {f"be {PLACES[self._at]}": 1.0} if self._new and self._steps else {}

    def _words(self) -> dict[str, str]:
        return {"instruction": f"be {PLACES[self._goal]}", "observation": f"you are {PLACES[self._at]}"}
