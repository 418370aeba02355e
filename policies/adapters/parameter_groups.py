"""Learning rates that differ from one part of a policy to another.

A pretrained language model wants small steps, and heads that begin at random want larger ones. And the lower a layer
is, the less it need change: layer-wise decay multiplies the learning rate by a factor for each layer that lies above
(Howard and Ruder 2018, arXiv 1801.06146, section 3.2, "discriminative fine-tuning").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from heed.policies.backbones.hidden_states import layers_of

FACTOR = "learning_rate_factor"
"""The key of an optimizer's group of parameters under which its factor stands."""


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """By what the learning rate is multiplied for each part of a policy.

    Raises:
        ValueError: if a factor is not positive, or the decay not in (0, 1].
    """

    heads: float = 1.0
    """What actions come out of, and what brings numbers and pictures in."""
    value: float = 1.0
    """The value function."""
    layer_decay: float = 1.0
    """For each layer of the language model above a weight; embeddings lie below all."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("heads", "value"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"The learning rate's factor for {name} is {getattr(self, name)}, but must be positive."
                )
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}, but must be above 0 and at most 1.")

    def as_json(self) -> dict[str, float]:
        """Return the factors as JSON; `LearningRates(**saved)` is the inverse."""
        return asdict(self)

    def groups(self, policy: nn.Module, model: PreTrainedModel, value: Iterable[nn.Module]) -> list[dict[str, Any]]:
        """Return what an optimizer takes: the parameters that train, by their factor.

        Args:
            policy: all parameters.
            model: the language model in it.
            value: the modules of the value function in it.

        Raises:
            ValueError: if layers are to differ and the model is no single stack of layers.
        """
        factors = {id(weight): 1.0 for weight in model.parameters()}
        if self.layer_decay != 1:
            layers = layers_of(model)
            embedding = model.get_input_embeddings()
            assert embedding is not None
            parts = [embedding, *layers]
            for height, part in enumerate(parts):
                for weight in part.parameters():
                    factors[id(weight)] = self.layer_decay ** (len(layers) - height)
        factors.update({id(weight): self.value for module in value for weight in module.parameters()})
        by_factor: dict[float, list[nn.Parameter]] = {}
        for weight in policy.parameters():
            if weight.requires_grad:
                by_factor.setdefault(factors.get(id(weight), self.heads), []).append(weight)
        return [{"params": weights, FACTOR: factor} for factor, weights in by_factor.items()]
