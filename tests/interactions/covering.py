"""A small set of combinations in which every two choices occur together (a covering array of strength 2).

Faults of two features that are each right alone show in some combination of such a set, which is far smaller than all
pairs, each by itself: after AETG (Cohen et al. 1997, doi 10.1109/32.605761), which also picks, one row after the other,
the best of some random candidates.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Combination = dict[str, Any]

CANDIDATES = 200
"""Of which the next combination is the best."""


def pairs_of(combination: Mapping[str, Any]) -> set[tuple[tuple[str, Any], tuple[str, Any]]]:
    """Return every two choices that a combination makes."""
    return set(itertools.combinations(sorted(combination.items(), key=repr), 2))


def covering(
    factors: Mapping[str, Sequence[Any]],
    *,
    allowed: Callable[[Combination], bool],
    cost: Callable[[Combination], float],
    seed: int = 0,
) -> list[Combination]:
    """Return combinations in which all pairs of choices occur that can.

    Args:
        factors: the choices of each factor.
        allowed: whether a combination can be.
        cost: of a combination, in pairs that it must cover beyond those of another to be taken in its place.
        seed: of the candidates.
    """
    random = np.random.default_rng(seed)

    def drawn(count: int) -> list[Combination]:
        numbers = {name: random.integers(len(choices), size=count) for name, choices in factors.items()}
        made = [{name: factors[name][numbers[name][row]] for name in factors} for row in range(count)]
        return [combination for combination in made if allowed(combination)]

    missing = set().union(*map(pairs_of, drawn(10 * CANDIDATES)))
    chosen: list[Combination] = []
    while missing:
        useful = [one for one in drawn(CANDIDATES) if pairs_of(one) & missing]
        if useful:
            chosen.append(max(useful, key=lambda one: len(pairs_of(one) & missing) - cost(one)))
            missing -= pairs_of(chosen[-1])
    return chosen
