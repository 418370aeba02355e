"""From the actions that a training chooses to those of a plain environment.

What is learned counts from 0 and has one dimension: SB3 would choose from 0 to 10 where `MultiDiscrete([11],
start=[25])` has 25 to 35, and knows no `MultiBinary` of rows and columns. So an environment that is put into words acts
in such a space, and each action becomes one of its own space just before its step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

ToPlain = Callable[[Any], Any]
"""Makes an action of the plain environment's space of one that a training has chosen."""


def learned_actions(plain: spaces.Space[Any]) -> tuple[spaces.Space[Any], ToPlain | None]:
    """Return the space in which a training acts for a plain environment's, and the way back.

    Args:
        plain: the environment's action space.

    Returns:
        A space that counts from 0 and has one dimension, and what makes a plain action of one of it: None where the
        plain space itself is such a one, or of a kind that nothing can be learned in.
    """
    match plain:
        case spaces.Discrete() if plain.start != 0:
            first = int(plain.start)
            return spaces.Discrete(int(plain.n)), lambda action: int(action) + first
        case spaces.MultiDiscrete() if np.any(plain.start) or plain.nvec.ndim != 1:
            learned = spaces.MultiDiscrete(plain.nvec.ravel(), dtype=plain.dtype.type)
            return learned, lambda action: _shaped(action, plain) + plain.start
        case spaces.MultiBinary() if not isinstance(plain.n, int):
            return spaces.MultiBinary(int(np.prod(plain.shape))), lambda action: _shaped(action, plain)
        case spaces.Box() if plain.shape == () or not plain.is_bounded():
            return FiniteBox(plain), lambda action: _shaped(action, plain)
    return plain, None


class FiniteBox(spaces.Box):
    """A box with bounds and at least one dimension, as SB3 wants it, in the place of one that need not have either.

    Where there is no bound stands the largest float32. It is drawn from as from the other: from -3e38 to 3e38 most
    numbers would be of a size that no environment has seen.

    Args:
        plain: the other one.
    """

    def __init__(self, plain: spaces.Box):
        self.plain = plain
        low, high = (bound.reshape(plain.shape or (1,)) for bound in (plain.low, plain.high))
        if plain.dtype.kind == "f":
            most = min(float(np.finfo(np.float32).max), float(np.finfo(plain.dtype.name).max))
            # Where the one bound lies beyond the largest float32, the other takes its place.
            low = np.where(np.isfinite(low), low, np.minimum(-most, np.where(np.isfinite(high), high, most)))
            high = np.where(np.isfinite(high), high, np.maximum(most, low))
        super().__init__(low.astype(plain.dtype), high.astype(plain.dtype), dtype=plain.dtype.type)

    def seed(self, seed: int | dict[str, Any] | None = None) -> Any:
        """Seed the draws."""
        return self.plain.seed(seed)  # type: ignore[arg-type]

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        """Draw as from the plain box, within the bounds of this one."""
        return np.clip(self.plain.sample(), self.low, self.high).astype(self.dtype).reshape(self.shape)


def _shaped(action: Any, plain: spaces.Space[Any]) -> Any:
    return np.asarray(action, dtype=plain.dtype).reshape(plain.shape or ())
