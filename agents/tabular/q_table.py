"""A table of values, one row for each state, that grows as states come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

State = tuple[str, str]
"""Instruction and observation."""

Array = npt.NDArray[np.float64]


class QTable:
    """Values of actions in the states seen so far: the agent's, and those of an exploration strategy.

    Shapes: H value functions of the strategy, S states, B of them, A actions.

    Args:
        n_actions: A.
        initial_value: of every entry.
        heads: H.
        prior_scale: standard deviation of what is added to the strategy's first values.
        generator: draws these.
    """

    def __init__(
        self, n_actions: int, *, initial_value: float, heads: int, prior_scale: float, generator: np.random.Generator
    ):
        self.states: dict[State, int] = {}
        """The row of each state."""
        self.initial_value = initial_value
        self._prior_scale = prior_scale
        self.generator = generator
        self._values: Array = np.zeros((0, n_actions))
        self._heads: Array = np.zeros((heads, 0, n_actions))

    @property
    def values(self) -> Array:
        """The agent's values, (S, A); a view."""
        return self._values[: len(self.states)]

    @property
    def heads(self) -> Array:
        """The strategy's values, (H, S, A); a view."""
        return self._heads[:, : len(self.states)]

    def rows(self, words: Mapping[str, Any]) -> list[int]:
        """Return the rows of a batch of language observations; a state that is new gets one."""
        return [self.row(state) for state in states_of(words)]

    def row(self, state: State) -> int:
        """Return the row of a state; one that is new gets one."""
        found = self.states.get(state)
        if found is None:
            found = self.states[state] = len(self.states)
            if found == len(self._values):
                self._grow()
            # Drawn when a state comes, not ahead: what a checkpoint has no row for is drawn after it.
            self._heads[:, found] = self._first_heads(1)[:, 0]
        return found

    def find(self, words: Mapping[str, Any]) -> list[int]:
        """Return the rows of a batch of language observations, -1 for a state never seen."""
        return [self.states.get(state, -1) for state in states_of(words)]

    def look_up(self, rows: Sequence[int]) -> tuple[Array, Array]:
        """Return the agent's values, (B, A), and the strategy's, (H, B, A); of row -1 what new states begin with."""
        if min(rows) >= 0:
            return self._values[rows], self._heads[:, rows]
        known = np.array(rows) >= 0
        values = np.full((len(rows), self._values.shape[1]), self.initial_value)
        heads = np.full((len(self._heads), *values.shape), self.initial_value)
        places = np.array(rows)[known]
        values[known], heads[:, known] = self._values[places], self._heads[:, places]
        return values, heads

    def set(self, states: Iterable[State], values: Array, heads: Array | None) -> None:
        """Replace all that is in the table; the strategy's values, if there are none, begin anew."""
        self.states = {state: row for row, state in enumerate(states)}
        self._values = values.copy()
        self._heads = self._first_heads(len(values)) if heads is None else heads.copy()

    def _grow(self) -> None:
        more = max(64, len(self._values))
        values = np.full((more, self._values.shape[1]), self.initial_value)
        self._values = np.concatenate([self._values, values])
        heads = np.zeros((len(self._heads), more, self._values.shape[1]))
        self._heads = np.concatenate([self._heads, heads], axis=1)

    def _first_heads(self, states: int) -> Array:
        shape = (len(self._heads), states, self._values.shape[1])
        if not self._prior_scale:
            return np.full(shape, self.initial_value)
        return self.initial_value + self._prior_scale * self.generator.standard_normal(shape)


def states_of(words: Mapping[str, Any]) -> list[State]:
    """Return the states of a batch of language observations."""
    return list(zip(words["instruction"], words["observation"], strict=True))
