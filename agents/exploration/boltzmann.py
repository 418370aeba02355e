"""Boltzmann exploration: actions by the softmax of their values (Sutton and Barto, section 2.8).

It does not seek what is new: where all values are equal, it is a random walk, like epsilon-greedy. What it does better
is to spare itself actions that are known to be much worse. Cesa-Bianchi et al. 2017 (arXiv 1705.10257) tell where it
falls short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from heed.agents.exploration.strategy import Exploration, Schedule, Values, softmax


@dataclass(kw_only=True)
class Boltzmann(Exploration):
    """The schedule is the temperature's, in the unit of the values; at 0 it is greedy."""

    name: ClassVar[str] = "boltzmann"
    schedule: Schedule = Schedule(start=1.0, end=0.01, shape="exponential")  # noqa: RUF009 - frozen

    def probabilities(self, values: Values, states: Sequence[int], rate: float) -> npt.NDArray[np.float64]:
        """Return exp(Q / temperature) over its sum, (B, A)."""
        return softmax(values[0], rate)
