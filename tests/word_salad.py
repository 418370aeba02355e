"""An environment whose prompts are as long as each other, and no two alike."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import language_space

WORDS = ("red", "green", "blue", "ball", "box", "key", "door", "wall")
LENGTH = 12


class WordSalad(gymnasium.Env[Any, Any]):
    """Shows words that mean nothing, for ten steps."""

    action_texts = ("go forward", "turn left", "turn right", "pick up the ball")

    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(len(self.action_texts))
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._words(), 0.0, self._steps == 10, False, {"is_success": False}

    def _words(self) -> dict[str, str]:
        words = self.np_random.choice(WORDS, size=LENGTH)
        return {"instruction": "go to the red ball", "observation": " ".join(words)}


gymnasium.register(id="WordSalad-v0", entry_point="tests.word_salad:WordSalad")
