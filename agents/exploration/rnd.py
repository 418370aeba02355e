"""Random network distillation (Burda et al. 2018, arXiv 1810.12894): new is what a network cannot predict yet.

A network learns to predict the outputs of another, random and fixed one, on the states that come. Where it is wrong,
the state is unlike those before. As there: inputs are whitened and clipped, and the bonus is divided by the running
standard deviation of its discounted returns.

What differs:
- both networks read words, as `TextFeatures` encodes them, and are small;
- the predictor learns from the states of each step, at that step, not from rollouts;
- the agent has one value for both rewards, so the bonus is episodic as the reward is: there are two values in the
  paper, the one of the bonus running on over episodes' ends. The discounted returns that scale it run on, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from heed.agents.exploration.features import TextFeatures, adam_state, set_adam_state, word_ids
from heed.agents.exploration.intrinsic import IntrinsicReward
from heed.policies.finite import REMEDY, require_finite_array


class RandomNetworkDistillation(IntrinsicReward):
    """The predictor's mean squared error, over the deviation of its discounted returns.

    Args:
        seed: of both networks.
        width: of the encoded texts and of the hidden layers.
        outputs: of the fixed network.
        learning_rate: of the predictor, with Adam.
        gamma: discount of the returns whose deviation is the unit of the bonus.
    """

    def __init__(
        self, *, seed: int, width: int = 128, outputs: int = 64, learning_rate: float = 1e-4, gamma: float = 0.99
    ):
        generator = torch.Generator().manual_seed(seed)
        self.features = TextFeatures(width=width, generator=generator)
        self.target = _network((width, width, outputs), generator).requires_grad_(False)
        self.predictor = _network((width, width, width, outputs), generator)
        self.optimizer = torch.optim.Adam(self.predictor.parameters(), lr=learning_rate, fused=True)
        self.gamma = gamma
        self._returns = torch.zeros(0, dtype=torch.float64)
        self._moments = torch.zeros(3, dtype=torch.float64)  # of all returns so far: number, sum, sum of squares

    def __call__(self, texts: Sequence[str], dones: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the bonus of the states, (n_envs,), and let the predictor learn them."""
        errors = self._errors(self.features(word_ids(texts), observe=True))
        # Before the predictor learns from them: one NaN would be in all of its weights.
        require_finite_array(errors.detach().numpy(), "prediction error (random network distillation)", REMEDY)
        self.optimizer.zero_grad()
        errors.mean().backward()
        self.optimizer.step()
        raw = errors.detach().double()
        if len(self._returns) != len(raw):
            self._returns = torch.zeros_like(raw)
        self._returns = self.gamma * self._returns + raw
        returns = self._returns
        self._moments += torch.stack([torch.ones_like(returns).sum(), returns.sum(), returns.pow(2).sum()])
        return (raw / self._unit()).numpy()

    def errors(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the predictor's mean squared errors, (B,), without learning."""
        with torch.no_grad():
            return self._errors(self.features(word_ids(texts))).numpy()

    def _errors(self, features: Tensor) -> Tensor:
        errors: Tensor = (self.predictor(features) - self.target(features)).pow(2).mean(dim=1)
        return errors

    def _unit(self) -> float:
        number, total, squares = self._moments.tolist()
        deviation = np.sqrt(max(0.0, squares / number - (total / number) ** 2))
        return float(max(deviation, 1e-8))

    def get_state(self) -> dict[str, Tensor]:
        """Return networks, optimizer and statistics."""
        parts = {"features": self.features, "target": self.target, "predictor": self.predictor}
        tensors = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in adam_state(self.optimizer).items()}
        return {**tensors, "returns": self._returns, "moments": self._moments}

    def set_state(self, tensors: dict[str, Tensor]) -> None:
        """Put networks, optimizer and statistics back."""
        for part, module in (("features", self.features), ("target", self.target), ("predictor", self.predictor)):
            module.load_state_dict(_below(part, tensors))
        set_adam_state(self.optimizer, _below("optimizer", tensors))
        self._returns, self._moments = tensors["returns"], tensors["moments"]


def _network(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Return linear layers with ReLUs between, orthogonal and without bias at first, as in the paper's code."""
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layer = nn.Linear(width, following)
        nn.init.orthogonal_(layer.weight, gain=2**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _below(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
