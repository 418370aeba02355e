"""The network of a frozen encoder that reads segments: each different one once, and a small network learns on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

from heed.policies.backbones.backbone import backbone_of
from heed.policies.backbones.precision import as_stored, autocast, is_wide
from heed.policies.caches.batching import Inputs
from heed.policies.caches.frozen import freeze
from heed.policies.caches.memory import RowMemory
from heed.policies.heads.action_head import head_kind
from heed.policies.modalities.fusion import Embedders
from heed.policies.model_options import ModelOptions
from heed.policies.models.encoders import read_texts, special_tokens
from heed.policies.models.language_model import LanguageModel
from heed.policies.networks.prompt_network import READINGS_BYTES, PromptNetwork
from heed.policies.networks.segment_reader import SegmentReader
from heed.policies.prompts.segments import SegmentEncoder

REMEMBERED_PROMPTS = 50_000
"""Prompts whose segments are kept apart."""


class SegmentNetwork(PromptNetwork):
    """A frozen encoder that reads segments, and what learns on their vectors.

    Args:
        language_model: an encoder; it is used as it is, not copied, and frozen.
        action_space: any.
        options: with a head that reads no texts, and `train_layers=0`.
        encoder: makes the prompts.

    Raises:
        ValueError: if another head is asked for, or something of the encoder is to train.
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
        if head_kind(options.head).reads_texts:
            raise ValueError(
                "An encoder that reads segments has features and no action texts: use head='linear', not "
                f"{options.head!r}."
            )
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
        self.n_scores = 0
        freeze(self.model, 0)
        self.is_frozen = True
        width = backbone_of(self.model).width
        self.reader = SegmentReader(width)
        self.features_dim = self.reader.width
        self.auxiliary = Embedders.of(self.layout.modalities, "late", self.features_dim)
        self.memory = RowMemory(self.model, READINGS_BYTES // (4 * width))
        self._encoder = encoder
        self._around = special_tokens(encoder.tokenizer)
        self._segments: dict[bytes, list[bytes]] = {}

    def read(self, batch: Inputs) -> tuple[Tensor, Tensor | None]:
        """Return the features of different prompts, (U, D)."""
        prompts = [self._segments_of(key) for key in batch.keys]
        places: dict[bytes, int] = {}
        for segments in prompts:
            for segment in segments:
                places.setdefault(segment, len(places))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            vectors = self._vectors(list(places), batch.batch.device)
        longest = max(len(segments) for segments in prompts)
        index = np.full((len(prompts), longest), -1, dtype=np.int64)
        for row, segments in zip(index, prompts, strict=True):
            row[: len(segments)] = [places[segment] for segment in segments]
        rows = torch.from_numpy(index).to(vectors.device)
        features: Tensor = self.reader(vectors[rows.clamp(min=0)], rows >= 0)
        return features, None

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
