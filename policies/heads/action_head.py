"""How actions come out of what a language model read: one class for each way, in one registry.

An actor's head (`ActionHead`) draws actions and tells how likely they are; a Q-network's (`ValueHead`) tells what each
action is worth. Both get a `Reading`. To add one, write it in a file of its own and register it:

    register_head("write", reads_texts=False, actor=WrittenActions)

Shapes: B prompts, A actions, D width of the features; K numbers of an action's row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.preprocessing import get_action_dim
from torch import Tensor, nn

from heed.policies.decision import Evaluation

ACTION_ABSENT = -1e9
"""The logit of an action that there is not; its probability is 0 exactly."""


class Reading(NamedTuple):
    """What a backbone made of prompts."""

    prompts: Tensor
    """Rows of the encoder's layout, (B, width)."""
    features: Tensor
    """(B, D)"""
    scores: Tensor | None
    """Of the actions' texts, (B, A), -inf where a prompt has fewer; None for a head that does not ask for them."""
    changing: bool
    """Whether actions change from prompt to prompt."""
    source: nn.Module
    """What read, to say which of its weights is not finite where a number is not."""


class ActionHead(nn.Module, ABC):
    """An actor: a distribution over actions, given what was read.

    Args:
        action_space: the environment's.
        width: of the features, D.
        temperature: what scores are divided by.
    """

    def __init__(self, action_space: spaces.Space[Any], width: int, *, temperature: float = 1.0):
        super().__init__()
        self.action_space = action_space
        self.temperature = temperature

    @property
    def columns(self) -> int:
        """How many numbers an action has in the buffers, K. The environment's action stands first in them."""
        return get_action_dim(self.action_space)

    def from_rows(self, rows: Tensor) -> Tensor:
        """Return actions as `evaluate` takes them, given what the buffers keep of them, (B, K)."""
        return rows.long().flatten() if isinstance(self.action_space, spaces.Discrete) else rows

    @abstractmethod
    def act(self, reading: Reading, *, greedy: bool = False) -> tuple[Tensor, Tensor]:
        """Return actions, (B,) or (B, K), and their log-probabilities, (B,); `greedy` takes the most probable."""

    @abstractmethod
    def evaluate(self, reading: Reading, actions: Tensor) -> Evaluation:
        """Return what it says of actions, (B,) or (B, K), without values."""

    def distribution(self, reading: Reading) -> Distribution:
        """Return the distribution over all actions.

        Raises:
            TypeError: if these cannot be gone through.
        """
        raise TypeError(f"{type(self).__name__} has no list of all actions.")

    def reset_parameters(self) -> None:
        """Set the first weights; called when all else of the policy is made."""


class DistributionHead(ActionHead):
    """An actor whose distribution Stable-Baselines3 knows: all that it does follows from that."""

    @abstractmethod
    def distribution(self, reading: Reading) -> Distribution:
        """Return the distribution over actions."""

    def act(self, reading: Reading, *, greedy: bool = False) -> tuple[Tensor, Tensor]:
        """Return actions, drawn or the most probable, and their log-probabilities."""
        distribution = self.distribution(reading)
        actions = distribution.get_actions(deterministic=greedy)
        return actions.reshape((-1, *(self.action_space.shape or ()))), distribution.log_prob(actions)

    def evaluate(self, reading: Reading, actions: Tensor) -> Evaluation:
        """Return the actions' log-probabilities, with entropy and distribution."""
        distribution = self.distribution(reading)
        return Evaluation(
            log_probability=distribution.log_prob(actions),
            entropy=distribution.entropy(),
            distribution=distribution,
        )


class ValueHead(nn.Module, ABC):
    """The part of a Q-network that tells actions apart.

    Args:
        n_actions: A.
        width: of the features, D.
        dueling: the mean over the actions is taken off what it gives, and a value of the state is added.
    """

    def __init__(self, n_actions: int, width: int, *, dueling: bool):
        super().__init__()

    @abstractmethod
    def forward(self, reading: Reading) -> tuple[Tensor, Tensor | None]:
        """Return numbers of the actions, (B, A), and which of them there are, (B, A); None where all are."""


@dataclass(frozen=True, kw_only=True)
class HeadKind:
    """A way in which actions come out of a language model."""

    name: str
    reads_texts: bool
    """Whether the backbone is to score the actions' texts."""
    actor: Callable[..., ActionHead]
    """Makes the head of an actor, from `action_space`, `width` and `temperature`."""
    values: Callable[..., ValueHead] | None = None
    """Makes that of a Q-network, from `n_actions`, `width` and `dueling`; None if there is none."""


_registry: dict[str, HeadKind] = {}


def register_head(
    name: str,
    *,
    reads_texts: bool,
    actor: Callable[..., ActionHead],
    values: Callable[..., ValueHead] | None = None,
) -> HeadKind:
    """Let policies find a head by its name; the last of a name wins. The arguments are `HeadKind`'s."""
    kind = _registry[name] = HeadKind(name=name, reads_texts=reads_texts, actor=actor, values=values)
    return kind


def head_names() -> tuple[str, ...]:
    """Return the names of all heads."""
    return tuple(_registry)


def head_kind(name: str) -> HeadKind:
    """Return the head of a name.

    Raises:
        ValueError: if there is none.
    """
    if name not in _registry:
        raise ValueError(f"There is no head {name!r}, only {', '.join(_registry)}.")
    return _registry[name]


def environment_action(actions: Any, action_space: spaces.Space[Any]) -> Any:
    """Return what an environment takes of actions, (B, ...): of rows with more in them, what stands first.

    This is the one place where that is cut; arrays and tensors alike.
    """
    if isinstance(action_space, spaces.Discrete):
        return actions[:, 0] if actions.ndim == 2 else actions
    shape = action_space.shape or ()
    return actions if actions.shape[1:] == shape else actions[:, : get_action_dim(action_space)].reshape(-1, *shape)


def as_bounded_logits(scores: Tensor, temperature: float) -> Tensor:
    """Return logits of scores, finite where there is no action: entropy and KL would make NaN of -inf."""
    return (scores / temperature).clamp(min=ACTION_ABSENT)
