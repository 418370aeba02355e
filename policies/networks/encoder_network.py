"""The network of an encoder that reads whole prompts.

An encoder gives texts no likelihood, so an action is scored by reading it: the prompt and the action's text go in as
the tokenizer writes pairs (BERT's `[CLS] prompt [SEP] action [SEP]`), and one linear layer makes a number of the pair's
pooled vector. Sentence-transformers calls this a cross-encoder. All of an action counts in that number, so there is
nothing to normalise.

The features, of which values and the linear head are made, are the pooled vector of the prompt read alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from heed.policies.backbones.backbone import backbone_of
from heed.policies.backbones.precision import as_stored, autocast, is_wide
from heed.policies.caches.batching import Inputs
from heed.policies.caches.memory import RowMemory
from heed.policies.heads.action_head import head_kind
from heed.policies.heads.action_sets import ActionSets, trial_trie
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.modalities.fusion import Embedders
from heed.policies.model_options import ModelOptions
from heed.policies.models.encoders import PairEndings, read_texts
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.networks.prompt_network import READINGS_BYTES, PromptNetwork, refuse_normalization, texts_of
from heed.policies.prompts.action_texts import ActionTexts
from heed.policies.prompts.layout import PADDING
from heed.policies.prompts.prompt import PromptEncoder


class EncoderNetwork(PromptNetwork):
    """An encoder that reads whole prompts, and with `head="score"` each with each action's text.

    Args:
        language_model: is used as it is, not copied; what `train_layers` leaves out is frozen.
        action_space: for a head that reads texts its `texts` name the actions, unless the prompts themselves do.
        options: scores are computed for a head that reads texts, else only features.
        encoder: makes the prompts.

    Raises:
        LanguageModelError: if prompt and action together are longer than the model reads.
        ValueError: if the head does not go with the actions, a normalization is given, or `train_layers` or
            `activation_checkpointing` cannot be.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        action_space: spaces.Space[Any],
        options: ModelOptions,
        *,
        encoder: PromptEncoder,
    ):
        super().__init__()
        normalization = options.normalization
        reads_texts = head_kind(options.head).reads_texts
        if reads_texts:
            refuse_normalization(language_model, options)
        self.model = language_model.model
        self.pooling = language_model.pooling
        self.precision = as_stored(self.model, options.precision)
        self._is_wide = is_wide(self.model)
        self.features_dim = backbone_of(self.model).width
        self.layout = encoder.layout
        self.refuse_sequence()
        self.tokens_read = 0
        self.n_scores = self.layout.choices
        self.score: nn.Linear | None = None
        self._endings = PairEndings(language_model.tokenizer) if reads_texts else None
        self._most = backbone_of(self.model).most_tokens
        self._action_texts = encoder.action_texts
        trie = ActionTrie.build([[0]])
        if self.layout.choosing is not None:
            self.action_sets = ActionSets(language_model, normalization, encoder.action_texts, encoder.template)
            trie = trial_trie(language_model.vocabulary)
        elif reads_texts:
            self._action_texts = ActionTexts(texts_of(action_space))
            self.n_scores = len(self._action_texts.texts)
            trie = language_model.action_trie(texts_of(action_space), normalization, distinct=False)
            for text in self._action_texts.texts:
                self._ending_of(text, encoder.max_tokens)
        self.tries = Tries([trie]).to(self.model.device)
        if reads_texts:
            # One number more for all actions changes nothing.
            self.score = nn.Linear(self.features_dim, 1, bias=False)
            nn.init.orthogonal_(self.score.weight, gain=0.01)  # an almost uniform first policy
        self.auxiliary = Embedders.of(self.layout.modalities, "late", self.features_dim)
        self.prepare_layers(language_model, options)
        self.memory = RowMemory(self.model, READINGS_BYTES // (4 * self.features_dim))

    def read(self, batch: Inputs) -> tuple[Tensor, Tensor | None]:
        """Return the vector of each prompt, (U, D), and with `head="score"` the scores of its actions, (U, A)."""
        prompts = [row[:length] for row, length in zip(batch.prompts.cpu().numpy(), batch.lengths, strict=True)]
        texts: dict[bytes, tuple[npt.NDArray[np.integer[Any]], int]] = {}  # each with the length of its first part
        places: dict[bytes, int] = {}

        def place_of(text: npt.NDArray[np.integer[Any]], first: int) -> int:
            key = first.to_bytes(4, "little") + text.astype(np.int32).tobytes()
            texts.setdefault(key, (text, first))
            return places.setdefault(key, len(places))

        alone = [place_of(prompt, len(prompt)) for prompt in prompts]
        pairs = np.full((len(prompts), self.n_scores), -1, dtype=np.int64)
        for row, prompt, numbers in zip(pairs, prompts, self._numbers(batch), strict=True):
            endings = [self._ending_of(self._action_texts.texts[number], len(prompt)) for number in numbers]
            row[: len(endings)] = [place_of(np.concatenate([prompt, ending]), len(prompt)) for ending in endings]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            vectors = self._vectors(list(texts), list(texts.values()), batch.batch.device)
        features = vectors[torch.tensor(alone, device=vectors.device)]
        if self.score is None:
            return features, None
        numbers_of_all = self.score(vectors)[:, 0]
        rows = torch.from_numpy(pairs).to(vectors.device)
        return features, numbers_of_all[rows.clamp(min=0)].masked_fill(rows < 0, -torch.inf)

    def _numbers(self, batch: Inputs) -> list[list[int]]:
        """Return the numbers of each prompt's action texts."""
        if self.score is None:
            return [[] for _ in batch.keys]
        if self.action_sets is None:
            return [list(range(self.n_scores)) for _ in batch.keys]
        return [row[row != PADDING].tolist() for row in self.listed(batch)]

    def _ending_of(self, action: str, prompt: int) -> npt.NDArray[np.int64]:
        """Return what stands behind a prompt of so many tokens to make a pair of it and an action.

        Raises:
            LanguageModelError: if both together are longer than the model reads.
        """
        assert self._endings is not None
        ending = self._endings.of(action)
        if self._most is not None and prompt + len(ending) > self._most:
            raise LanguageModelError(
                f"A prompt of {prompt} tokens and the action {action!r} are {prompt + len(ending)} tokens together, "
                f"but the encoder reads at most {self._most}: lower max_prompt_tokens."
            )
        return ending

    def _vectors(
        self, keys: list[bytes], texts: list[tuple[npt.NDArray[np.integer[Any]], int]], device: torch.device
    ) -> Tensor:
        """Return the pooled vectors of different texts, (N, D); what is remembered is not read."""

        def compute(new: list[int]) -> Tensor:
            chosen = [texts[index] for index in new]
            self.tokens_read += sum(len(text) for text, _ in chosen)
            has_types = self._endings is not None and self._endings.has_types
            firsts = [first for _, first in chosen] if has_types else None
            with autocast(device, self.precision, wide=self._is_wide):
                return read_texts(self.model, self.pooling, [text for text, _ in chosen], firsts)

        found = None
        if self.memory is not None and (self.is_inference or self.is_frozen):
            found = self.memory.find(keys, [1] * len(keys), compute)
        if found is None:
            return compute(list(range(len(keys))))
        table, rows = found
        return table[rows]
