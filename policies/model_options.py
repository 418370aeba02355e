"""How a policy uses its language model: one value from the policy's constructor to its network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heed.policies.adapters.adapters import Adapter
from heed.policies.adapters.parameter_groups import LearningRates
from heed.policies.backbones.precision import Precision, Weights, require_sensible
from heed.policies.heads.scoring import Normalization


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a policy uses its language model. Both policies take these as keyword arguments of their own.

    Raises:
        ValueError: if `weights` do not go with what trains, or with the precision.
    """

    head: str = "score"
    """How actions, or their values, come out of the language model: the name of a head."""
    normalization: Normalization = "mean"
    """Of the scores, over an action's tokens. An encoder, which has no likelihoods of tokens, takes `mean` only."""
    train_layers: int | None = None
    """How many of the language model's top layers train, or get the adapter; None for all of it, 0 for nothing."""
    freeze_embeddings: bool = False
    """Do not train the language model's embeddings, nor an output embedding that shares their weights."""
    adapter: Adapter | None = None
    """Trains instead of the language model's weights."""
    learning_rates: LearningRates | None = None
    """How the learning rate differs from part to part; None for the same everywhere. For DQN, `value` is that of the
    state's value in the dueling form."""
    precision: Precision = "auto"
    """`bfloat16`, `float32`, or `auto`: bfloat16 on a GPU that has it, for models wide enough; on a CPU agents
    decide it (`heed.policies.backbones.precision.decided`)."""
    compiled: bool = False
    """Let `torch.compile` fuse the layers' operations: the first updates take minutes, later ones less time."""
    activation_checkpointing: bool = False
    """Keep only each layer's input for the gradient, and recompute the rest: much less memory, a third more time."""
    weights: Weights = "float32"
    """`bfloat16` halves the memory of the language model, if nothing of it trains but an adapter."""

    def __post_init__(self) -> None:
        """Refuse options that do not go together."""
        trains_own_weights = self.adapter is None and self.train_layers != 0
        require_sensible(self.precision, self.weights, trains_own_weights=trains_own_weights)

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> ModelOptions:
        """Return the options among the arguments of a policy, which may have others."""
        return cls(**{name: arguments[name] for name in MODEL_OPTIONS if name in arguments})


MODEL_OPTIONS = tuple(field.name for field in dataclasses.fields(ModelOptions))
"""The names of the options."""
