"""A draw among named things by their weights, as a mixture draws levels and `Instructions` draws tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


class WeightedDraw:
    """Draws one of several.

    Args:
        names: what they are called, each differently.
        weights: how often each is drawn, against the others' weights.

    Raises:
        ValueError: if the weights cannot be.
    """

    def __init__(self, names: Sequence[str], weights: Sequence[float]):
        self.names = tuple(names)
        self._weights: tuple[float, ...] = ()
        self.weights = tuple(weights)

    @property
    def weights(self) -> tuple[float, ...]:
        """How often each is drawn, against the others'."""
        return self._weights

    @weights.setter
    def weights(self, weights: Sequence[float]) -> None:
        """Draw by other weights from now on.

        Raises:
            ValueError: if there are not as many as names, one is negative or not finite, or all are zero.
        """
        weights = tuple(float(weight) for weight in weights)
        if len(weights) != len(self.names):
            raise ValueError(f"There are {len(weights)} weights for {len(self.names)} to draw from: {self.names}.")
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(f"Weights are numbers from 0 on, not all of them 0, but these are {weights}.")
        self._weights = weights

    def draw(self, generator: np.random.Generator, possible: Sequence[bool] | None = None) -> int:
        """Return the index of one, with a single draw of `generator`.

        Args:
            generator: draws one number, whatever the weights are.
            possible: which of them may be drawn; None for all.

        Raises:
            ValueError: if none of those has a weight.
        """
        allowed = possible or [True] * len(self.names)
        weights = [weight if may else 0.0 for weight, may in zip(self._weights, allowed, strict=True)]
        if not any(weights):
            raise ValueError(f"None of {self.names} can be drawn: the weights are {self._weights}.")
        bounds = np.cumsum(weights)
        index = int(np.searchsorted(bounds, generator.random() * bounds[-1], side="right"))
        # The product may be rounded up to the last bound itself.
        return min(index, max(index for index, weight in enumerate(weights) if weight))


class DrawsByWeight:
    """Mixin for an environment that draws what an episode is about; a curriculum sets the weights between episodes."""

    _draw: WeightedDraw

    @property
    def drawn_names(self) -> tuple[str, ...]:
        """The names of what is drawn."""
        return self._draw.names

    @property
    def weights(self) -> tuple[float, ...]:
        """How often each is drawn, against the others."""
        return self._draw.weights

    def set_weights(self, weights: Sequence[float]) -> None:
        """Draw for coming episodes by other weights.

        Raises:
            ValueError: if there are not as many as names, one is negative, or all are zero.
        """
        self._draw.weights = tuple(weights)
