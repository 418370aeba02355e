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
        case spaces.Box() if plain.shape == ():
            low, high = plain.low.reshape(1), plain.high.reshape(1)
            return spaces.Box(low, high, dtype=plain.dtype.type), lambda action: _shaped(action, plain)
    return plain, None


def _shaped(action: Any, plain: spaces.Space[Any]) -> Any:
    return np.asarray(action, dtype=plain.dtype).reshape(plain.shape or ())
