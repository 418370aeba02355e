"""What both policies do with observations: take words as well as prompts, and keep ids whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from heed.policies.prompt import PromptEncoder, PromptSpace


class PromptObservations:
    """Mixin for SB3 policies whose observations are prompts."""

    observation_space: spaces.Space[Any]
    device: torch.device

    @property
    def encoder(self) -> PromptEncoder:
        """The encoder that makes this policy's prompts."""
        assert isinstance(self.observation_space, PromptSpace)
        return self.observation_space.encoder

    def save(self, path: str) -> None:
        """Refuse SB3's pickled format; an agent's checkpoint holds the policy."""
        raise TypeError("A policy alone is saved as a pickle: save the agent (agent.save), whose checkpoint holds it.")

    @classmethod
    def load(cls, path: str, device: torch.device | str = "auto") -> Any:
        """Refuse SB3's pickled format, which can run code."""
        raise TypeError("A policy alone is loaded from a pickle: load its agent (heed.agents.load) instead.")

    def is_vectorized_observation(self, observation: Any) -> bool:
        """Say whether `observation` is a batch: of prompts, or of instructions and observations."""
        if isinstance(observation, Mapping):
            return not isinstance(observation["instruction"], str)
        return np.ndim(observation) == 2

    def obs_to_tensor(self, observation: Any) -> tuple[Tensor, bool]:
        """Turn language observations or prompts, one or a batch of them, into a tensor of prompts.

        Returns:
            Token ids, (B, L), and whether the observation was a batch.
        """
        batched = self.is_vectorized_observation(observation)
        if isinstance(observation, Mapping):
            # A key that is missing is told of by the encoder.
            read = {key: observation[key] for key in self.encoder.keys if key in observation}
            observation = self.encoder(read if batched else {key: [one] for key, one in read.items()})
        prompts = np.asarray(observation)
        return torch.as_tensor(prompts if prompts.ndim == 2 else prompts[None], device=self.device), batched


def require_prompt_space(observation_space: spaces.Space[Any], vocabulary: int) -> None:
    """Refuse an observation space that does not hold prompts for a model of that vocabulary.

    Raises:
        ValueError: in a sentence that says how to make such an environment.
    """
    if not isinstance(observation_space, PromptSpace):
        raise ValueError(
            f"A language policy reads prompts, but the observation space is {observation_space}. Wrap the environment: "
            "PromptVecEnv(heed.envs.make(...), load_language_model(...).encoder())."
        )
    last = observation_space.encoder.largest_id
    if last >= vocabulary:
        raise ValueError(
            f"The prompts hold token ids up to {last}, but the language model knows "
            f"{vocabulary} tokens: encode with the same model's tokenizer."
        )
