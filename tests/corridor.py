"""Five cells in a row, to try wrappers on: every step is known by heart."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import language_space
from heed.envs.wrappers.task import Moment, Task

LEFT, RIGHT = 0, 1


class Corridor(gymnasium.Env[Any, Any]):
    """Go from the middle to the right end. No limit: an episode may last for ever."""

    action_texts = ("go left", "go right")

    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(2)
        self.place = 2

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 2
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = min(max(self.place + (1 if action == RIGHT else -1), 0), 4)
        over = self.place == 4
        return self._words(), 10.0 if over else -0.5, over, False, {"is_success": True} if over else {}

    def expert_action(self) -> int:
        return RIGHT

    def _words(self) -> dict[str, str]:
        return {"instruction": "go to the right end", "observation": f"cell {self.place}"}


def at(place: int, name: str, **more: Any) -> Task:
    """Return the task to be at a place."""
    return Task(f"be at {name}", success=lambda moment: moment.observation["observation"] == f"cell {place}", **more)


def went_left_then_right(moment: Moment) -> bool:
    """Say whether the last step came back to the middle."""
    return moment.number > 1 and moment.observation["observation"] == "cell 2"
