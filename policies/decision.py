"""What a language policy tells of actions: those that it takes, and those that an update looks at.

Shapes: B prompts; an action is one number, or a row of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from stable_baselines3.common.distributions import Distribution, kl_divergence
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Actions that a policy takes."""

    actions: Tensor
    """(B, ...): a number for each prompt, or a row of which the environment takes a part."""
    log_probability: Tensor
    """Of the actions, (B,)."""
    values: Tensor
    """What the critic expects, (B, 1)."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a policy says of given actions, with a gradient: all that a policy gradient's loss asks of it."""

    log_probability: Tensor
    """Of the actions, (B,)."""
    entropy: Tensor | None
    """Of what the policy would do, (B,); None where it has no closed form."""
    values: Tensor | None = None
    """What the critic expects, (B, 1); None where nobody asked."""
    distribution: Distribution | None = None
    """Over all actions, where these can be gone through; None where an action is written token by token."""

    def kl(self, other: Evaluation) -> Tensor:
        """Return how far this policy is from another one on the same prompts and actions, KL(self || other), (B,).

        It is exact, as a sum or an integral over all actions, where both policies tell of all of them. Otherwise it is
        Schulman's estimator k3 (http://joschu.net/blog/kl-approx.html), which is unbiased for actions that this policy
        drew, and never negative.

        Args:
            other: a reference, a teacher or a prior; usually evaluated without a gradient.
        """
        if self.distribution is not None and other.distribution is not None:
            return kl_divergence(self.distribution, other.distribution)
        log_ratio = other.log_probability - self.log_probability
        return torch.expm1(log_ratio) - log_ratio
