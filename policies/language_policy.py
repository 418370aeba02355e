"""What all language policies have in common: a language model that processes prompts, and a head that gives actions.

Stable-Baselines3 has one base class for actor-critics and another for Q-networks; `LanguagePolicy` comes before either.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from heed.policies.adapters.rank_budget import RankBudget
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import as_trained, options_for
from heed.policies.networks.choosing import make_network
from heed.policies.networks.prompt_network import PromptNetwork
from heed.policies.observations import PromptObservations, require_prompt_space


class LanguagePolicy(PromptObservations, BasePolicy):
    """A policy of a language model; it comes before an SB3 policy."""

    language_model: LanguageModel
    options: ModelOptions
    """How the policy uses it."""
    value_name: str
    """What its values measure, for reports."""
    explained_name: str
    """What `explained` returns of an action, for reports."""

    def _load_language_model(
        self, observation_space: spaces.Space[Any], model: str | LanguageModel, options: ModelOptions
    ) -> None:
        """Load or copy the language model; before SB3's constructor.

        Raises:
            ValueError: if the observations are not prompts of the model.
        """
        self.language_model = as_trained(model, options)
        self.options = options_for(self.language_model, options)
        require_prompt_space(observation_space, self.language_model.vocabulary)

    def _make_network(self, language_model: LanguageModel) -> PromptNetwork:
        """Return a network from prompts to features and scores."""
        return make_network(language_model, self.action_space, self.options, encoder=self.encoder)

    @property
    @abstractmethod
    def acting(self) -> torch.nn.Module:
        """The part of the policy that chooses actions: of two Q-networks the online one."""

    @property
    @abstractmethod
    def reader(self) -> PromptNetwork:
        """The network behind `acting`."""

    @property
    def rank_budget(self) -> RankBudget | None:
        """Distributes the ranks of an AdaLoRA adapter, if the policy has one."""
        return self.reader.rank_budget

    @abstractmethod
    def best_actions(self, prompts: Tensor) -> Tensor:
        """Return the most probable or most valued actions, (B, ...), for prompts (B, L)."""

    @abstractmethod
    def values_of(self, prompts: Tensor, actions: Tensor) -> Tensor:
        """Return the values, (B,), of states, or of actions (B, ...) in them (`value_name`)."""

    @abstractmethod
    def explained(self, prompts: Tensor, action: Tensor) -> Tensor:
        """Return a number, (B,), that is larger the more the policy prefers an action.

        Args:
            prompts: (B, L).
            action: the same for all prompts, (1, ...).
        """
