"""What a loss is given: steps of a rollout, and what the policy says of them now.

Whatever an objective looks at comes from here, so that it is a method of its algorithm's file: advantages and ratios,
values, whole distributions, another policy (a reference, a teacher, a prior), episodes and their turns.

Shapes: B steps.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.decision import Evaluation


class RolloutBatch(NamedTuple):
    """Steps of a rollout; SB3's `RolloutBufferSamples` with the episodes that they belong to."""

    observations: Tensor
    """Prompts, (B, L)."""
    actions: Tensor
    """(B, D), as SB3's buffers hold them."""
    old_values: Tensor
    """What the critic expected when the step was taken, (B,); 0 without a critic."""
    old_log_prob: Tensor
    """Log-probabilities of the actions under the policy that took them, (B,)."""
    advantages: Tensor
    """(B,)."""
    returns: Tensor
    """What the critic is to expect, (B,); of GRPO the episode's return."""
    episodes: Tensor
    """A number for each episode of the rollout, (B,)."""
    turns: Tensor
    """How many of its episode's steps came before, as far as the rollout holds them, (B,)."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Steps, and what the policy that trains says of them, with a gradient."""

    batch: RolloutBatch
    """With advantages that are normalised already, where the algorithm does."""
    evaluation: Evaluation
    actions: Tensor
    """`batch.actions` as policies take them."""

    @classmethod
    def of(cls, policy: LanguageActorCriticPolicy, batch: RolloutBatch, *, values: bool) -> Sample:
        """Evaluate a policy on steps; `values` says whether its critic is asked as well."""
        actions = policy.action_head.from_rows(batch.actions)
        evaluation = policy.evaluate(batch.observations, actions, values=values)
        return cls(batch=batch, evaluation=evaluation, actions=actions)

    @functools.cached_property
    def log_ratio(self) -> Tensor:
        """The actions' log-probabilities less those at the time of the rollout, (B,)."""
        return self.evaluation.log_probability - self.batch.old_log_prob

    @functools.cached_property
    def approx_kl(self) -> Tensor:
        """How far the policy is from the one that played, () (k3 of http://joschu.net/blog/kl-approx.html)."""
        return (self.log_ratio.exp() - 1 - self.log_ratio).mean()

    @functools.cached_property
    def entropy_loss(self) -> Tensor:
        """Minus the policy's mean entropy, (); where it has no closed form, estimated from the actions."""
        entropy = self.evaluation.entropy
        return self.evaluation.log_probability.mean() if entropy is None else -entropy.mean()

    @functools.cached_property
    def value_loss(self) -> Tensor:
        """The critic's mean squared error, ().

        Raises:
            ValueError: if the critic was not asked.
        """
        if self.evaluation.values is None:
            raise ValueError("There are no values in this sample: its algorithm sets has_critic = False.")
        return functional.mse_loss(self.batch.returns, self.evaluation.values.flatten())

    def evaluated_by(self, policy: LanguageActorCriticPolicy) -> Evaluation:
        """Return what another policy says of the same steps, without a gradient: for `evaluation.kl(...)`."""
        with torch.no_grad():
            return policy.evaluate(self.batch.observations, self.actions, values=False)
