"""A gradient on tensors that have shapes but no data: it measures the memory of the real one.

The layers, the scores and the gradient are those of a training, so an adapter, activation checkpointing, bfloat16 and
the scoring method are counted as they are, and no formula has to know an architecture.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel

from heed.policies.adapters.virtual_tokens import reader_of
from heed.policies.backbones.activation_checkpointing import checkpoint_layers
from heed.policies.backbones.backbone import Read
from heed.policies.backbones.hidden_states import LowerStates, layers_of, read_hidden_states
from heed.policies.backbones.precision import autocast
from heed.policies.heads.scoring import ActionScorer, Normalization, ScoringMethod, last_hidden_state
from heed.policies.heads.trie import Tries
from heed.policies.models.encoders import Pooling, pool
from heed.policies.models.language_model import LanguageModel
from heed.training.memory.peak import LiveBytes
from heed.training.memory.word_counts import WordCounts

Chunk = tuple[int, int]
"""How many prompts are read together, and how many tokens, or words, they have with their padding."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a policy reads, as `LanguageNetwork` does it."""

    mode: FakeTensorMode
    """In which the model was made."""
    language_model: LanguageModel
    """As it trains."""
    tries: Tries | None
    """Of the actions; None for a linear head."""
    words: WordCounts | None
    """Of a model that reads words (`heed-words`): how many there are."""
    normalization: Normalization
    train_layers: int | None
    in_bfloat16: bool
    """Whether it computes under autocast."""
    activation_checkpointing: bool

    def __post_init__(self) -> None:
        """Prepare the model's layers."""
        if self.activation_checkpointing:
            with self.mode:
                checkpoint_layers(self.language_model.model)

    @property
    def features_dim(self) -> int:
        """How many numbers come of a prompt, D."""
        return self.language_model.backbone.width

    def trained(self) -> list[nn.Parameter]:
        """Return the weights that train of what reads."""
        if self.train_layers == 0:
            return []
        return [weight for weight in self.language_model.model.parameters() if weight.requires_grad]

    def gradient(self, chunks: Sequence[Chunk], *, reference: Sequence[Chunk] = (), onto: bool = False) -> int:
        """Return the bytes at the peak of accumulating a gradient, those of the gradient itself included.

        Args:
            chunks: of the forward pass.
            reference: chunks that are computed without a gradient in between, as by a reference policy.
            onto: whether the gradient of other parts is there already.
        """
        weights = self.trained()
        with self.mode, LiveBytes() as live:
            if onto:
                for weight in weights:
                    weight.grad = torch.zeros_like(weight)
            outputs = self._read(chunks)
            if reference:
                with torch.no_grad():
                    self._read(reference)
            if outputs.requires_grad:
                outputs.sum().backward()
            del outputs
        for weight in weights:
            weight.grad = None
        return int(live.peak)

    def reading(self, chunks: Sequence[Chunk]) -> int:
        """Return the bytes at the peak of a forward pass without a gradient."""
        with self.mode, LiveBytes() as live, torch.no_grad():
            self._read(chunks, whole=True)
        return int(live.peak)

    def _read(self, chunks: Sequence[Chunk], *, whole: bool = False) -> Tensor:
        learns = torch.is_grad_enabled() and self.train_layers != 0
        precision = "bfloat16" if self.in_bfloat16 else "float32"
        with (
            torch.set_grad_enabled(learns),
            autocast(torch.device("cpu"), precision, wide=False),  # type: ignore[arg-type]  # one of the two it is
        ):
            return torch.cat([self._read_chunk(*chunk, whole=whole) for chunk in chunks])

    def _read_chunk(self, count: int, length: int, *, whole: bool) -> Tensor:
        model = self.language_model.model
        if self.words is not None:
            return torch.cat(model(self.words.scene(count, length)), dim=1).float()
        if not self.language_model.backbone.gives_likelihoods:
            return self._read_texts(self.language_model.pooling, count, length)
        prompts = torch.zeros(count, length, dtype=torch.long)
        read = self._reader(whole=whole)
        if self.tries is None:
            return last_hidden_state(model, prompts, read=read).float()
        features, scores = ActionScorer(self._ways(), self.normalization)(model, prompts, self.tries, read=read)
        return torch.cat([features.float(), scores], dim=1)

    def _read_texts(self, pooling: Pooling, count: int, length: int) -> Tensor:
        """Read prompts as an encoder does: each alone, and to score actions with each action's text as well."""
        if self.tries is not None:
            actions, longest = self.tries.n_actions, self.tries.depth
            count, length = count * (1 + actions), length + longest
        tokens = torch.zeros(count, length, dtype=torch.long)
        real = torch.ones(count, length, dtype=torch.bool)
        states = self.language_model.model(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        return pool(states, real, pooling)

    def _ways(self) -> tuple[ScoringMethod, ...]:
        methods: Any = self.language_model.backbone.scoring_methods
        stands_before = reader_of(self.language_model.model) is not None
        return ("packed",) if stands_before or self.frozen_layers else methods

    @property
    def frozen_layers(self) -> int:
        """How many layers are frozen below others that train, whose states are kept."""
        if not self.train_layers or self.words is not None:
            return 0
        return len(layers_of(self.language_model.model)) - self.train_layers

    def _reader(self, *, whole: bool) -> Read:
        model, below = self.language_model.model, self.frozen_layers
        virtual = reader_of(model)
        if virtual is not None:
            return virtual
        return functools.partial(_read_above, below) if below and not whole else read_hidden_states


def _read_above(below: int, model: PreTrainedModel, tokens: Tensor, read: Tensor, **more: Any) -> Tensor:
    """Read from the states of frozen layers on, which are remembered."""
    states = torch.empty(*tokens.shape, int(model.config.get_text_config().hidden_size), dtype=model.dtype)
    return read_hidden_states(model, tokens, read, lower=LowerStates(states=states, layers=below), **more)
