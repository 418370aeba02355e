"""Numbers computed from prompts, kept while the weights that computed them stand still.

Rollouts and evaluations show a policy the same prompts over and over, and so do the epochs of an update to the frozen
part of a language model. What was computed once need not be computed again until the weights change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn


class WeightsWatch:
    """Says whether some weights have changed since it was last asked."""

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self._parameters = list(parameters)
        self._state: tuple[tuple[int, int], ...] = ()

    def changed(self) -> bool:
        """Return True at first, and whenever a weight has changed."""
        # Every change in place counts a tensor's version up; a tensor put in another's place has another address.
        state = tuple((parameter.data_ptr(), parameter._version) for parameter in self._parameters)
        changed, self._state = state != self._state, state
        return changed


class RowMemory:
    """Rows of numbers by key, in one table that is bounded and emptied as soon as the weights change.

    Args:
        watched: the parameters that the rows are computed with.
        max_rows: what the table may hold; when it is full, all is forgotten and gathered anew.
    """

    def __init__(self, watched: Iterable[nn.Parameter], max_rows: int):
        self.max_rows = max_rows
        self._watch = WeightsWatch(watched)
        self._starts: dict[bytes, int] = {}
        self._used = 0
        self._table: Tensor | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def forget(self) -> None:
        """Empty the table."""
        self._starts.clear()
        self._used, self._table = 0, None

    def find(
        self, keys: Sequence[bytes], counts: Sequence[int], compute: Callable[[list[int]], Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """Return the table and where in it the rows of each key start, (len(keys),).

        Args:
            keys: different ones.
            counts: how many rows each key has.
            compute: returns the rows, (sum of their counts, W), of the keys with the given indices.

        Returns:
            None if so many rows do not fit at all.
        """
        if self._watch.changed():
            self.forget()
        if sum(counts) > self.max_rows:
            return None
        new = [index for index, key in enumerate(keys) if key not in self._starts]
        if self._used + sum(counts[index] for index in new) > self.max_rows:
            self.forget()
            new = list(range(len(keys)))
        if new:
            self._append(compute(new))
            for index in new:
                self._starts[keys[index]] = self._used
                self._used += counts[index]
        assert self._table is not None
        return self._table, torch.tensor([self._starts[key] for key in keys], device=self._table.device)

    def _append(self, rows: Tensor) -> None:
        needed = self._used + len(rows)
        if self._table is None or needed > len(self._table):
            size = min(self.max_rows, max(2 * needed, 1024))
            grown = rows.new_empty(size, rows.shape[1])
            if self._table is not None:
                grown[: self._used] = self._table[: self._used]
            self._table = grown
        self._table[self._used : needed] = rows
