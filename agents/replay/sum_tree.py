"""A sum tree: draws indices in proportion to their priorities (Schaul et al. 2016, arXiv 1511.05952, appendix B.2.1).

A binary tree in one array: node `i` is the sum of nodes `2i` and `2i + 1`, node 1 is the sum of all, and the leaves,
the priorities themselves, are the second half. Changing priorities or drawing indices goes through the tree's levels
once, for the whole batch at a time. A node is always computed as the sum of its children, never by adding a
difference, so rounding does not add up over a training.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class SumTree:
    """Priorities of `capacity` indices, all zero at first.

    Raises:
        ValueError: if `capacity` is not positive.
    """

    def __init__(self, capacity: int):
        if capacity < 1:
            raise ValueError(f"A sum tree needs at least one index, but its capacity is {capacity}.")
        self.capacity = capacity
        self._first_leaf = 1 << (capacity - 1).bit_length()
        self._nodes = np.zeros(2 * self._first_leaf)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._nodes[1])

    def __getitem__(self, indices: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.float64]:
        """Return the priorities of `indices`, (N,)."""
        leaves = self._nodes[self._first_leaf : self._first_leaf + self.capacity]
        return leaves[indices].copy()

    def __setitem__(self, indices: npt.NDArray[np.int64], priorities: npt.NDArray[np.float64] | float) -> None:
        """Set the priorities, not negative, of `indices`, (N,); of equal indices the last one counts."""
        nodes = np.asarray(indices) + self._first_leaf
        self._nodes[nodes] = priorities
        while nodes.size and nodes[0] > 1:  # all leaves are equally far from the root
            nodes = np.unique(nodes >> 1)
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, masses: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return for each mass, in [0, total), the index in whose share of the total it falls, (N,).

        Index `i` has the share from the sum of the priorities before it up to that sum and its own. An index of
        priority zero is never found, unless all are.
        """
        nodes, masses = np.ones(len(masses), dtype=np.int64), masses.astype(np.float64)
        while nodes.size and nodes[0] < self._first_leaf:
            left = self._nodes[2 * nodes]
            # A mass that rounding has put at the very end must not fall off into an empty half.
            goes_right = (masses >= left) & (self._nodes[2 * nodes + 1] > 0)
            masses = masses - left * goes_right
            nodes = 2 * nodes + goes_right
        return nodes - self._first_leaf
