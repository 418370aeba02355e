"""What all language policies share: a language model that reads prompts, and a head from which actions come.

Stable-Baselines3 has one base class for actor-critics and another for Q-networks; `LanguagePolicy` comes before either.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from heed.policies.adapters.adapters import Adapter
from heed.policies.adapters.parameter_groups import LearningRates
from heed.policies.adapters.rank_budget import RankBudget
from heed.policies.backbones.precision import Precision, Weights, require_sensible
from heed.policies.heads.scoring import Normalization
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import as_trained
from heed.policies.networks.choosing import make_network
from heed.policies.networks.prompt_network import PromptNetwork
from heed.policies.observations import PromptObservations, require_prompt_space


class LanguagePolicy(PromptObservations, BasePolicy):
    """A policy of a language model; it comes before an SB3 policy."""

    language_model: LanguageModel
    head: str
    """The name of how actions come out of it (`heed.policies.heads.action_head`)."""
    value_name: str
    """What its values are of, for a reader."""
    explained_name: str
    """What number of an action `explained` gives, for a reader."""

    def _set_reading(
        self,
        observation_space: spaces.Space[Any],
        model: str | LanguageModel,
        *,
        head: str,
        normalization: Normalization,
        train_layers: int | None,
        freeze_embeddings: bool,
        adapter: Adapter | None,
        learning_rates: LearningRates | None,
        precision: Precision,
        compiled: bool,
        activation_checkpointing: bool,
        weights: Weights,
    ) -> None:
        """Load or copy the language model, and keep how it is to be read; before SB3's constructor.

        Raises:
            ValueError: if the observations are no prompts of the model, or options do not go together.
        """
        require_sensible(precision, weights, trains_own_weights=adapter is None and train_layers != 0)
        self.language_model = as_trained(
            model, train_layers, adapter, embeddings=not freeze_embeddings, weights=weights
        )
        require_prompt_space(observation_space, self.language_model.vocabulary)
        self.head = head
        self.normalization: Normalization = normalization
        self.learning_rates = learning_rates
        self.train_layers = train_layers
        self.precision: Precision = precision
        self.compiled = compiled
        self.activation_checkpointing = activation_checkpointing

    def _make_network(self, language_model: LanguageModel) -> PromptNetwork:
        """Return a network that reads prompts with a language model."""
        return make_network(
            language_model,
            self.action_space,
            self.head,
            self.normalization,
            encoder=self.encoder,
            train_layers=self.train_layers,
            precision=self.precision,
            compiled=self.compiled,
            activation_checkpointing=self.activation_checkpointing,
        )

    @property
    @abstractmethod
    def acting(self) -> torch.nn.Module:
        """The part of the policy that chooses actions: of two Q-networks the online one."""

    @property
    @abstractmethod
    def reader(self) -> PromptNetwork:
        """The network that reads the prompts of what acts."""

    @property
    def rank_budget(self) -> RankBudget | None:
        """What shares the ranks of an AdaLoRA adapter, if the policy has one."""
        return self.reader.rank_budget

    @abstractmethod
    def best_actions(self, prompts: Tensor) -> Tensor:
        """Return the most probable or most valued actions, (B, ...), for prompts (B, L)."""

    @abstractmethod
    def values_of(self, prompts: Tensor, actions: Tensor) -> Tensor:
        """Return what is expected, (B,), in states or of actions (B, ...) in them (`value_name`)."""

    @abstractmethod
    def explained(self, prompts: Tensor, action: Tensor) -> Tensor:
        """Return a number that tells how much the policy is for an action, (B,).

        Args:
            prompts: (B, L).
            action: the same for all prompts, (1, ...).
        """
