"""Tests that repeat for each level: a few levels in every run of the suite, all of them in `make test-all`."""

from __future__ import annotations

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
        value
        if index in kept
        else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.exhaustive)
        for index, value in enumerate(values)
    ]
