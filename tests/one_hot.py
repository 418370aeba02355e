"""A Q-network without a language model: one value for each prompt and action, as fast as a table."""

from __future__ import annotations

from typing import Any

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

    def __init__(self, observation_space: spaces.Box, numbers: dict[bytes, int]):
        super().__init__(observation_space, MOST)
        self.numbers = numbers

    def forward(self, prompts: Tensor) -> Tensor:
        rows = [self.numbers.setdefault(row.tobytes(), len(self.numbers)) for row in prompts.cpu().numpy()]
        features = torch.zeros(len(rows), MOST)
        features[torch.arange(len(rows)), rows] = 1.0
        return features


class OneHotPolicy(PromptObservations, DQNPolicy):
    """SB3's DQN policy, linear in the number of the prompt and zero at first."""

    def __init__(self, *arguments: Any, model: Any = None, **options: Any):
        # Online and target network must number prompts alike.
        extractor = {"features_extractor_class": OneHotPrompts, "features_extractor_kwargs": {"numbers": {}}}
        super().__init__(*arguments, net_arch=[], normalize_images=False, **extractor, **options)
        for network in (self.q_net, self.q_net_target):
            for parameter in network.parameters():
                torch.nn.init.zeros_(parameter)
