"""An agent for tests of what shows an episode: it learns nothing and reads nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces


class Uniform:
    """Stands in for an agent: every action is as likely as any other."""

    def __init__(self, action_space: spaces.Space[Any]):
        self.action_space = action_space

    def action_probabilities(self, words: dict[str, list[str]]) -> Any:
        assert isinstance(self.action_space, spaces.Discrete)
        return np.full((len(words["instruction"]), int(self.action_space.n)), 1 / int(self.action_space.n))

    def predict(self, words: dict[str, list[str]], deterministic: bool = False) -> Any:
        return np.zeros((len(words["instruction"]), *(self.action_space.shape or ()))), None

    def clear_cache(self) -> None:
        """It reads nothing."""
