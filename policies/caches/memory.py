"""Numbers computed from prompts, kept while the weights that computed them stand still.

Rollouts and evaluations show a policy the same prompts over and over, and so do the epochs of an update to the frozen
part of a language model. What was computed once need not be computed again until the weights change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn

from heed.policies.caches.weights_watch import WeightsWatch


class RowMemory:
    """Rows of numbers by key, in one table that is bounded and emptied as soon as the weights change.

    Args:
        module: the rows are computed with its parameters.
        max_rows: what the table may hold; when it is full, all is forgotten and gathered anew.
        skip: the names of parameters that the rows do not depend on.
    """

    def __init__(self, module: nn.Module, max_rows: int, *, skip: Collection[str] = ()):
        self.max_rows = max_rows
        self.watch = WeightsWatch(module, skip=skip)
        self._starts: dict[bytes, int] = {}
        self._used = 0
        self._table: Tensor | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def clear_cache(self) -> None:
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
        if self.watch.changed():
            self.clear_cache()
        if sum(counts) > self.max_rows:
            return None
        new = [index for index, key in enumerate(keys) if key not in self._starts]
        if self._used + sum(counts[index] for index in new) > self.max_rows:
            self.clear_cache()
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
