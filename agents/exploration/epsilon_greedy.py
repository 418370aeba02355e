"""Epsilon-greedy: the best action, but with probability epsilon any (Sutton and Barto, section 2.2).

With a temperature, the best actions share by the softmax of their values instead. A policy that cannot tell all states
apart may otherwise walk in a circle for ever, where actions of nearly the same value would lead out of it; and
epsilon, which takes bad actions as often as good ones, leads out of it seldom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from heed.agents.exploration.strategy import Exploration, Schedule, Values, greedy_actions, softmax


@dataclass(kw_only=True)
class EpsilonGreedy(Exploration):
    """The schedule is epsilon's."""

    name: ClassVar[str] = "epsilon-greedy"
    schedule: Schedule = Schedule(start=1.0, end=0.05)  # noqa: RUF009 - frozen
    temperature: float = 0.0
    """Of the softmax, in the unit of the values; at 0 the best action alone is taken."""

    def __post_init__(self) -> None:
        """Refuse an epsilon that is no probability, and a negative temperature.

        Raises:
            ValueError: if epsilon exceeds 1, or the temperature is negative.
        """
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}, but must not be negative.")
        if max(self.schedule.start, self.schedule.end) > 1:
            raise ValueError(f"Epsilon is a probability, but the schedule is {self.schedule}.")

    def probabilities(self, values: Values, states: Sequence[int], rate: float) -> npt.NDArray[np.float64]:
        """Return (1 - epsilon) of the best action's share, or of the softmax, and epsilon / A, (B, A).

        Actions with the value -inf are not there: A counts the others, and theirs is 0.
        """
        best = softmax(values[0], self.temperature)
        there = np.isfinite(values[0])
        shares: npt.NDArray[np.float64] = (1 - rate) * best + rate * there / there.sum(axis=1, keepdims=True)
        return shares

    def sample(
        self, values: Values, states: Sequence[int], rate: float, generator: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Draw an action, (B,), for each state."""
        if self.temperature:
            return super().sample(values, states, rate, generator)
        there = np.isfinite(values[0])
        n_actions = values.shape[2] if there.all() else there.sum(axis=1)
        return explore(greedy_actions(values[0], generator), n_actions, rate, generator)


def explore(
    actions: npt.NDArray[np.int64],
    n_actions: int | npt.NDArray[np.int64],
    epsilon: float,
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Return `actions`, (B,), each with probability epsilon replaced by any of the first `n_actions`, () or (B,)."""
    others = generator.integers(n_actions, size=actions.shape)
    return np.where(generator.random(actions.shape) < epsilon, others, actions)
