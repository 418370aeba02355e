"""What one would write with Stable-Baselines3 and transformers alone: the ways that Heed is compared with.

Both are meant to be good code of the straightforward kind: batches are cut to their longest prompt, actor and critic
share one forward, attention is torch's own (sdpa), and dropout is off as it is in Heed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor
from transformers import PreTrainedModel

from heed.policies.prompts.layout import PADDING


def score_action(model: PreTrainedModel, prompts: Tensor, action: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Score one action after each prompt with a full forward, as published code does.

    Args:
        model: a causal language model.
        prompts: token ids, (B, L), padded with -1 on the right.
        action: T token ids.

    Returns:
        The hidden state of each prompt's last token, (B, D), and the mean log-likelihood of the action's tokens, (B,).
    """
    lengths = (prompts != PADDING).sum(dim=1, keepdim=True)
    places = lengths + torch.arange(len(action), device=prompts.device)  # (B, T)
    tokens = torch.nn.functional.pad(prompts, (0, len(action)), value=PADDING)
    tokens = tokens.scatter(1, places, torch.tensor(action, device=prompts.device).expand(len(prompts), -1))
    hidden = model.base_model(
        input_ids=tokens.clamp(min=0), attention_mask=(tokens != PADDING).long(), use_cache=False
    ).last_hidden_state
    head: Any = model.get_output_embeddings()
    log_probabilities = torch.log_softmax(head(hidden), dim=-1)  # (B, L + T, V)
    following = tokens.roll(-1, dims=1).clamp(min=0)
    likelihoods = log_probabilities.gather(2, following[:, :, None])[:, :, 0]  # of each next token, (B, L + T)
    last = hidden[torch.arange(len(prompts), device=prompts.device), lengths[:, 0] - 1]
    return last, likelihoods.gather(1, places - 1).mean(dim=1)


def trimmed(prompts: Tensor) -> Tensor:
    """Cut prompts, (B, L), to the longest of them."""
    prompts = prompts.long()
    return prompts[:, : max(1, int((prompts != PADDING).sum(dim=1).max()))]


class LastHiddenState(BaseFeaturesExtractor):
    """A Hugging Face model as SB3's features extractor: the hidden state of each prompt's last token.

    Args:
        observation_space: of prompts.
        model: a causal language model; its output embedding is not used.
    """

    def __init__(self, observation_space: spaces.Space[Any], model: PreTrainedModel):
        super().__init__(observation_space, int(model.config.get_text_config().hidden_size))
        self.model = model

    def forward(self, observations: Tensor) -> Tensor:
        """Return the features, (B, D), of prompts, (B, L), which SB3 has made floating-point numbers."""
        prompts = trimmed(observations)
        real = prompts != PADDING
        hidden: Tensor = self.model.base_model(
            input_ids=prompts.clamp(min=0), attention_mask=real.long(), use_cache=False
        ).last_hidden_state
        return hidden[torch.arange(len(prompts), device=prompts.device), real.sum(dim=1) - 1]

    def train(self, mode: bool = True) -> LastHiddenState:
        """Leave the model in evaluation: with dropout PPO's probability ratio would be noise."""
        super().train(mode)
        self.model.train(False)
        return self


class ScoringPolicy(ActorCriticPolicy):
    """Chooses among actions by the mean log-likelihood of their tokens, one forward for each of them.

    Args:
        observation_space: of prompts.
        action_space: `Discrete`.
        lr_schedule: as in SB3.
        model: a causal language model.
        actions: the token ids of each action.
        others: SB3's.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        model: PreTrainedModel,
        actions: Sequence[Sequence[int]],
        **others: Any,
    ):
        self.actions = actions
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=LastHiddenState,
            features_extractor_kwargs={"model": model},
            **others,
        )

    def _read(self, prompts: Tensor) -> tuple[Distribution, Tensor]:
        assert isinstance(self.features_extractor, LastHiddenState)
        assert isinstance(self.action_dist, CategoricalDistribution)
        prompts = trimmed(prompts)
        read = [score_action(self.features_extractor.model, prompts, action) for action in self.actions]
        scores = torch.stack([score for _, score in read], dim=1)
        last, _ = read[0]  # the same behind every action
        return self.action_dist.proba_distribution(scores), self.value_net(self.mlp_extractor.forward_critic(last))

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values and log-probabilities for prompts (B, L)."""
        distribution, values = self._read(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, values, distribution.log_prob(actions)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, log-probabilities of `actions`, and the entropy for prompts (B, L)."""
        distribution, values = self._read(obs)
        return values, distribution.log_prob(actions), distribution.entropy()
