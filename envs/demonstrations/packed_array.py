"""Arrays as they stand in a file of demonstrations: compressed, and in JSON as text.

What a file says is checked before anything is made of it: kind, shape, and that it holds exactly so many bytes.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DTYPES = {"float32": "<f4", "uint8": "|u1"}
"""The kinds of numbers that are stored, and how they stand in the bytes whatever the machine."""

MOST_BYTES = 2**32
"""Of one array: two such could not be held in the memory of most machines."""

_PIECE = 2**20


@dataclass(frozen=True)
class PackedArray:
    """An array, compressed without loss; two are equal if their numbers are, bit by bit, where both were made here."""

    dtype: str
    """One of `DTYPES`."""
    shape: tuple[int, ...]
    data: bytes
    """The array's bytes in C order, compressed by zlib."""

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> PackedArray:
        """Compress an array.

        Raises:
            ValueError: if its numbers are of no kind that is stored.
        """
        if array.dtype.name not in DTYPES:
            raise ValueError(f"Arrays of {' and '.join(DTYPES)} can be stored, not of {array.dtype}.")
        stored = np.ascontiguousarray(array, dtype=DTYPES[array.dtype.name])
        return cls(array.dtype.name, array.shape, zlib.compress(stored.tobytes()))

    def unpack(self) -> npt.NDArray[Any]:
        """Return the array, which belongs to the caller."""
        stored = np.frombuffer(bytearray(zlib.decompress(self.data)), dtype=DTYPES[self.dtype])
        return stored.reshape(self.shape).astype(self.dtype, copy=False)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON; `from_json` is the inverse."""
        return {
            "dtype": self.dtype,
            "shape": list(self.shape),
            "zlib": base64.b64encode(self.data).decode("ascii"),
        }

    @classmethod
    def from_json(cls, saved: Any) -> PackedArray:
        """Return what `as_json` wrote, if it is whole.

        Raises:
            KeyError, TypeError, ValueError: if it is not.
        """
        if not isinstance(saved, dict):
            raise TypeError(f"{str(saved)[:40]!r} is not an array")
        dtype, shape, text = saved["dtype"], saved["shape"], saved["zlib"]
        if dtype not in DTYPES:
            raise ValueError(f"{str(dtype)[:40]!r} is none of the kinds of numbers that are stored: {list(DTYPES)}")
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"{str(shape)[:40]!r} is not an array's shape")
        size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if size > MOST_BYTES:
            raise ValueError(f"an array of {size} bytes is larger than the {MOST_BYTES} that are read")
        if not isinstance(text, str):
            raise TypeError(f"{str(text)[:40]!r} is not an array's bytes")
        data = base64.b64decode(text, validate=True)
        if not _holds(data, size):
            raise ValueError(f"an array of the shape {shape} does not hold {size} bytes")
        return cls(dtype, tuple(shape), data)


def _holds(data: bytes, size: int) -> bool:
    """Say whether compressed bytes are exactly `size` bytes; no more of them is ever in memory than a piece."""
    reader, left = zlib.decompressobj(), size
    try:
        while left >= 0:
            piece = reader.decompress(data, _PIECE)
            left -= len(piece)
            data = reader.unconsumed_tail
            if reader.eof or not (piece or data):  # or it is cut off
                break
    except zlib.error:
        return False
    return left == 0 and reader.eof and not reader.unused_data
