"""A whole environment of one's own, in one file: press the button under the lamp that the instruction names.

    heed check-env examples.lamps:Lamps-v0
    heed train --env examples.lamps:Lamps-v0 --steps 20000

It speaks the language contract itself, so it needs no verbalizer: the observation space has `instruction` and
`observation`, `action_texts` names the actions, and `info["is_success"]` is set on the last step.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import LanguageObservation, language_space

COLORS = ("red", "green", "blue", "yellow", "purple")
PLACES = ("left", "middle", "right")


class Lamps(gymnasium.Env[Any, Any]):
    """Three lamps of different colours stand over three buttons; one press ends the episode."""

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 - Gymnasium's own form
    action_texts = tuple(f"press the {place} button" for place in PLACES)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(len(self.action_texts))
        self._lamps: list[str] = []
        self._named = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Light three lamps and name one of them."""
        super().reset(seed=seed)
        self._lamps = [str(color) for color in self.np_random.choice(COLORS, size=len(PLACES), replace=False)]
        self._named = int(self.np_random.integers(len(PLACES)))
        return self._words(), {}

    def step(self, action: int) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Press a button."""
        success = int(action) == self._named
        return self._words(), float(success), True, False, {"is_success": success}

    def render(self) -> Any:
        """Return the lamps as text."""
        return self._words()["observation"]

    def _words(self) -> LanguageObservation:
        lamps = "; ".join(f"{color} lamp {place}" for color, place in zip(self._lamps, PLACES, strict=True))
        return {"instruction": f"press the button under the {self._lamps[self._named]} lamp", "observation": lamps}


gymnasium.register(id="Lamps-v0", entry_point="examples.lamps:Lamps")
