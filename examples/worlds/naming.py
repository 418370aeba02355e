"""A world of one's own in which things have names: "take the amber lamp".

    heed check-env ./examples/worlds/naming.py
    heed train --env ./examples/worlds/naming.py --steps 30000
    heed evaluate runs/naming-ppo-seed0 --env-kwargs words=evaluation     # of other things and colours

Four slots hold a thing each, and one step ends the episode: who takes one at random is right in a quarter of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs import LanguageObservation, language_space

SLOTS = 4
COLORS = {
    "training": (
        *("amber", "teal", "maroon", "ivory", "indigo", "khaki"),
        *("coral", "bronze", "magenta", "beige", "turquoise", "charcoal"),
    ),
    "evaluation": ("lavender", "ochre", "burgundy", "copper", "pearl", "russet"),
}
NOUNS = {
    "training": (
        *("lamp", "kettle", "banjo", "compass", "basket", "candle"),
        *("teacup", "umbrella", "pillow", "ladder", "trumpet", "anchor"),
    ),
    "evaluation": ("saddle", "telescope", "broom", "necklace", "pitcher", "drum"),
}


class Naming(gymnasium.Env[Any, Any]):
    """Take the named thing out of one of four slots.

    Args:
        words: which names there are, "training" or "evaluation": they have none in common.
    """

    action_texts = tuple(f"take what is in slot {slot}" for slot in range(1, SLOTS + 1))

    def __init__(self, words: str = "training") -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(SLOTS)
        self._colors, self._nouns = COLORS[words], NOUNS[words]
        self._things: list[str] = []
        self._named = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Fill the slots and name one of the things."""
        super().reset(seed=seed)
        # Of few colours and kinds, so that things often share one: neither word alone says which is meant.
        names = [f"{color} {noun}" for color in self._few(self._colors) for noun in self._few(self._nouns)]
        self._things = [str(name) for name in self.np_random.choice(names, size=SLOTS, replace=False)]
        self._named = int(self.np_random.integers(SLOTS))
        return self._words(), {}

    def _few(self, words: Sequence[str]) -> list[str]:
        return [str(word) for word in np.asarray(self.np_random.choice(words, size=3, replace=False))]

    def step(self, action: int) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Take a thing."""
        success = int(action) == self._named
        return self._words(), float(success), True, False, {"is_success": success}

    def _words(self) -> LanguageObservation:
        slots = "; ".join(f"slot {number}: {thing}" for number, thing in enumerate(self._things, start=1))
        return {"instruction": f"take the {self._things[self._named]}", "observation": slots}


gymnasium.register(id="Naming-v0", entry_point=f"{__name__}:Naming")
