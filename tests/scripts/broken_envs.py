"""Environments that break the language contract, each in one way."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import language_space


class _ThreeActions(gymnasium.Env[Any, Any]):
    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return {"instruction": "wait", "observation": "nothing"}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return {"instruction": "wait", "observation": "nothing"}, 0.0, True, False, {"is_success": True}


class NoTexts(_ThreeActions):
    """Names no actions."""


class TooFewTexts(_ThreeActions):
    """Names two of three actions."""

    action_texts = ("one", "two")


class SameTexts(_ThreeActions):
    """Names two actions alike."""

    action_texts = ("one", "two", "two")


for broken in (NoTexts, TooFewTexts, SameTexts):
    gymnasium.register(id=f"{broken.__name__}-v0", entry_point=f"{__name__}:{broken.__name__}")
