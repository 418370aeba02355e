"""Upper confidence bounds from counts, that reach through the values (OPIQ: Rashid et al. 2020, arXiv 2002.12174).

In a bandit, UCB takes the action with the highest value plus a bonus that shrinks with how often it was taken (Auer et
al. 2002). With many steps to go that is not enough: actions must also be good that lead to where little was tried. So
the strategy has a value function of its own, in which a step is worth the bonus of the best next action too:

    choose          argmax_a  Q+(s, a) + c / (n(s, a) + 1)^m
    learn towards   r + gamma max_a' [Q+(s', a') + c / (n(s', a') + 1)^m]

The bandit's m is 1/2. Where long ways lead to what is new, what is left of the bonus along known ways hides it: in Deep
Sea of size 10, m = 1/2 failed with two of three seeds where m = 1 and m = 2 succeeded with all. The default is 1.

What differs from OPIQ: the bonus stands in choice and bootstrap only, not in the reward too; states are counted by
their words, not by pseudo-counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from heed.agents.exploration.counts import Counts
from heed.agents.exploration.strategy import Exploration, Schedule, Values, greedy_probabilities


@dataclass(kw_only=True)
class UCB(Exploration):
    """The schedule is that of c, in the unit of returns.

    Attributes:
        power: m, how fast the bonus shrinks.
    """

    name: ClassVar[str] = "ucb"
    heads = 1
    schedule: Schedule = Schedule(start=1.0, end=1.0)  # noqa: RUF009 - frozen
    power: float = 1.0
    _counts: Counts = field(init=False, repr=False, compare=False, default_factory=Counts)

    def __post_init__(self) -> None:
        """Refuse a bonus that does not shrink.

        Raises:
            ValueError: if the power is not positive.
        """
        if self.power <= 0:
            raise ValueError(
                f"The bonus of UCB shrinks with a positive power of the count, but the power is {self.power}."
            )

    def begin(self, *, n_actions: int, n_envs: int, generator: np.random.Generator) -> None:
        """Forget all counts."""
        self._counts = Counts(n_actions)

    def probabilities(self, values: Values, states: Sequence[int], rate: float) -> npt.NDArray[np.float64]:
        """Return the actions of highest bound, (B, A); equally high ones share."""
        return greedy_probabilities(values[0] + self.bonus(states, rate))

    def acted(self, states: Sequence[int], actions: npt.NDArray[Any]) -> None:
        """Count the actions."""
        self._counts.add(states, actions)

    def bonus(self, states: Sequence[int], rate: float) -> npt.NDArray[np.float64]:
        """Return c / (n + 1)^m of all actions, (B, A)."""
        counts = self._counts.of(states).astype(np.float64)
        bonus: npt.NDArray[np.float64] = rate / np.power(counts + 1, self.power)
        return bonus

    def get_state(self) -> dict[str, Tensor]:
        """Return the counts."""
        return self._counts.get_state()

    def set_state(self, tensors: dict[str, Tensor]) -> None:
        """Put the counts back."""
        self._counts.set_state(tensors)
