"""The network of a causal or encoder-decoder model: its likelihoods score the actions."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from heed.policies.adapters.virtual_tokens import MODULE as VIRTUAL_TOKENS
from heed.policies.adapters.virtual_tokens import looked_up_before, reader_of
from heed.policies.backbones.backbone import backbone_of
from heed.policies.backbones.exactness import TrialError
from heed.policies.backbones.hidden_states import (
    layers_of,
    read_hidden_states,
)
from heed.policies.backbones.precision import as_stored, autocast, is_wide
from heed.policies.backbones.soft_tokens import read_behind, require_room_before
from heed.policies.caches.batching import Inputs
from heed.policies.caches.frozen import FrozenLayers, goes_on_exactly
from heed.policies.caches.memory import RowMemory
from heed.policies.caches.prefixes import PrefixMemory, keeps_exactly
from heed.policies.heads.action_head import head_kind
from heed.policies.heads.action_sets import ActionSets, trial_trie
from heed.policies.heads.scoring import Normalization, exact_methods, last_hidden_state, make_scorer, score_contexts
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.modalities.fusion import Embedders
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.networks.prompt_network import READINGS_BYTES, PromptNetwork, texts_of
from heed.policies.out_of_memory import does_not_fit, is_out_of_memory, reader_splits, release_memory
from heed.policies.prompts.layout import PromptLayout
from heed.policies.prompts.prompt import PromptEncoder

PREFIX_BYTES, FROZEN_BYTES = 1024 * 2**20, 1024 * 2**20
"""The most that the caches of one network take besides its outputs: keys and values of histories, states of frozen
layers."""


class LanguageNetwork(PromptNetwork):
    """A causal or encoder-decoder model over prompts; each distinct prompt is computed once.

    Args:
        language_model: is used as it is, not copied; what `train_layers` leaves out is frozen.
        action_space: for a head that reads texts its `texts` name the actions, unless the prompts themselves do.
        options: scores are computed for a head that reads texts, else only features.
        encoder: makes the prompts; None where they hold words alone.

    Raises:
        LanguageModelError: if the model has no positions for the longest action behind the longest prompts.
        ValueError: if the head reads texts and the actions have none, or `train_layers` or `activation_checkpointing`
            cannot be.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        action_space: spaces.Space[Any],
        options: ModelOptions,
        *,
        encoder: PromptEncoder | None = None,
    ):
        super().__init__()
        normalization = options.normalization
        reads_texts = head_kind(options.head).reads_texts
        self.model = language_model.model
        self.precision = as_stored(self.model, options.precision)
        self._is_wide = is_wide(self.model)
        backbone = backbone_of(self.model)
        self.features_dim = backbone.width
        self.normalization: Normalization = normalization
        self.layout = PromptLayout(0) if encoder is None else encoder.layout
        self.tokens_read = 0
        """Tokens of prompts that the language model has processed so far; cached outputs do not count."""
        self.chunk_tokens: int | None = None
        """Tokens computed at once without a gradient, padding included, since memory ran out; else None."""
        self.n_scores = self.layout.choices
        """Action scores of a prompt, A; 0 without any."""
        self.action_sets: ActionSets | None = None
        self.scorer = None
        trie = ActionTrie.build([[0]])  # one token: no inner nodes
        if encoder is not None and self.layout.choosing is not None:
            self.action_sets = ActionSets(language_model, normalization, encoder.action_texts, encoder.template)
            trie = trial_trie(language_model.vocabulary)
        elif reads_texts:
            texts = texts_of(action_space)
            template = None if encoder is None else encoder.template
            trie = language_model.action_trie(texts, normalization, template=template)
            self.n_scores = len(texts)
        self.tries = Tries([trie]).to(self.model.device)
        """Of the actions; where they change from prompt to prompt, only one to test scoring methods with."""
        longest = 64 if encoder is None else encoder.max_tokens
        if encoder is not None:
            before = self.layout.soft_tokens
            _require_places(language_model, longest, 0 if self.action_sets else self.tries.depth, before)
        if reads_texts:
            with _telling(language_model):
                self.scorer = make_scorer(self.model, self.tries, normalization, longest=longest)
        self.auxiliary = Embedders.of(self.layout.modalities, "late", self.features_dim)
        self.in_sequence = Embedders.of(self.layout.modalities, "sequence", backbone.embedding_width)
        """Of modalities that are soft tokens before the prompt."""

        self.prepare_layers(language_model, options)
        if self.in_sequence is not None:
            if reader_of(self.model) is not None:
                raise ValueError("Virtual tokens and modalities in the sequence would both stand before the prompt.")
            require_room_before(self.model, "modalities in the sequence")
            self.is_frozen = False  # what makes the soft tokens trains, through the language model
        self._reader = reader_of(self.model)
        with _telling(language_model):
            self._choose_caches(language_model, options.train_layers, longest)

    def _choose_caches(self, language_model: LanguageModel, train_layers: int | None, longest: int) -> None:
        """Set up the caches, each only where it is exact for such prompts."""
        if self._reader is not None or self.in_sequence is not None:
            ways = (
                exact_methods(self.model, ("packed",), longest=longest) if self.scorer is None else self.scorer.methods
            )
            if "packed" not in ways:
                raise ValueError(
                    "What stands before a prompt needs a model whose action texts can be scored in one forward."
                )
            if self.scorer is not None:
                self.scorer.methods = ("packed",)
        self.frozen: FrozenLayers | None = None
        if train_layers and self._reader is None and self.in_sequence is None:
            self.frozen = self._frozen_layers(train_layers, longest)
            if self.frozen is not None and self._has_prefixes() and keeps_exactly(self.model, longest):
                self.frozen.keep_prefixes(self.tries, PREFIX_BYTES)
        width = (self.features_dim + self.n_scores) * 8
        read_with = self.model if self.in_sequence is None else nn.ModuleList([self.model, self.in_sequence])
        self.memory: RowMemory | None = RowMemory(read_with, READINGS_BYTES // width)
        """Caches outputs while weights do not change, as in rollouts; None to compute them every time."""
        if self._knows_prefixes() and keeps_exactly(self.model, longest):
            self.prefixes = PrefixMemory(self.model, self.tries, PREFIX_BYTES, self.memory.watch)

    def _frozen_layers(self, train_layers: int, longest: int) -> FrozenLayers | None:
        below = len(layers_of(self.model)) - train_layers
        if below == 0 or (self.scorer and "packed" not in self.scorer.methods):
            return None
        if self.action_sets:  # the nodes of a trie are kept with the prompt, and these change
            return None
        if not goes_on_exactly(self.model, below, longest):
            return None
        if self.scorer:
            self.scorer.methods = ("packed",)
        return FrozenLayers(self.model, below, FROZEN_BYTES)

    def _has_prefixes(self) -> bool:
        return backbone_of(self.model).keeps_prefixes and backbone_of(self.model).window is None

    def _knows_prefixes(self) -> bool:
        return (
            self._has_prefixes()
            and self.frozen is None  # which has its own
            and self._reader is None
            and self.in_sequence is None
            and self.action_sets is None
            and (self.scorer is None or "packed" in self.scorer.methods)
        )

    def pieces(self, prompt: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the prompt's tokens, (L,), as they are looked up: behind places for what stands before them."""
        before = self.layout.soft_tokens + looked_up_before(self.model)
        places = torch.arange(-before, len(prompt), device=prompt.device).clamp(min=-1)
        return [(torch.cat([prompt.new_zeros(before), prompt]), places)]

    def read(self, batch: Inputs) -> tuple[Tensor, Tensor | None]:
        """Return the hidden state of each prompt's last token, (U, D), and with `head="score"` the scores, (U, A)."""
        still = self.is_inference
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            readings = self._remember(batch, still) if still or self.is_frozen else self._read(batch)
        return readings[:, : self.features_dim], readings[:, self.features_dim :] if self.scorer else None

    def _remember(self, batch: Inputs, still: bool) -> Tensor:
        """Return the readings of prompts, (U, D + A); those that are new are computed together."""

        def compute(new: list[int]) -> Tensor:
            part = batch if len(new) == len(batch.keys) else batch.select(new)
            readings = self._read_on(part) if still else None
            return self._read(part) if readings is None else readings

        found = None if self.memory is None else self.memory.find(batch.keys, [1] * len(batch.keys), compute)
        if found is None:
            return compute(list(range(len(batch.keys))))
        table, rows = found
        return table[rows]

    def _read(self, batch: Inputs) -> Tensor:
        """Return the readings of prompts, (U, D + A), the features with the scores behind them."""
        readings: list[Tensor] = []
        self.tokens_read += int(batch.lengths.sum())
        most = self.chunk_tokens if reader_splits() else None
        with autocast(batch.batch.device, self.precision, wide=self._is_wide):
            for rows in batch.chunks(extra=self.layout.soft_tokens + self.tries.n_nodes, most=most):
                readings += self._read_in_parts(batch, rows)
        return torch.cat(readings)

    def _read_in_parts(self, batch: Inputs, rows: slice) -> list[Tensor]:
        """Return the readings of some prompts; without a gradient, in halves if they do not fit into memory at once.

        With a gradient, what was read before stays in memory, and who gathers the gradient has to split.
        """
        try:
            return [self._read_at_once(batch, rows)]
        except RuntimeError as error:
            if not is_out_of_memory(error) or not reader_splits():
                raise
        release_memory()
        count, longest = rows.stop - rows.start, int(batch.lengths[rows].max()) + self.tries.n_nodes
        if count == 1:
            raise does_not_fit(f"To read a single prompt of {longest} tokens", gradient=False)
        self.chunk_tokens = count * longest // 2
        warnings.warn(
            f"Out of memory: {count * longest} tokens ({count} different prompts) could not be read at once. From now "
            f"on they are read {self.chunk_tokens} at a time, which changes nothing but rounding and time.",
            stacklevel=2,
        )
        middle = rows.start + count // 2
        halves = slice(rows.start, middle), slice(middle, rows.stop)
        return [readings for half in halves for readings in self._read_in_parts(batch, half)]

    def _read_at_once(self, batch: Inputs, rows: slice) -> Tensor:
        prompts = batch.part(rows)
        read = self._reader or read_hidden_states
        if self.frozen is not None:
            read = self.frozen.reader(prompts, batch.keys[rows])
        if self.in_sequence is not None:
            packed = {key: torch.from_numpy(columns[rows]) for key, columns in batch.entering.items()}
            soft = self.in_sequence({key: one.to(prompts.device) for key, one in packed.items()})
            read = functools.partial(read_behind, soft)
        if self.scorer is None:
            return _joined([last_hidden_state(self.model, prompts, read=read)])
        tries = self.tries
        if self.action_sets is not None:
            tries = self.action_sets.tries_of(self.listed(batch)[rows], prompts.device)
        features, scores = self.scorer(self.model, prompts, tries, read=read)
        missing = (0, self.n_scores - scores.shape[1])
        return _joined([features, torch.nn.functional.pad(scores, missing, value=-torch.inf)])

    def _read_on(self, batch: Inputs) -> Tensor | None:
        """Return the readings of prompts that begin like those read last, or None if they do not."""
        if self.prefixes is None:
            return None
        try:
            with autocast(batch.batch.device, self.precision, wide=self._is_wide):
                hidden = self.prefixes.read(batch, looks=self.memory is None)
                if hidden is None:
                    return None
                self.tokens_read += int(batch.lengths.sum())
                if self.scorer is None:
                    return _joined([hidden[:, 0]])
                return _joined([hidden[:, 0], score_contexts(self.model, hidden, self.tries, self.normalization)])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        self.prefixes = None
        release_memory()
        warnings.warn(
            "Out of memory: keys and values of earlier prompts are not kept any more. Prompts are read whole, which "
            "changes nothing but rounding and time.",
            stacklevel=2,
        )
        return None


@contextlib.contextmanager
def _telling(language_model: LanguageModel) -> Iterator[None]:
    """Turn what was found out when ways of reading were tried out into a sentence that names the model."""
    try:
        yield
    except TrialError as error:
        raise LanguageModelError(f"{language_model.name} cannot be used: {error}") from error


def _require_places(language_model: LanguageModel, max_tokens: int, depth: int, before: int) -> None:
    """Refuse prompts, behind soft tokens, that leave no position for actions of `depth` tokens less one."""
    model = language_model.model
    before += getattr(getattr(model, VIRTUAL_TOKENS, None), "count", 0)
    why = backbone_of(model).refused_prompts(max_tokens, depth, before)
    if why is not None:
        raise LanguageModelError(f"{language_model.name} {why}")


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Put features and scores side by side, in float32 at least, as the heads and losses compute."""
    return torch.cat([part if part.dtype == torch.float64 else part.float() for part in parts], dim=1)
