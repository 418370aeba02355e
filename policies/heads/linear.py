"""`head="linear"`: a linear layer over the features, for any action space that Stable-Baselines3 knows."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.distributions import (
    DiagGaussianDistribution,
    Distribution,
    make_proba_distribution,
)
from torch import Tensor, nn

from heed.policies.finite import require_finite_scores
from heed.policies.heads.action_head import DistributionHead, Reading, ValueHead, register_head


class LinearHead(DistributionHead):
    """The distribution that SB3 uses for the action space."""

    def __init__(self, action_space: spaces.Space[Any], width: int, *, temperature: float = 1.0):
        super().__init__(action_space, width, temperature=temperature)
        distribution: Any = make_proba_distribution(action_space)
        self.log_std: nn.Parameter | None = None
        made: Any = distribution.proba_distribution_net(latent_dim=width)
        if isinstance(distribution, DiagGaussianDistribution):
            made, self.log_std = made
        self.net: nn.Module = made

    def reset_parameters(self) -> None:
        """Make an almost uniform first policy, as SB3's orthogonal initialisation with gain 0.01 gives."""
        if isinstance(self.net, nn.Linear):
            nn.init.orthogonal_(self.net.weight, gain=0.01)
            nn.init.zeros_(self.net.bias)

    def distribution(self, reading: Reading) -> Distribution:
        """Return the distribution over actions."""
        outputs = self.net(reading.features)
        require_finite_scores(outputs, reading.source)
        made: Distribution = make_proba_distribution(self.action_space)
        if self.log_std is not None:
            require_finite_scores(self.log_std, reading.source, name="standard deviation")
            return made.proba_distribution(outputs, self.log_std)
        return made.proba_distribution(action_logits=outputs)


class LinearValues(ValueHead):
    """A linear layer gives a number for each action."""

    def __init__(self, n_actions: int, width: int, *, dueling: bool):
        super().__init__(n_actions, width, dueling=dueling)
        self.net = nn.Linear(width, n_actions)

    def forward(self, reading: Reading) -> tuple[Tensor, Tensor | None]:
        """Return the numbers; all actions are there."""
        values: Tensor = self.net(reading.features)
        return values, None


LINEAR = register_head("linear", reads_texts=False, actor=LinearHead, values=LinearValues)
