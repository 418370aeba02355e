"""Tests that repeat for each of many: a few of them in every run of the suite, all of them in `make test-all`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest


def sampled(values: Sequence[Any], count: int) -> list[Any]:
    """Return `values` as parameters of a test, of which all but `count`, evenly spread, are marked as exhaustive.

    A tuple is of several parameters.

    Raises:
        ValueError: if none would be left for the suite.
    """
    if count < 1:
        raise ValueError(f"At least one value stays in the suite, not {count}.")
    kept = {index * len(values) // count for index in range(count)}
    return [
        value if index in kept else pytest.param(*_tuple(value), marks=pytest.mark.exhaustive)
        for index, value in enumerate(values)
    ]


def each_once(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """Return all pairs as parameters of a test; those that stay in the suite name each value of the longer one once.

    Those of the shorter one take turns. What is a tuple stands for several parameters.
    """
    rows, columns = len(first), len(second)
    pairs = []
    for row, column in itertools.product(range(rows), range(columns)):
        stays = row % columns == column if rows >= columns else column % rows == row
        values = [*_tuple(first[row]), *_tuple(second[column])]
        pairs.append(pytest.param(*values, marks=() if stays else pytest.mark.exhaustive))
    return pairs


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
