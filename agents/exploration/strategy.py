"""What every way to explore by the choice of actions has in common, for a table and for a network of values.

A strategy is given values and says how likely each action is. Two kinds:
- `EpsilonGreedy` and `Boltzmann` look at the agent's own values;
- `UCB` and `Thompson` have value functions of their own (`heads`), which the agent learns beside its own from the same
  experience, so that what the agent believes in the end is not coloured by how it explored.

Shapes: H value functions, B states, A actions.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A number that goes from `start` to `end` while the first `fraction` of a training goes by, and then stays."""

    start: float
    end: float
    fraction: float = 0.5
    shape: Literal["linear", "exponential"] = "linear"
    """Exponential multiplies by the same factor in equal times; it needs positive ends."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if min(self.start, self.end) < 0 or not 0 < self.fraction <= 1:
            raise ValueError(f"{self}: start and end must not be negative, and fraction between 0 and 1.")
        if self.shape == "exponential" and min(self.start, self.end) == 0:
            raise ValueError(f"{self}: an exponential schedule never reaches 0, nor leaves it.")

    @classmethod
    def constant(cls, value: float) -> Schedule:
        """Return the schedule that is always `value`."""
        return cls(start=value, end=value)

    def __call__(self, progress_remaining: float) -> float:
        """Return the number where that share of the training is still to come, as SB3 counts."""
        gone = min(1.0, (1 - progress_remaining) / self.fraction)
        if self.shape == "exponential":
            return float(self.start * (self.end / self.start) ** gone)
        return self.start + gone * (self.end - self.start)


class Exploration(ABC):
    """How actions are chosen while values are learned.

    An agent keeps a copy of its own, so one instance may be given to several.
    """

    name: ClassVar[str]
    """As the command line knows it."""

    schedule: Schedule
    """Of the strategy's one number: epsilon, a temperature, the weight of a bonus. The agent logs it."""

    heads: int = 0
    """Value functions of its own that the agent is to learn."""

    prior_scale: float = 0.0
    """Standard deviation of what these are worth where nothing has been learned yet."""

    def begin(self, *, n_actions: int, n_envs: int, generator: np.random.Generator) -> None:  # noqa: B027
        """Make ready for a training in `n_envs` environments side by side; empty where there is nothing to do."""

    @abstractmethod
    def probabilities(self, values: Values, states: Sequence[int], rate: float) -> npt.NDArray[np.float64]:
        """Return how likely each action is, (B, A).

        Args:
            values: of all actions, (H, B, A): of its own value functions, or without such, H = 1, of the agent's; where
                a state has fewer than A actions, -inf behind them.
            states: a fingerprint of each state.
            rate: what the schedule gives now.
        """

    def sample(
        self, values: Values, states: Sequence[int], rate: float, generator: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Draw an action, (B,), for each state; arguments as of `probabilities`."""
        cumulative = self.probabilities(values, states, rate).cumsum(axis=1)
        draws = generator.random((len(cumulative), 1)) * cumulative[:, -1:]
        actions: npt.NDArray[np.int64] = (draws >= cumulative).sum(axis=1)
        return actions

    def act(
        self, values: Values, states: Sequence[int], rate: float, generator: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Return the actions, (n_envs,), that the training takes now; one state for each environment, in order."""
        return self.sample(values, states, rate, generator)

    def acted(self, states: Sequence[int], actions: npt.NDArray[Any]) -> None:  # noqa: B027
        """Take notice of the actions, (n_envs,), that the training has taken, however they were chosen."""

    def ended(self, dones: npt.NDArray[Any], generator: np.random.Generator) -> None:  # noqa: B027
        """Take notice of the environments whose episode is over, (n_envs,)."""

    def bonus(self, states: Sequence[int], rate: float) -> npt.NDArray[np.float64] | None:
        """Return what its own value functions are to count on top, (B, A), in bootstrapping as in choosing."""
        return None

    def masks(self, samples: int, generator: np.random.Generator) -> npt.NDArray[np.bool_] | None:
        """Return which of its own value functions learn which samples, (H, samples); None for all."""
        return None

    def get_state(self) -> dict[str, Tensor]:
        """Return what it has taken notice of."""
        return {}

    def set_state(self, tensors: dict[str, Tensor]) -> None:  # noqa: B027
        """Put back what `get_state` returned."""

    def as_json(self) -> dict[str, Any]:
        """Return name and arguments; `heed.agents.exploration.exploration_from_json` is the inverse."""
        fields = [field.name for field in dataclasses.fields(self) if field.init]  # type: ignore[arg-type]
        arguments = {name: getattr(self, name) for name in fields if name != "schedule"}
        return {"name": self.name, "schedule": dataclasses.asdict(self.schedule), **arguments}


def greedy_probabilities(values: Values) -> npt.NDArray[np.float64]:
    """Return the best actions of each state, (B, A), of values (B, A); equally good ones share."""
    best = values == values.max(axis=-1, keepdims=True)
    shares: npt.NDArray[np.float64] = best / best.sum(axis=-1, keepdims=True)
    return shares


def softmax(values: Values, temperature: float) -> npt.NDArray[np.float64]:
    """Return exp(Q / temperature) over its sum, (B, A), of values (B, A); at 0 the best actions' shares."""
    if temperature == 0:
        return greedy_probabilities(values)
    logits = values.astype(np.float64) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def greedy_actions(values: Values, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return a best action, (B,), for each row of values (B, A); nothing is drawn where there is only one."""
    actions: npt.NDArray[np.int64] = values.argmax(axis=1)
    for row, entries in enumerate(values.tolist()):  # lists: rows are short, and arrays slow to take up
        best = max(entries)
        equals = [index for index, value in enumerate(entries) if value == best]
        if len(equals) > 1:
            actions[row] = equals[int(generator.integers(len(equals)))]
    return actions
