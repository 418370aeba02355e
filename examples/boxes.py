"""A whole environment of one's own, in one file: open the box that the instruction names.

    heed check-env examples.boxes:Boxes-v0
    heed train --env examples.boxes:Boxes-v0 --steps 30000

It speaks the language contract itself, so it needs no verbalizer: the observation space has `instruction` and
`observation`, `action_texts` names the actions, and `info["is_success"]` is set on the last step.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import LanguageObservation, language_space

COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
PLACES = ("left", "ahead", "right")


class Boxes(gymnasium.Env[Any, Any]):
    """Three boxes of different colours stand left, ahead and right; opening one ends the episode."""

    action_texts = tuple(f"open {place}" for place in PLACES)

    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(len(self.action_texts))
        self._boxes: list[str] = []
        self._named = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Put up three boxes and name one of them."""
        super().reset(seed=seed)
        self._boxes = [str(color) for color in self.np_random.choice(COLORS, size=len(PLACES), replace=False)]
        self._named = int(self.np_random.integers(len(PLACES)))
        return self._words(), {}

    def step(self, action: int) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Open a box."""
        success = int(action) == self._named
        return self._words(), float(success), True, False, {"is_success": success}

    def _words(self) -> LanguageObservation:
        boxes = "; ".join(f"{color} box 1 {place}" for color, place in zip(self._boxes, PLACES, strict=True))
        return {"instruction": f"open the {self._boxes[self._named]} box", "observation": boxes}


gymnasium.register(id="Boxes-v0", entry_point="examples.boxes:Boxes")
