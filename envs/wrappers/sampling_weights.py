"""Sampling weights of several levels or tasks, from how the last episodes of each went.

- "failures": in proportion to the share of failures among the last episodes. What is mastered is drawn seldom.
- "progress": in proportion to how much the success rate has changed, up or down, between the older and the newer half
  of these episodes: neither what is mastered nor what is too hard, and what is being forgotten again. The window
  algorithm of teacher-student curricula (Matiisen et al. 2017, arXiv 1707.00183), with the difference of two halves in
  the place of a regression line, and of the absolute learning progress that Portelas et al. 2020 (arXiv 2003.04664)
  survey.

Either way a part of all draws, the floor, goes by the weights that were given, so that nothing is forgotten unseen.
What has not been drawn often enough to fill its window counts as if it had failed before: unknown is not mastered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Scheme = Literal["failures", "progress"]


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """How the sampling weights of levels or tasks follow success.

    Raises:
        ValueError: if a number or the scheme cannot be.
    """

    scheme: Scheme = "failures"
    """What draws more: failures among the last episodes, or progress of either sign."""
    window: int = 100
    """The number of last episodes of each level or task that count."""
    floor: float = 0.2
    """Share of the draws that goes by the given weights, whatever happens."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.scheme not in get_args(Scheme):
            raise ValueError(f"There is no curriculum {self.scheme!r}: there are {' and '.join(get_args(Scheme))}.")
        if self.window < 2:
            raise ValueError(f"A curriculum's window must be at least 2 episodes, but is {self.window}.")
        if not 0 < self.floor <= 1:
            raise ValueError(
                f"A curriculum's floor is {self.floor}, but must be more than 0 and at most 1: what is never drawn is "
                "never found to be mastered or forgotten."
            )


class SamplingWeights:
    """Keeps the last episodes of each, and computes how often each is drawn.

    Args:
        names: of the levels or tasks.
        weights: how often each is drawn where success does not matter, against the others.
        curriculum: how it matters.
    """

    def __init__(self, names: Sequence[str], weights: Sequence[float], curriculum: Curriculum):
        self.names = tuple(names)
        self.curriculum = curriculum
        self._given = np.array(weights, dtype=float) / sum(weights)
        self._outcomes = {name: deque[int](maxlen=curriculum.window) for name in self.names}

    def add(self, name: str, success: bool) -> None:
        """Take in an episode that ended."""
        self._outcomes[name].append(int(success))

    def now(self) -> tuple[float, ...]:
        """Return the current weights, in the order of `names`; they sum to 1."""
        wanted = self._given * [self._attraction(name) for name in self.names]
        wanted = wanted / wanted.sum() if wanted.any() else self._given
        floor = self.curriculum.floor
        return tuple((floor * self._given + (1 - floor) * wanted).tolist())

    def success_rates(self) -> dict[str, float]:
        """Return the success rate of the last episodes of those that were played, by name."""
        return {name: float(np.mean(last)) for name, last in self._outcomes.items() if last}

    def _attraction(self, name: str) -> float:
        last = list(self._outcomes[name])
        window = self.curriculum.window
        filled = [0] * (window - len(last)) + last
        if self.curriculum.scheme == "failures":
            return 1 - sum(filled) / window
        half = window // 2
        return abs(sum(filled[-half:]) - sum(filled[-2 * half : -half])) / half

    def get_state(self) -> dict[str, Any]:
        """Return the episodes that count, as JSON."""
        return {name: list(last) for name, last in self._outcomes.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `get_state`.

        Raises:
            ValueError: if it is of other levels or tasks.
        """
        if set(state) != set(self.names):
            raise ValueError(f"The curriculum's state is of {sorted(state)}, but there are {sorted(self.names)}.")
        for name, last in self._outcomes.items():
            last.clear()
            last.extend(state[name])
