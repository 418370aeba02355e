"""What both policies do with observations: take words as well as prompts, and keep ids whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

from heed.policies.prompts.layout import PADDING
from heed.policies.prompts.prompt import PromptEncoder, PromptSpace

WORDS = ("instruction", "observation")
"""The keys that every observation has."""

HOW_WORDS = '{"instruction": "...", "observation": "..."}'
"""What an observation looks like."""

EMPTY = "This batch of observations is empty: there is nothing to act on."


class PromptObservations:
    """Mixin for SB3 policies whose observations are prompts."""

    observation_space: spaces.Space[Any]
    device: torch.device

    @property
    def encoder(self) -> PromptEncoder:
        """The encoder that makes this policy's prompts."""
        assert isinstance(self.observation_space, PromptSpace)
        return self.observation_space.encoder

    training: bool

    def set_training_mode(self, mode: bool) -> None:
        """Switch between training and acting; nothing is done where that is so already, as in every `predict`."""
        if self.training != mode:
            super().set_training_mode(mode)  # type: ignore[misc]  # the policy's, behind this mixin

    def save(self, path: str) -> None:
        """Refuse SB3's pickled format; an agent's checkpoint holds the policy."""
        raise TypeError("A policy alone is saved as a pickle: save the agent (agent.save), whose checkpoint holds it.")

    @classmethod
    def load(cls, path: str, device: torch.device | str = "auto") -> Any:
        """Refuse SB3's pickled format, which can run code."""
        raise TypeError("A policy alone is loaded from a pickle: load its agent (heed.agents.load) instead.")

    def is_vectorized_observation(self, observation: Any) -> bool:
        """Say whether `observation` is a batch: of prompts, or of instructions and observations."""
        return as_batch(observation)[1] if are_words(observation) else np.ndim(observation) == 2

    def obs_to_tensor(self, observation: Any) -> tuple[Tensor, bool]:
        """Turn language observations or prompts, one or a batch of them, into a tensor of prompts.

        Returns:
            Token ids, (B, L), and whether the observation was a batch.

        Raises:
            TypeError: if it is neither words nor prompts.
            ValueError: if there is none, a key is missing, or there are no such prompts.
        """
        if are_words(observation):
            words, batched = as_batch(observation)
            # The encoder reports an auxiliary observation that is missing.
            prompts = self.encoder({key: words[key] for key in self.encoder.keys if key in words})
            return torch.as_tensor(prompts, device=self.device), batched
        prompts = self._checked_prompts(observation)
        return torch.as_tensor(prompts if prompts.ndim == 2 else prompts[None], device=self.device), prompts.ndim == 2

    def _checked_prompts(self, observation: Any) -> npt.NDArray[np.integer[Any]]:
        """Return prompts as an array, (B, L) or (L,), after a look whether they are any."""
        prompts = np.asarray(observation.cpu() if isinstance(observation, Tensor) else observation)
        if prompts.dtype.kind not in "iu" or prompts.ndim not in (1, 2):
            raise TypeError(
                f"An observation is a prompt, (L,) or (B, L) token ids, or words, {HOW_WORDS}; not an array of "
                f"{prompts.dtype} of the shape {prompts.shape}."
            )
        if not prompts.size:
            raise ValueError(EMPTY)
        layout, vocabulary = self.encoder.layout, len(self.encoder.tokenizer)
        if prompts.shape[-1] > layout.width:
            raise ValueError(
                f"These prompts are {prompts.shape[-1]} wide, but the agent's are {layout.width}: encode them with its "
                "own encoder, or give the words."
            )
        tokens = layout.tokens_of(prompts)
        if tokens.min() < PADDING or tokens.max() >= vocabulary or (tokens[..., 0] == PADDING).any():
            raise ValueError(
                f"These are no prompts of this agent: a prompt begins with a token, and its ids are from 0 to "
                f"{vocabulary - 1}, with {PADDING} behind the last. Encode with its own encoder, or give the words."
            )
        return prompts


def are_words(observation: Any) -> bool:
    """Say whether something is given as words, or at least not as an array of numbers.

    Raises:
        TypeError: if it can be neither.
    """
    if isinstance(observation, Mapping):
        return True
    if observation is None or isinstance(observation, str | bytes | np.str_):
        given = "None" if observation is None else f"the text {str(observation)[:80]!r}"
        raise TypeError(f"An observation is a dict of texts, {HOW_WORDS}; not {given}.")
    if isinstance(observation, tuple) and any(isinstance(part, Mapping) for part in observation):
        raise TypeError(
            "This is a tuple, as `observation, info = env.reset()` gives it: pass the observation alone, a dict of "
            f"texts, {HOW_WORDS}."
        )
    if isinstance(observation, Tensor):
        return False
    if isinstance(observation, np.ndarray):
        return bool(observation.dtype == object)
    if not isinstance(observation, Sequence) or not len(observation):
        return True
    return not isinstance(observation[0], int | np.integer | list | np.ndarray | Tensor)


def as_batch(observations: Any) -> tuple[dict[str, Any], bool]:
    """Return language observations as a batch: under each key a list of B texts, or of auxiliary observations.

    Args:
        observations: a dict of texts; a dict that holds B of them under each key; or a sequence of B dicts of texts.

    Returns:
        The batch, and whether it was one; else B = 1.

    Raises:
        TypeError: if they are something else.
        ValueError: if there are none, a key is missing, or there are not as many texts under one key as under another.
    """
    if not are_words(observations) or not isinstance(observations, Mapping | Sequence | np.ndarray):
        raise TypeError(f"An observation is a dict of texts, {HOW_WORDS}; not {str(observations)[:80]}.")
    if isinstance(observations, Mapping):
        words, batched = _of_mapping(observations)
    else:
        words, batched = _of_dicts(observations), True
    sizes = {key: len(values) for key, values in words.items() if hasattr(values, "__len__")}
    if not sizes["instruction"]:
        raise ValueError(EMPTY)
    if len(set(sizes.values())) > 1:
        raise ValueError(f"A batch holds as much under each key, but here there are {sizes}.")
    for key in WORDS:
        for text in words[key]:
            if not isinstance(text, str):
                raise TypeError(f"The observation's {key!r} is {text!r}, which is no text.")
    return words, batched


def _of_mapping(observation: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    for key in WORDS:
        if key not in observation:
            raise ValueError(f"The observation has no {key!r}, only {list(observation)}: it is {HOW_WORDS}.")
    single = {key: _is_single(key, observation[key]) for key in WORDS}
    if len(set(single.values())) > 1:
        raise ValueError(
            "Of `instruction` and `observation` one is a single text and the other is several: give one text under "
            "both, or as many under both."
        )
    if not single["instruction"]:
        return dict(observation), True
    alone = {
        key: value.item() if isinstance(value, np.ndarray) and not value.ndim else value
        for key, value in observation.items()
    }
    return {key: [value] for key, value in alone.items()}, False


def _is_single(key: str, value: Any) -> bool:
    """Say whether a key holds one text; otherwise it holds several."""
    if isinstance(value, str) or (isinstance(value, np.ndarray) and not value.ndim):
        return True
    if not isinstance(value, Sequence | np.ndarray):
        raise TypeError(f"The observation's {key!r} is {value!r}, which is no text.")
    return False


def _of_dicts(observations: Any) -> dict[str, Any]:
    several = list(observations)
    if not several:
        raise ValueError(EMPTY)
    for one in several:
        if not isinstance(one, Mapping):
            raise TypeError(f"A batch of observations holds dicts of texts, {HOW_WORDS}; not {str(one)[:80]!r}.")
        if not all(isinstance(one.get(key), str) for key in WORDS):
            raise ValueError(f"Each observation of a list is {HOW_WORDS}, but one is {str(dict(one))[:160]}.")
        if one.keys() != several[0].keys():
            raise ValueError(f"The observations of a batch have other keys: {list(several[0])} and {list(one)}.")
    return {key: [one[key] for one in several] for key in several[0]}


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
