"""The sum tree against numbers worked out by hand and against NumPy's own cumulative sums."""

from __future__ import annotations

import numpy as np
import pytest

from heed.agents.replay.sum_tree import SumTree


def test_a_mass_falls_into_the_share_of_its_index() -> None:
    tree = SumTree(5)
    tree[np.array([0, 1, 3, 4])] = np.array([1.0, 2.0, 3.0, 0.5])
    assert tree.total == 6.5
    masses = np.array([0.0, 0.99, 1.0, 2.99, 3.0, 5.99, 6.0, 6.49])
    assert tree.find(masses).tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    assert tree[np.array([3, 2, 0])].tolist() == [3.0, 0.0, 1.0]
    assert tree[:2].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("capacity", [1, 2, 3, 8, 100])
def test_it_finds_what_a_search_in_the_cumulative_sums_finds(capacity: int) -> None:
    random = np.random.default_rng(capacity)
    tree, priorities = SumTree(capacity), np.zeros(capacity)
    for _ in range(20):
        chosen = random.integers(capacity, size=7)
        new = random.integers(0, 9, size=7).astype(float)  # whole numbers add up without rounding
        for index, priority in zip(chosen, new, strict=True):  # of equal indices the last one counts
            priorities[index] = priority
        tree[chosen] = new
        assert tree.total == priorities.sum()
        if tree.total:
            masses = random.random(50) * tree.total
            np.testing.assert_array_equal(tree.find(masses), np.searchsorted(priorities.cumsum(), masses, side="right"))


def test_indices_come_as_often_as_their_priorities_say() -> None:
    tree = SumTree(4)
    tree[np.arange(4)] = np.array([1.0, 0.0, 3.0, 4.0])
    found = tree.find(np.random.default_rng(0).random(80_000) * tree.total)
    np.testing.assert_allclose(np.bincount(found, minlength=4) / 80_000, [1 / 8, 0, 3 / 8, 4 / 8], atol=0.005)


def test_rounding_neither_adds_up_nor_finds_an_index_without_priority() -> None:
    tree, random = SumTree(3), np.random.default_rng(1)
    for _ in range(2_000):
        tree[random.integers(2, size=2)] = random.random(2) * 10.0 ** random.integers(-8, 8)
    assert tree.total == float(tree[:].sum())
    # At the very end and, by rounding, beyond it.
    assert set(tree.find(np.array([np.nextafter(tree.total, 0), tree.total, tree.total * 2])).tolist()) <= {0, 1}


def test_no_index_is_no_work() -> None:
    tree = SumTree(4)
    tree[np.array([], dtype=np.int64)] = 1.0
    assert tree.total == 0.0
    assert tree.find(np.array([])).shape == (0,)
    with pytest.raises(ValueError, match="at least one"):
        SumTree(0)
