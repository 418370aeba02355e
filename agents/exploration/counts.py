"""How often something was seen, by a hash of the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def fingerprint(content: bytes) -> int:
    """Return 63 bits that tell `content` apart from any other, the same in every process."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little") >> 1  # fits an int64, as tensors hold


class Counts:
    """A row of counts for every state.

    Args:
        columns: counts in a row: one for each action, or 1 for the state alone.
    """

    def __init__(self, columns: int = 1):
        self.columns = columns
        self._rows: dict[int, int] = {}
        self._table: npt.NDArray[np.int64] = np.zeros((64, columns), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, states: Sequence[int], columns: Sequence[int] | npt.NDArray[Any]) -> None:
        """Count one more of each pair of a state's fingerprint and a column."""
        for state, column in zip(states, columns, strict=True):
            row = self._rows.setdefault(state, len(self._rows))
            if row == len(self._table):
                self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._table[row, column] += 1

    def of(self, states: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return the counts of states, (B, columns); zeros for those never seen."""
        counts = np.zeros((len(states), self.columns), dtype=np.int64)
        for place, state in enumerate(states):
            row = self._rows.get(state)
            if row is not None:
                counts[place] = self._table[row]
        return counts

    def get_state(self) -> dict[str, Tensor]:
        """Return all counts as tensors."""
        states = torch.tensor(list(self._rows), dtype=torch.int64)
        return {"states": states, "counts": torch.from_numpy(self._table[: len(self._rows)].copy())}

    def set_state(self, tensors: dict[str, Tensor]) -> None:
        """Put the counts of `get_state` back."""
        self._rows = {state: row for row, state in enumerate(tensors["states"].tolist())}
        self._table = np.zeros((max(64, len(self._rows)), self.columns), dtype=np.int64)
        self._table[: len(self._rows)] = tensors["counts"].numpy()
