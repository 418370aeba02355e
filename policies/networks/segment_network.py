"""The network of a frozen encoder that reads segments: each different one once, and a small network learns on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from heed.policies.backbones.backbone import backbone_of
from heed.policies.backbones.precision import as_stored, autocast, is_wide
from heed.policies.caches.batching import Inputs
from heed.policies.caches.memory import RowMemory
from heed.policies.heads.action_head import head_kind
from heed.policies.modalities.fusion import Embedders
from heed.policies.model_options import ModelOptions
from heed.policies.models.encoders import read_texts, special_tokens
from heed.policies.models.language_model import LanguageModel
from heed.policies.networks.action_reader import ActionReader
from heed.policies.networks.prompt_network import READINGS_BYTES, PromptNetwork, refuse_normalization, texts_of
from heed.policies.networks.segment_reader import SegmentReader
from heed.policies.prompts.action_texts import ActionTexts
from heed.policies.prompts.segments import SegmentEncoder

REMEMBERED_PROMPTS = 50_000
"""Prompts whose segments are kept apart."""


class SegmentNetwork(PromptNetwork):
    """A frozen encoder that reads segments, and what learns on their vectors.

    With a head that reads texts, the actions' texts are segments too.

    Args:
        language_model: an encoder; it is used as it is, not copied, and frozen.
        action_space: for a head that reads texts its `texts` name the actions, unless the prompts themselves do.
        options: with `train_layers=0`.
        encoder: makes the prompts.

    Raises:
        ValueError: if something of the encoder is to train, the head does not go with the actions, an action's text
            is longer than the encoder reads, or a normalization or `activation_checkpointing` is given.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        action_space: spaces.Space[Any],
        options: ModelOptions,
        *,
        encoder: SegmentEncoder,
    ):
        super().__init__()
        reads_texts = head_kind(options.head).reads_texts
        if reads_texts:
            refuse_normalization(language_model, options)
        if options.train_layers != 0 or language_model.adapter is not None:
            raise ValueError(
                "Segments are read once and for all, so the encoder cannot train: give train_layers=0 and no adapter, "
                "or let it read whole prompts (segments=False)."
            )
        self.model = language_model.model
        self.pooling = language_model.pooling
        self.precision = as_stored(self.model, options.precision)
        self._is_wide = is_wide(self.model)
        self.layout = encoder.layout
        self.refuse_sequence()
        self.tokens_read = 0
        self.prepare_layers(language_model, options)
        width = backbone_of(self.model).width
        self.reader = SegmentReader(width)
        self.features_dim = self.reader.width
        self.n_scores = self.layout.choices
        self.actions: ActionReader | None = None
        self._action_texts = encoder.action_texts
        if reads_texts:
            self.actions = ActionReader(width, width=self.features_dim)
            if not self.has_changing_actions:
                self._action_texts = ActionTexts(texts_of(action_space))
                self.n_scores = len(self._action_texts.texts)
                for text in self._action_texts.texts:
                    encoder.require_action(text)
        self.auxiliary = Embedders.of(self.layout.modalities, "late", self.features_dim)
        self.memory = RowMemory(self.model, READINGS_BYTES // (4 * width))
        self._encoder = encoder
        self._around = special_tokens(encoder.tokenizer)
        self._segments: dict[bytes, list[bytes]] = {}
        self._action_keys: list[bytes] = []

    def read(self, batch: Inputs) -> tuple[Tensor, Tensor | None]:
        """Return the features of different prompts, (U, D), and with a head that reads texts the scores, (U, A)."""
        # What else a key is made of stands before the tokens.
        prompts = [
            self._segments_of(key[len(key) - 4 * length :])
            for key, length in zip(batch.keys, batch.lengths.tolist(), strict=True)
        ]
        places: dict[bytes, int] = {}
        longest = max(len(segments) for segments in prompts)
        index = np.full((len(prompts), longest), -1, dtype=np.int64)
        for row, segments in zip(index, prompts, strict=True):
            row[: len(segments)] = [places.setdefault(segment, len(places)) for segment in segments]
        keys, actions = self._actions(batch)
        rows_of_actions = [places.setdefault(key, len(places)) for key in keys]
        device = batch.batch.device
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            vectors = self._vectors(list(places), device)
        look = self.reader(vectors, torch.from_numpy(index).to(device))
        if self.actions is None:
            return look.features, None
        scores: Tensor = self.actions(
            vectors[torch.tensor(rows_of_actions, device=device)], torch.from_numpy(actions).to(device), look
        )
        return look.features, functional.pad(scores, (0, self.n_scores - scores.shape[1]), value=-torch.inf)

    def _actions(self, batch: Inputs) -> tuple[list[bytes], npt.NDArray[np.int64]]:
        """Return the different action texts of prompts, token ids as bytes, and which of them each prompt has, (G, A).

        G is 1 where all have the same, and -1 stands behind the last.
        """
        if self.actions is None:
            return [], np.empty((1, 0), dtype=np.int64)
        if not self.has_changing_actions:
            return self._keys_of(range(self.n_scores)), np.arange(self.n_scores)[None]
        listed = self.listed(batch)
        listed = listed[:, : int((listed >= 0).sum(axis=1).max())]
        numbers = np.unique(listed[listed >= 0])
        return self._keys_of(numbers.tolist()), np.where(listed >= 0, np.searchsorted(numbers, listed), -1)

    def _keys_of(self, numbers: Iterable[int]) -> list[bytes]:
        """Return the tokens of action texts with these numbers, as bytes."""
        known, texts = self._action_keys, self._action_texts.texts
        for text in texts[len(known) :]:
            known.append(np.array(self._encoder.texts.of(text), dtype=np.int32).tobytes())
        return [known[number] for number in numbers]

    def _text_vectors(self, batch: Inputs) -> Tensor:
        """Return a vector of each action's text, of mean 0 and variance 1 over D, as auxiliary observations meet it."""
        assert self.actions is not None
        keys, index = self._actions(batch)
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            vectors = self._vectors(list(places), batch.batch.device)
        contents = self.actions.contents(vectors)
        contents = functional.layer_norm(contents, contents.shape[-1:])
        contents = contents[torch.tensor([places[key] for key in keys], device=contents.device)]
        rows = torch.from_numpy(index).to(contents.device)
        found = contents[rows.clamp(min=0)] * (rows >= 0)[..., None]  # (G, A, D)
        found = functional.pad(found, (0, 0, 0, self.n_scores - found.shape[1]))
        return found[batch.inverse] if self.has_changing_actions else found

    def pieces(self, prompt: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each segment as it is read, with special tokens around it, and where its own stand in a prompt (L,).

        What stands there twice is read once, and counts where it stands first.
        """
        pieces: dict[bytes, tuple[Tensor, Tensor]] = {}
        start = 0
        before, _ = self._around
        for segment in self._encoder.split(prompt.cpu().numpy()):
            key = segment.astype(np.int32).tobytes()
            text = torch.from_numpy(self._whole(key)).to(prompt.device)
            places = torch.full_like(text, -1)
            places[len(before) : len(before) + len(segment)] = torch.arange(start, start + len(segment))
            pieces.setdefault(key, (text, places))
            start += len(segment) + 1
        return list(pieces.values())

    def _segments_of(self, key: bytes) -> list[bytes]:
        """Return the segments of a prompt, token ids as bytes like its key."""
        found = self._segments.get(key)
        if found is None:
            if len(self._segments) >= REMEMBERED_PROMPTS:
                self._segments.clear()
            tokens = np.frombuffer(key, dtype=np.int32)
            found = self._segments[key] = [segment.tobytes() for segment in self._encoder.split(tokens)]
        return found

    def _vectors(self, segments: list[bytes], device: torch.device) -> Tensor:
        """Return the vectors of different segments, (N, E); those that are new are read together."""

        def compute(new: list[int]) -> Tensor:
            texts = [self._whole(segments[index]) for index in new]
            self.tokens_read += sum(map(len, texts))
            with autocast(device, self.precision, wide=self._is_wide):
                return read_texts(self.model, self.pooling, texts)

        found = None if self.memory is None else self.memory.find(segments, [1] * len(segments), compute)
        if found is None:
            return compute(list(range(len(segments))))
        table, rows = found
        return table[rows]

    def _whole(self, segment: bytes) -> npt.NDArray[np.int64]:
        """Return a segment's token ids with the tokenizer's special ones around them."""
        before, behind = self._around
        return np.array([*before, *np.frombuffer(segment, dtype=np.int32).tolist(), *behind], dtype=np.int64)
