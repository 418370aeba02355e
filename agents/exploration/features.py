"""Fixed random encodings of texts, and of arrays, for networks that learn fast which of them are new.

The vector of a text is the sum of random vectors, one for each of its tokens and for each pair of neighbours, so that
"row 2; column 3" and "row 3; column 2" differ. Texts of a level have most of their words in common: the vectors are
whitened by a running mean and standard deviation and clipped to [-5, 5], as Burda et al. 2018 (arXiv 1810.12894,
section 2.4) whiten pictures. An array's entries are whitened one by one, brought to the width by a random matrix, and
whitened again, so that few that change among many count as much as a text does.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

PADDING = -1
BUCKETS = 8192
"""Different tokens and pairs that have a vector of their own, give or take a collision."""
CLIP = 5.0


class Whitening(nn.Module):
    """Whitens vectors by the running mean and standard deviation of those that it has observed.

    Args:
        width: of the vectors.
        least_deviation: what is divided by at least: what has never differed so far would be divided by nothing.
    """

    mean: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, width: int, least_deviation: float = 1e-2):
        super().__init__()
        self.least_deviation = least_deviation
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(width, dtype=torch.float64))  # sum of squared differences
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def whiten(self, raw: Tensor, *, observe: bool) -> Tensor:
        """Return the whitened vectors, (B, width), of vectors; with `observe`, their statistics take them in first."""
        if observe:
            self._observe(raw.double())
        deviation = (self.squares / self.count.clamp(min=1)).sqrt()
        whitened = (raw - self.mean) / deviation.clamp(min=self.least_deviation)
        return whitened.clamp(-CLIP, CLIP).float()

    def _observe(self, raw: Tensor) -> None:
        """Take a batch into mean and deviation (Chan et al. 1979, the parallel form)."""
        count = self.count + len(raw)
        mean = raw.mean(dim=0)
        difference = mean - self.mean
        self.squares += ((raw - mean) ** 2).sum(dim=0) + difference**2 * self.count * len(raw) / count
        self.mean += difference * len(raw) / count
        self.count.copy_(count)


class TextFeatures(Whitening):
    """Encodes rows of ids; nothing in it is learned but mean and standard deviation.

    Args:
        width: of the vectors.
        generator: draws them.
    """

    vectors: Tensor

    def __init__(self, *, width: int, generator: torch.Generator):
        super().__init__(width)
        vectors = torch.randn(BUCKETS + 1, width, generator=generator)
        vectors[BUCKETS] = 0.0  # of padding
        self.register_buffer("vectors", vectors)

    def forward(self, ids: Tensor, *, observe: bool = False) -> Tensor:
        """Return the whitened vectors, (B, width), of rows of ids (B, L), padded with -1 on the right.

        With `observe`, mean and standard deviation take them in first.
        """
        return self.whiten(self.raw(ids), observe=observe)

    def raw(self, ids: Tensor) -> Tensor:
        """Return the sums of vectors, (B, width)."""
        length = max(1, int((ids != PADDING).sum(dim=1).max()))
        ids = ids[:, :length].long()
        absent = ids == PADDING
        singles = (ids * 2_654_435_761 % 4_294_967_291 % BUCKETS).masked_fill(absent, BUCKETS)
        pairs = (ids[:, :-1] * 40_503 + ids[:, 1:] * 2_246_822_519 + 1) % 4_294_967_291 % BUCKETS
        pairs = pairs.masked_fill(absent[:, 1:], BUCKETS)
        return functional.embedding_bag(
            torch.cat([singles, pairs], dim=1), self.vectors, mode="sum", padding_idx=BUCKETS
        )


class ArrayFeatures(nn.Module):
    """Encodes arrays of numbers; nothing in it is learned but means and standard deviations.

    Args:
        size: entries of an array.
        width: of the vectors.
        generator: draws the matrix between the two.
    """

    matrix: Tensor

    def __init__(self, size: int, *, width: int, generator: torch.Generator):
        super().__init__()
        # Numbers are of any unit: what is 1e-5 here may be much.
        self.entries, self.vectors = Whitening(size, least_deviation=1e-6), Whitening(width)
        self.register_buffer("matrix", torch.randn(size, width, generator=generator) / size**0.5)

    def forward(self, arrays: Tensor, *, observe: bool = False) -> Tensor:
        """Return the whitened vectors, (B, width), of arrays (B, size); `observe` as in `TextFeatures`."""
        entries = self.entries.whiten(arrays, observe=observe)
        return self.vectors.whiten(entries @ self.matrix, observe=observe)


def word_ids(texts: Sequence[str]) -> Tensor:
    """Return a row of ids for each text, (B, L), one for each word, padded with -1; equal words have equal ids."""
    rows = [_ids_of(text) for text in texts]
    ids: npt.NDArray[np.int64] = np.full((len(rows), max(1, *map(len, rows))), PADDING, dtype=np.int64)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(ids)


@lru_cache(maxsize=100_000)
def _ids_of(text: str) -> tuple[int, ...]:
    return tuple(zlib.crc32(word.encode()) for word in text.replace(";", " ; ").split())


def adam_state(optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Return all that an Adam optimizer remembers, as tensors."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entries in state.items() for name, value in entries.items()}


def set_adam_state(optimizer: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    """Put what `adam_state` returned back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
