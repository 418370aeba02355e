"""Thompson sampling by an ensemble of values (bootstrapped DQN: Osband et al. 2016, arXiv 1602.04621).

Each episode follows one of several value functions, greedily from its beginning to its end. They differ where little
has been learned, by a random prior of each (Osband et al. 2018, arXiv 1806.03335), and by the samples that each learns
from. So what might be good is tried, for as many steps as it takes.

What differs:
- in a table, the prior is the first value of each entry;
- masks are drawn when a sample is learned from, which in a table is once, as in the paper, but in a replay buffer each
  time anew (with `mask_probability=1`, the default, there are none: the priors suffice where little is random);
- the ensemble decides only what the training does: an agent's own values give its predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heed.agents.exploration.epsilon_greedy import explore
from heed.agents.exploration.strategy import Exploration, Schedule, Values, greedy_actions, greedy_probabilities


@dataclass(kw_only=True)
class Thompson(Exploration):
    """The schedule is that of an epsilon, by default 0: the ensemble explores enough.

    Attributes:
        heads: value functions in the ensemble.
        prior_scale: standard deviation of their priors, in the unit of returns; less than the return that is to be
            found, and the ensemble may give up before it finds it.
        mask_probability: with which a value function learns from a sample.
    """

    name: ClassVar[str] = "thompson"
    schedule: Schedule = Schedule(start=0.0, end=0.0)  # noqa: RUF009 - frozen
    heads: int = 10
    prior_scale: float = 1.0
    mask_probability: float = 1.0
    _followed: npt.NDArray[np.int64] = field(
        init=False, repr=False, compare=False, default_factory=lambda: np.zeros(0, dtype=np.int64)
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: if there is less than one head, or a number is out of its range.
        """
        if self.heads < 1 or self.prior_scale < 0 or not 0 < self.mask_probability <= 1:
            raise ValueError(
                f"Thompson sampling needs at least one head, a prior scale that is not negative and a mask "
                f"probability above 0 and up to 1, but got {self}."
            )

    def begin(self, *, n_actions: int, n_envs: int, generator: np.random.Generator) -> None:
        """Draw the value function that each environment's first episode follows."""
        self._followed = generator.integers(self.heads, size=n_envs)

    def probabilities(self, values: Values, states: Sequence[int], rate: float) -> npt.NDArray[np.float64]:
        """Return the share of value functions that an action is best for, (B, A)."""
        best = greedy_probabilities(values).mean(axis=0)
        shares: npt.NDArray[np.float64] = (1 - rate) * best + rate / values.shape[2]
        return shares

    def act(
        self, values: Values, states: Sequence[int], rate: float, generator: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Return the best actions, (n_envs,), for the value function that each environment's episode follows."""
        followed = values[self._followed, np.arange(len(self._followed))]
        return explore(greedy_actions(followed, generator), values.shape[2], rate, generator)

    def ended(self, dones: npt.NDArray[Any], generator: np.random.Generator) -> None:
        """Draw another value function where an episode is over."""
        drawn = generator.integers(self.heads, size=len(dones))
        self._followed = np.where(dones, drawn, self._followed)

    def masks(self, samples: int, generator: np.random.Generator) -> npt.NDArray[np.bool_] | None:
        """Draw which value functions learn which samples, (H, samples)."""
        if self.mask_probability == 1:
            return None
        return generator.random((self.heads, samples)) < self.mask_probability

    def get_state(self) -> dict[str, Tensor]:
        """Return which value functions are followed."""
        return {"followed": torch.from_numpy(self._followed.copy())}

    def set_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back which value functions are followed; with other environments than before they are drawn anew."""
        if len(tensors["followed"]) == len(self._followed):
            self._followed = tensors["followed"].numpy().copy()
