"""Features together: what must hold of every training holds of each combination of two of them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.interactions.covering import covering, pairs_of
from tests.interactions.trainings import FACTORS, PLAIN, check

COSTS_OF_PROCESSES = 8.0
"""Processes take seconds to start: they are combined with the others in as few trainings as can be."""


def can_be(combination: dict[str, Any]) -> bool:
    """Return True: whatever two features are, they can be combined."""
    return True


COMBINATIONS = covering(FACTORS, allowed=can_be, cost=lambda c: COSTS_OF_PROCESSES * (c["processes"] > 1))

PAIRS = [
    {**PLAIN, name: choice, other: its_choice}
    for name, other in itertools.combinations(FACTORS, 2)
    for choice in FACTORS[name][name != "agent" :]
    for its_choice in FACTORS[other][1:]
]


def named(combination: dict[str, Any]) -> str:
    """Return the features that a combination has, as the name of its test."""
    told = [f"{name}={choice}" for name, choice in combination.items() if choice != PLAIN[name]]
    return ",".join(told) or "plain"


def test_every_two_choices_occur_together() -> None:
    found = set().union(*map(pairs_of, COMBINATIONS))
    for (name, choices), (other, others) in itertools.combinations(sorted(FACTORS.items()), 2):
        for choice, its in itertools.product(choices, others):
            assert ((name, choice), (other, its)) in found, (name, choice, other, its)
    assert len(COMBINATIONS) < len(PAIRS) / 5


@pytest.mark.parametrize("combination", COMBINATIONS, ids=named)
def test_features_together(combination: dict[str, Any]) -> None:
    check(combination)


@pytest.mark.exhaustive
@pytest.mark.parametrize("combination", PAIRS, ids=named)
def test_two_features_alone(combination: dict[str, Any]) -> None:
    check(combination)
