"""An environment whose episodes never end by themselves, and one whose episodes end when they are told to."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import language_space


class Endless(gymnasium.Env[Any, Any]):
    """A road that goes on and on; its expert walks it.

    Args:
        ends_after: steps after which an episode ends, with success; None for never.
    """

    action_texts = ("rest", "walk on")

    def __init__(self, ends_after: int | None = None) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(2)
        self._ends_after = ends_after
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        over = self._steps == self._ends_after
        return self._words(), float(action), over, False, {"is_success": True} if over else {}

    def expert_action(self) -> int:
        return 1

    def _words(self) -> dict[str, str]:
        return {"instruction": "walk to the end", "observation": f"milestone {self._steps % 3}"}


gymnasium.register(id="Heed/Endless-v0", entry_point="tests.endless:Endless")
ENDLESS = "tests.endless:Heed/Endless-v0"
