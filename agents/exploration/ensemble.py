"""The value functions that `UCB` and `Thompson` have of their own besides a deep Q-network.

Each is a small network over a fixed random encoding of the prompt, of its tokens and auxiliary observations, plus a
random network that never learns, its prior (Osband et al. 2018, arXiv 1806.03335): where little was learned, the priors
are what they differ by. All learn at once, from the agent's batches, each towards its own target network.

What differs from bootstrapped DQN (Osband et al. 2016, arXiv 1602.04621): the heads do not share the layers of the
agent's network. They say where to look, and the language model learns from what is found there; neither disturbs the
other, and a step of the training needs no forward of the language model to choose its actions.

Shapes: H value functions, B prompts, L tokens, A actions.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from heed.agents.exploration.features import adam_state, set_adam_state
from heed.agents.exploration.prompt_features import PromptFeatures
from heed.policies.finite import require_finite_loss
from heed.policies.prompts.layout import PromptLayout


class ValueEnsemble(nn.Module):
    """H networks of one hidden layer, computed together.

    Args:
        heads: H.
        n_actions: A.
        layout: of the prompts' rows.
        prior_scale: of the networks that never learn; 0 for none.
        seed: of all weights.
        width: of encoding and hidden layers.
        learning_rate: of Adam.
        target_rate: how far the target networks move towards the networks at each update.
    """

    def __init__(
        self,
        *,
        heads: int,
        n_actions: int,
        layout: PromptLayout,
        prior_scale: float,
        seed: int,
        width: int = 64,
        learning_rate: float = 3e-3,
        target_rate: float = 0.05,
    ):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.prior_scale = prior_scale
        self.target_rate = target_rate
        self.features = PromptFeatures(layout, width=width, generator=generator)
        sizes = (self.features.width, width, n_actions)
        self.prior = _Heads(heads, *sizes, generator, gain=1.0).requires_grad_(False)
        self.heads = _Heads(heads, *sizes, generator, gain=0.1)
        self.target = copy.deepcopy(self.heads).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.heads.parameters(), lr=learning_rate)

    def forward(self, prompts: Tensor) -> Tensor:
        """Return the values, (H, B, A), of prompts (B, L)."""
        return self._values(self.heads, self.features(prompts))

    def observe(self, prompts: Tensor) -> None:
        """Let the encoding take notice of prompts, (B, L)."""
        self.features(prompts, observe=True)

    def _values(self, heads: _Heads, features: Tensor) -> Tensor:
        values: Tensor = heads(features)
        return values + self.prior_scale * self.prior(features) if self.prior_scale else values

    def update(
        self,
        prompts: Tensor,
        actions: Tensor,
        rewards: Tensor,
        next_prompts: Tensor,
        discounts: Tensor,
        bonus: Tensor | None,
        masks: Tensor | None,
    ) -> float:
        """Learn a batch.

        Args:
            prompts: (B, L).
            actions: (B, 1).
            rewards: of one or several steps, (B, 1).
            next_prompts: (B, L).
            discounts: of the value there, 0 where the episode is over, (B, 1).
            bonus: counted on top of that value, (B, A).
            masks: which value functions learn which samples, (H, B); None for all.

        Returns:
            The mean squared error.

        Raises:
            NonFiniteError: if it is not finite.
        """
        with torch.no_grad():
            next_values = self._values(self.target, self.features(next_prompts))
            best = (next_values if bonus is None else next_values + bonus).amax(dim=2)  # (H, B)
            targets = rewards.flatten() + discounts.flatten() * best
        values = self(prompts).gather(2, actions.long().expand(len(targets), -1, -1)).squeeze(2)
        errors = (values - targets).pow(2)
        # Each head's own mean: what one learns is not to depend on how many there are.
        loss = errors.mean(dim=1).sum() if masks is None else (errors * masks).mean(dim=1).sum()
        measured = float(errors.detach().mean())
        require_finite_loss({"exploration's value loss": measured}, self)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(self.target.parameters(), self.heads.parameters(), strict=True):
                mine.lerp_(theirs, self.target_rate)
        return measured

    def get_state(self) -> dict[str, Tensor]:
        """Return weights, statistics and the optimizer's state."""
        optimizer = {f"optimizer/{name}": tensor for name, tensor in adam_state(self.optimizer).items()}
        return {**self.state_dict(), **optimizer}

    def set_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `get_state` returned."""
        optimizer = {name: tensor for name, tensor in tensors.items() if name.startswith("optimizer/")}
        self.load_state_dict({name: tensor for name, tensor in tensors.items() if name not in optimizer})
        set_adam_state(self.optimizer, {name.removeprefix("optimizer/"): t for name, t in optimizer.items()})


class _Heads(nn.Module):
    """H networks of one hidden layer over the same features."""

    def __init__(self, heads: int, inputs: int, width: int, n_actions: int, generator: torch.Generator, *, gain: float):
        super().__init__()
        # He initialisation: outputs have about the deviation `gain` where features have deviation 1.
        self.hidden = nn.Parameter(torch.randn(heads, inputs, width, generator=generator) * (2 / inputs) ** 0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(heads, 1, width))
        self.out = nn.Parameter(torch.randn(heads, width, n_actions, generator=generator) * gain / width**0.5)
        self.out_bias = nn.Parameter(torch.zeros(heads, 1, n_actions))

    def forward(self, features: Tensor) -> Tensor:
        """Return (H, B, A) for features (B, inputs)."""
        hidden = (features @ self.hidden + self.hidden_bias).relu()
        return hidden @ self.out + self.out_bias
