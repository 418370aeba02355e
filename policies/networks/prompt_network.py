"""What the networks of all language models have in common: from prompts to features and action scores.

The language model processes the tokens, each kind of model in a class of its own. Late modalities
(`heed.policies.modalities.fusion`) are added to its output, so prompts that differ only in such a number are computed
once.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn
from transformers import PreTrainedModel

from heed.policies.adapters.adapters import rank_budget_of
from heed.policies.adapters.rank_budget import RankBudget
from heed.policies.backbones.activation_checkpointing import checkpoint_layers, require_gradient
from heed.policies.backbones.hidden_states import compile_layers
from heed.policies.caches.batching import Inputs
from heed.policies.caches.frozen import FrozenLayers, freeze
from heed.policies.caches.memory import RowMemory
from heed.policies.caches.prefixes import PrefixMemory
from heed.policies.heads.action_sets import ActionSets
from heed.policies.heads.trie import Tries
from heed.policies.modalities.fusion import Embedders, action_bias, text_vectors
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.prompts.layout import PromptLayout

READINGS_BYTES = 64 * 2**20
"""The most that a network caches of its outputs."""

Self = TypeVar("Self", bound="PromptNetwork")


class PromptNetwork(nn.Module):
    """A language model over prompts; each distinct prompt is computed once.

    A subclass sets the attributes below and writes `read`.
    """

    model: PreTrainedModel
    features_dim: int
    """D"""
    layout: PromptLayout
    tokens_read: int
    """Tokens of prompts that the language model has processed so far; cached outputs do not count."""
    n_scores: int
    """Action scores of a prompt, A; 0 without any."""
    action_sets: ActionSets | None = None
    """Where actions change from prompt to prompt: their tries."""
    tries: Tries
    """Of the actions; where they change from prompt to prompt, of none that there are."""
    auxiliary: Embedders | None
    """Of modalities that enter late."""
    is_frozen: bool
    """Whether nothing of the language model trains."""
    rank_budget: RankBudget | None = None
    """Of an AdaLoRA adapter: whoever updates the network lets it distribute the ranks."""
    memory: RowMemory | None
    """Caches outputs while weights do not change, as in rollouts; None to compute them every time."""
    prefixes: PrefixMemory | None = None
    frozen: FrozenLayers | None = None

    def listed(self, batch: Inputs) -> npt.NDArray[np.integer[Any]]:
        """Return the numbers of the actions that each input lists, (U, A), -1 behind the last."""
        assert self.layout.choosing is not None
        return batch.entering[self.layout.choosing.key]

    @abstractmethod
    def read(self, batch: Inputs) -> tuple[Tensor, Tensor | None]:
        """Return the features of different prompts, (U, D), and with `head="score"` the action scores, (U, A)."""

    def pieces(self, prompt: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return what the language model looks up of a prompt's tokens, (L,): here all of them at once.

        Returns:
            Of each text that is read: how it begins, (T,), and which of the prompt's tokens each stands for, (T,), -1
            for none.
        """
        return [(prompt, torch.arange(len(prompt), device=prompt.device))]

    def prepare_layers(self, language_model: LanguageModel, options: ModelOptions) -> None:
        """Freeze what does not train, and set how the model's layers are computed.

        Raises:
            ValueError: if `train_layers` or `activation_checkpointing` cannot be.
        """
        if language_model.adapter is None or options.train_layers == 0:
            freeze(self.model, options.train_layers)
        if options.activation_checkpointing:
            require_gradient(options.compiled, options.train_layers)
            checkpoint_layers(self.model)
        if options.compiled:
            compile_layers(self.model)
        self.is_frozen = options.train_layers == 0
        self.rank_budget = None if self.is_frozen else rank_budget_of(self.model, language_model.adapter)

    def refuse_sequence(self) -> None:
        """Refuse modalities that enter the sequence, in a network that reads whole texts or their parts.

        Raises:
            ValueError: naming them.
        """
        keys = [modality.key for modality in self.layout.modalities if modality.enters == "sequence"]
        if keys:
            raise ValueError(f"{', '.join(keys)} enter the sequence of a causal model, and this one is none.")

    @property
    def has_changing_actions(self) -> bool:
        """Whether actions change from prompt to prompt."""
        return self.layout.choosing is not None

    @property
    def is_inference(self) -> bool:
        """Whether nothing learns from what is read now."""
        return not (self.training or torch.is_grad_enabled())

    def train(self: Self, mode: bool = True) -> Self:
        """Set the mode of all but the language model, which stays in evaluation.

        Dropout would make the probabilities of a rollout differ from those of the update, which PPO reads as a
        change of policy.
        """
        super().train(mode)
        self.model.train(False)
        return self

    def clear_cache(self) -> None:
        """Forget what was computed: the next prompts are read as by a network that was just loaded."""
        for memory in (self.memory, self.prefixes, self.frozen):
            if memory is not None:
                memory.clear_cache()

    @contextlib.contextmanager
    def reading_anew(self) -> Iterator[None]:
        """Within this, compute all that is read, with a gradient through what is frozen too.

        Nothing of it is remembered, and what was remembered stays as it is.
        """
        kept = {name: getattr(self, name) for name in ("memory", "prefixes", "frozen", "is_frozen")}
        self.memory, self.prefixes, self.frozen, self.is_frozen = None, None, None, False
        try:
            yield
        finally:
            for name, value in kept.items():
                setattr(self, name, value)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read prompts.

        Args:
            observations: rows of the encoder's layout, (B, width): token ids, padded with -1 on the right, and what
                the modalities packed.

        Returns:
            The features of each prompt, (B, D), and the action scores, (B, A), with `head="score"`; they are -inf where
            there are fewer actions.
        """
        parts = self.layout.split(observations)
        batch = Inputs.of(parts.tokens, {key: parts.packed[key] for key in self.layout.entering})
        features, scores = self.read(batch)
        features = features[batch.inverse]
        scores = None if scores is None else scores[batch.inverse]
        if self.auxiliary is None:
            return features, scores
        perceived = self.auxiliary(parts.packed).sum(dim=1)
        if scores is not None:
            scores = scores + action_bias(perceived, self._text_vectors(batch))
        return features + perceived, scores

    def _text_vectors(self, batch: Inputs) -> Tensor:
        """Return a vector of each action's text, (1, A, D), or where actions change those of each row, (B, A, D)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            if self.action_sets is None:
                return text_vectors(self.model, self.tries)
            vectors = text_vectors(self.model, self.action_sets.tries_of(self.listed(batch), self.model.device))
            vectors = torch.nn.functional.pad(vectors, (0, 0, 0, self.n_scores - vectors.shape[1]))
            return vectors.expand(len(batch.keys), -1, -1)[batch.inverse]


def refuse_normalization(language_model: LanguageModel, options: ModelOptions) -> None:
    """Refuse a normalization where an action has one score, as encoders give it.

    Raises:
        ValueError: if one is given.
    """
    if options.normalization != "mean":
        raise ValueError(
            f"{language_model.name} is an encoder: it reads each action whole and has no likelihoods of tokens to "
            f"normalise. Leave normalization={options.normalization!r} out."
        )


def texts_of(action_space: spaces.Space[Any]) -> tuple[str, ...]:
    """Return the names of the actions, for `head="score"`.

    Raises:
        ValueError: if they have none.
    """
    texts: tuple[str, ...] | None = getattr(action_space, "texts", None)
    if texts is None:
        raise ValueError(
            f"head='score' chooses among actions that have names, but the action space is {action_space}. "
            "Use head='linear', or an environment with Discrete actions and `action_texts`."
        )
    return texts
