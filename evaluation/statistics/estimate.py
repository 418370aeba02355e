"""A figure with its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TAIL = 0.025
"""What lies below a 95 % interval, and as much above it."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure, and the 95 % interval around it: the figure is never outside."""

    value: float
    """What was measured: a plain mean, difference or score of the episodes as they are."""
    low: float
    high: float

    @classmethod
    def from_draws(cls, value: float, draws: Floats, bounds: tuple[float, float] | None = None) -> Estimate:
        """Take the interval between the 2.5 % and the 97.5 % point of bootstrap draws.

        Args:
            value: the figure.
            draws: (resamples,), what the figure might be.
            bounds: what it cannot be below and above; the interval is cut there.
        """
        low, high = (float(point) for point in np.quantile(draws, (TAIL, 1 - TAIL)))
        if bounds is not None:
            low, high = max(low, bounds[0]), min(high, bounds[1])
        # Where all episodes succeeded, say, the draws lie below the figure, and the interval must reach up to it.
        return cls(value=value, low=min(low, value), high=max(high, value))

    def contains(self, number: float) -> bool:
        """Whether the interval holds a number, its ends included."""
        return self.low <= number <= self.high

    def as_json(self) -> dict[str, Any]:
        """Return `{"value": ..., "ci95": [low, high]}`."""
        return {"value": self.value, "ci95": [self.low, self.high]}
