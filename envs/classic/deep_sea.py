"""Deep Sea in words: the smallest place where an agent that explores by chance finds nothing.

Osband et al. 2019 (bsuite, arXiv 1908.03568, "Deep Sea"; first in arXiv 1703.07608): a boat sinks one step at a time
through an N x N grid and drifts to the left or right; the treasure lies on the ground at the far right, and each drift
to the right costs a little. So exactly one of 2^N dives finds it, and on the way to it all that is felt is the cost.
Random actions need about 2^N dives; to try what was not tried before takes a number that grows with a power of N.

Which of the two levers drifts to the right differs from place to place, drawn once from `level_seed`: "always the same
lever" is no answer, and the levers' words do not give it away.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs.contract import LanguageObservation, language_space

COST = 0.01
"""Of all the drifts to the right that lead to the treasure together."""


class DeepSea(gymnasium.Env[Any, Any]):
    """A dive of `size` steps; reaching the treasure gives 1, each drift to the right costs 0.01 / `size`.

    Args:
        size: steps of a dive, N.
        level_seed: draws which lever drifts to the right at each place.

    Raises:
        ValueError: if `size` is less than 2.
    """

    action_texts = ("pull the red lever", "pull the blue lever")

    def __init__(self, size: int = 10, level_seed: int = 0):
        if size < 2:
            raise ValueError(f"The sea's size is {size}, but must be at least 2.")
        self.size = size
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(len(self.action_texts))
        self.right = np.random.default_rng(level_seed).integers(2, size=(size, size))
        """The action that drifts to the right at each depth and place."""
        self._depth = self._place = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Begin at the surface, at the far left."""
        super().reset(seed=seed)
        self._depth = self._place = 0
        return self._words(), {}

    def step(self, action: int) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Sink by one step and drift."""
        reward, found = 0.0, False
        if int(action) == self.right[self._depth, self._place]:
            reward -= COST / self.size
            found = self._depth == self._place == self.size - 1
            self._place = min(self._place + 1, self.size - 1)
        else:
            self._place = max(self._place - 1, 0)
        self._depth += 1
        if found:
            reward += 1.0
        return self._words(), reward, self._depth == self.size, False, {"is_success": found}

    def _words(self) -> LanguageObservation:
        return {
            "instruction": "find the treasure on the ground of the sea",
            "observation": f"depth {self._depth}; place {self._place}",
        }
