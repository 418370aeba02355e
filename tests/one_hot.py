"""A Q-network without a language model: one value for each prompt and action, as fast as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from heed.policies.observations import PromptObservations

MOST = 512
"""Different prompts that there may be."""


class OneHotPrompts(BaseFeaturesExtractor):
    """Numbers prompts as they come."""

    def __init__(self, observation_space: spaces.Box, numbers: dict[int, int]):
        super().__init__(observation_space, MOST)
        self.numbers = numbers
        # Prompts are told apart by a random sum of their tokens.
        self.weights = np.random.default_rng(0).integers(2**40, size=observation_space.shape)

    def forward(self, prompts: Tensor) -> Tensor:
        keys, inverse = np.unique(prompts.cpu().numpy().astype(np.int64) @ self.weights, return_inverse=True)
        known = np.array([self.numbers.setdefault(int(key), len(self.numbers)) for key in keys])
        features = torch.zeros(len(prompts), MOST)
        features[torch.arange(len(prompts)), torch.from_numpy(known[inverse])] = 1.0
        return features


class OneHotPolicy(PromptObservations, DQNPolicy):
    """SB3's DQN policy, a weight for each prompt and action, all of them `first` at first."""

    def __init__(self, *arguments: Any, model: Any = None, first: float = 0.0, **options: Any):
        # Online and target network must number prompts alike.
        options |= {"net_arch": [], "normalize_images": False}
        options |= {"features_extractor_class": OneHotPrompts, "features_extractor_kwargs": {"numbers": {}}}
        super().__init__(*arguments, **options)
        for network in (self.q_net, self.q_net_target):
            for parameter in network.parameters():
                torch.nn.init.constant_(parameter, first if parameter.dim() == 2 else 0.0)
                # A bias would be shared by all prompts.
                parameter.requires_grad_(parameter.dim() == 2 and network is self.q_net)
