"""Auxiliary observations of any environment: the numbers that its text rounds, and an image.

`numbers` are the entries of all arrays of real numbers, and of those integers that the text only summarises, one after
the other; `image` is the first picture. What varies in length from one observation to the next (a Sequence, a Graph, a
OneOf) is in neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from heed.envs.words.large_arrays import is_large, is_picture

MOST_NUMBERS = 1_000
"""The most entries that `numbers` has; an array that would exceed it is left out whole."""

LARGEST = np.finfo(np.float32).max
"""What stands for all numbers beyond it, infinity included: a policy reads numbers, and words say "infinity"."""

Read = Callable[[Any], Any]
"""Takes a part out of an observation."""


class AuxiliaryObservations:
    """Takes the auxiliary observations out of the values of one space.

    Args:
        space: of the plain environment's observations.
    """

    def __init__(self, space: spaces.Space[Any]):
        self.spaces: dict[str, spaces.Space[Any]] = {}
        """The keys of the language observation, and what they hold; empty where words lose nothing."""
        self._numbers: list[Read] = []
        self._image: Read | None = None
        boxes: list[spaces.Space[Any]] = []
        room = MOST_NUMBERS
        for part, read in _arrays_in(space, lambda value: value):
            if is_picture(part) and is_large(part) and len(part.shape or ()) == 3 and (part.shape or ())[2] == 3:
                if self._image is None:
                    self._image = read
                    self.spaces["image"] = part
            elif _is_rounded(part) and (size := int(np.prod(part.shape or ()))) <= room:
                self._numbers.append(read)
                boxes.append(part)
                room -= size
        if boxes:
            low, high = (np.concatenate([_bound(box, side) for box in boxes]) for side in ("low", "high"))
            self.spaces["numbers"] = spaces.Box(low, high, dtype=np.float32)

    def __call__(self, observation: Any) -> dict[str, Any]:
        """Return the auxiliary observations of `observation`, under the keys of `spaces`."""
        told: dict[str, Any] = {}
        if self._image is not None:
            told["image"] = np.array(self._image(observation))
        if self._numbers:
            numbers = as_numbers(*(read(observation) for read in self._numbers))
            told["numbers"] = np.clip(numbers, -LARGEST, LARGEST, out=numbers)  # leaves NaN, which is a fault
        return told


def as_numbers(*arrays: Any) -> npt.NDArray[np.float32]:
    """Return the entries of arrays one after the other as float32; what is too large for that becomes infinite."""
    with np.errstate(over="ignore"):
        flat = [np.array(array, dtype=np.float32).ravel() for array in arrays]
    return flat[0] if len(flat) == 1 else np.concatenate(flat)


def _arrays_in(space: spaces.Space[Any], read: Read) -> Iterator[tuple[spaces.Space[Any], Read]]:
    """Yield the arrays in a space, through Dicts and Tuples, each with what takes it out of an observation."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        fields = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in fields:
            yield from _arrays_in(part, partial(_entry, read, key))
    elif isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        yield space, read


def _entry(read: Read, key: Any, observation: Any) -> Any:
    return read(observation)[key]


def _is_rounded(space: spaces.Space[Any]) -> bool:
    """Say whether words lose something of an array."""
    if isinstance(space, spaces.Box) and np.issubdtype(np.dtype(space.dtype), np.floating):
        return int(np.prod(space.shape)) > 0
    return is_large(space)


def _bound(space: spaces.Space[Any], side: str) -> npt.NDArray[np.float32]:
    """Return the bounds of an array's entries."""
    if isinstance(space, spaces.Box):
        return as_numbers(getattr(space, side))
    size = int(np.prod(space.shape or ()))
    if side == "low":
        return as_numbers(getattr(space, "start", np.zeros(size)))
    if isinstance(space, spaces.MultiDiscrete):
        return as_numbers(np.asarray(space.start) + np.asarray(space.nvec) - 1)
    return np.ones(size, dtype=np.float32)
