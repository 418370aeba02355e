"""`head="score"`: actions by the likelihoods of their texts under the language model."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from torch import Tensor, nn
from torch.distributions import Categorical

from heed.policies.finite import require_finite_scores
from heed.policies.heads.action_head import (
    DistributionHead,
    Reading,
    ValueHead,
    as_bounded_logits,
    register_head,
)


class TextScores(DistributionHead):
    """pi(a | prompt) is the softmax of the actions' scores, divided by the temperature."""

    def __init__(self, action_space: spaces.Space[Any], width: int, *, temperature: float = 1.0):
        super().__init__(action_space, width, temperature=temperature)
        assert isinstance(action_space, spaces.Discrete)
        self._n_actions = int(action_space.n)

    def distribution(self, reading: Reading) -> Distribution:
        """Return a categorical distribution, (B, A)."""
        scores = reading.scores
        assert scores is not None
        logits = as_bounded_logits(scores, self.temperature)
        # Where actions are drawn; in an update the loss tells as much, and is one number.
        if not torch.is_grad_enabled():
            require_finite_scores(logits if reading.changing else scores, reading.source)
        distribution = CategoricalDistribution(self._n_actions)
        # Torch's own check takes three times as long as all else that is done with the scores.
        distribution.distribution = Categorical(logits=logits, validate_args=False)
        return distribution


class TextAdvantages(ValueHead):
    """Log-likelihoods times a learned scale; without dueling moved by a learned number, the same for all states.

    In maximum-entropy reinforcement learning an optimal policy's log-probabilities *are* its advantages. They are
    negative, and returns need not be: hence the number.
    """

    def __init__(self, n_actions: int, width: int, *, dueling: bool):
        super().__init__(n_actions, width, dueling=dueling)
        self.scale = nn.Parameter(torch.ones(()))
        self.offset = None if dueling else nn.Parameter(torch.zeros(()))

    def forward(self, reading: Reading) -> tuple[Tensor, Tensor | None]:
        """Return the scaled scores, 0 where there is no action, and where there is one."""
        assert reading.scores is not None
        there = reading.scores != -torch.inf if reading.changing else None
        values = self.scale * (reading.scores if there is None else reading.scores.masked_fill(~there, 0.0))
        return values if self.offset is None else self.offset + values, there


SCORE = register_head("score", reads_texts=True, actor=TextScores, values=TextAdvantages)
