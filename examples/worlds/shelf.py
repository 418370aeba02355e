"""A world of one's own in which order counts: "take what is left of the crimson vase", "take the fan left of the vase".

    heed check-env ./examples/worlds/shelf.py
    heed train --env ./examples/worlds/shelf.py --steps 150000
    heed evaluate runs/shelf-ppo-seed0 --env-kwargs words=evaluation       # of other things and colours

Five things stand in a row, and one step ends the episode: who takes one at random is right in a fifth of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs import LanguageObservation, language_space

PLACES = 5
COLORS = {
    "training": ("crimson", "cobalt", "olive", "golden", "silver", "violet", "scarlet", "emerald", "sienna", "lilac"),
    "evaluation": ("mauve", "azure", "slate", "ruby", "jade"),
}
NOUNS = {
    "training": ("vase", "goblet", "lute", "fan", "puppet", "dagger", "scroll", "mask", "bell", "bowl"),
    "evaluation": ("crown", "bottle", "doll", "whistle", "thimble"),
}
SIDES = {"left": 1, "right": -1}
"""Where what is named stands, from what is meant."""


class Shelf(gymnasium.Env[Any, Any]):
    """Take the thing that stands to the left or right of another.

    Args:
        words: which names there are, "training" or "evaluation": they have none in common.
    """

    action_texts = tuple(f"take what is in place {place}" for place in range(1, PLACES + 1))

    def __init__(self, words: str = "training") -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(PLACES)
        self._colors, self._nouns = COLORS[words], NOUNS[words]
        self._row: list[str] = []
        self._instruction = ""
        self._meant = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Put up a row, and mean one of its things by where it stands."""
        super().reset(seed=seed)
        side = str(self.np_random.choice(list(SIDES)))
        kinds = self._draw(self._nouns, 3)
        while True:
            # Of few colours and kinds: both words are needed, and things of a kind stand on both sides of another.
            colors = self._draw(self._colors, 3)
            names = [f"{color} {kind}" for color in colors for kind in kinds]
            self._row = self._draw(names, PLACES)
            self._meant = int(self.np_random.integers(PLACES))
            beside = self._meant + SIDES[side]
            if not 0 <= beside < PLACES:
                continue
            if self.np_random.random() < 0.5:
                self._instruction = f"take what is {side} of the {self._row[beside]}"
                return self._words(), {}
            kind, other = (self._row[place].split()[-1] for place in (self._meant, beside))
            if kind != other and self._count(kind, side, other) == 1:
                self._instruction = f"take the {kind} {side} of the {other}"
                return self._words(), {}

    def _draw(self, words: Sequence[str], number: int) -> list[str]:
        return [str(word) for word in self.np_random.choice(words, size=number, replace=False)]

    def _count(self, kind: str, side: str, other: str) -> int:
        """Return how many things of a kind stand directly on that side of one of another."""
        kinds = [name.split()[-1] for name in self._row]
        return list(itertools.pairwise(kinds)).count((kind, other) if side == "left" else (other, kind))

    def step(self, action: int) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Take a thing."""
        success = int(action) == self._meant
        return self._words(), float(success), True, False, {"is_success": success}

    def _words(self) -> LanguageObservation:
        row = "; ".join(f"place {number}: {name}" for number, name in enumerate(self._row, start=1))
        return {"instruction": self._instruction, "observation": f"from left to right: {row}"}


gymnasium.register(id="Shelf-v0", entry_point=f"{__name__}:Shelf")
