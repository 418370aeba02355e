"""What words say of arrays that are too large to be told number by number: pictures, grids, long vectors.

A summary loses most of what the array holds. What it loses goes to the policy as an auxiliary observation
(`heed.envs.words.auxiliary`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

MOST_SPELT = 64
"""Entries of an array, or items of a list, that are told one by one."""

COLOURS = {
    "black": (0, 0, 0),
    "dark grey": (70, 70, 70),
    "grey": (130, 130, 130),
    "light grey": (195, 195, 195),
    "white": (255, 255, 255),
    "red": (220, 40, 40),
    "dark red": (110, 20, 20),
    "green": (60, 180, 60),
    "dark green": (20, 90, 20),
    "blue": (50, 80, 220),
    "dark blue": (15, 25, 100),
    "light blue": (140, 190, 240),
    "yellow": (235, 225, 50),
    "orange": (240, 145, 35),
    "brown": (130, 80, 35),
    "purple": (140, 50, 160),
    "pink": (245, 150, 190),
    "cyan": (50, 215, 215),
}
"""Names for colours: red, green, blue from 0 to 255; the nearest one is told."""

_SAMPLED = 8  # pixels along each side of a ninth of a picture: enough for a mean, and as fast for any size
_ROWS = ("top", "middle", "bottom")
_COLOUR_NAMES = tuple(COLOURS)
_COLOUR_VALUES = np.array(tuple(COLOURS.values()), dtype=np.float32)


def is_large(space: spaces.Space[Any]) -> bool:
    """Say whether the values of a space are arrays that are summarised."""
    arrays = spaces.Box | spaces.MultiBinary | spaces.MultiDiscrete
    return isinstance(space, arrays) and math.prod(space.shape) > MOST_SPELT


def is_picture(space: spaces.Space[Any]) -> bool:
    """Say whether a space holds pictures: bytes, (height, width) or (height, width, 1 or 3)."""
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and (len(space.shape) == 2 or (len(space.shape) == 3 and space.shape[2] in (1, 3)))
        and min(space.shape[:2]) >= len(_ROWS)
        and int(space.high.max()) == 255
    )


def summary_of(space: spaces.Space[Any]) -> Callable[[Any], str]:
    """Return what summarises the values of a large space."""
    if isinstance(space, spaces.MultiBinary):
        return lambda value: f"{int(np.count_nonzero(value))} of {math.prod(space.shape or ())} on"
    return _picture_in_words if is_picture(space) else _array_in_words


def _picture_in_words(value: Any) -> str:
    """Return the colours of a picture's nine parts, row by row."""
    picture: npt.NDArray[Any] = np.asarray(value)
    rows, columns = (_samples(size) for size in picture.shape[:2])
    sampled = picture[rows[:, None], columns].reshape(3, _SAMPLED, 3, _SAMPLED, -1)
    means = np.broadcast_to(sampled.mean(axis=(1, 3), dtype=np.float32), (3, 3, max(3, sampled.shape[-1])))
    nearest = np.square(means[:, :, None, :] - _COLOUR_VALUES).sum(axis=-1).argmin(axis=-1)  # (3, 3)
    told = (
        f"{where} {', '.join(_COLOUR_NAMES[i] for i in row)}"
        for where, row in zip(_ROWS, nearest.tolist(), strict=True)
    )
    return f"picture of {picture.shape[0]} by {picture.shape[1]}, {', '.join(told)}"


def _samples(size: int) -> npt.NDArray[np.int64]:
    """Return the indices of `3 * _SAMPLED` pixels, evenly over a side: a third of them in each third."""
    return ((np.arange(3 * _SAMPLED) + 0.5) * size / (3 * _SAMPLED)).astype(np.int64)


def _array_in_words(value: Any) -> str:
    """Return an array's shape, range and mean, and where its largest entry stands."""
    array: npt.NDArray[Any] = np.asarray(value)
    shape = " by ".join(map(str, array.shape))
    numbers = array.astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        return f"{shape} numbers, none of them finite"
    strange = int(finite.size - np.count_nonzero(finite))
    rest = f", {strange} not finite" if strange else ""
    known = numbers[finite]
    top = " ".join(map(str, np.unravel_index(int(np.where(finite, numbers, -np.inf).argmax()), array.shape)))
    with np.errstate(over="ignore"):  # the sum of what is near the largest float64
        extremes = (known.min(), known.max(), known.mean())
    low, high, mean = (f"{float(number) + 0.0:.3g}" for number in extremes)
    return f"{shape} numbers from {low} to {high}, mean {mean}, largest at {top}{rest}"
