"""The network of `heed-words`: prompts and actions become words, and words vectors.

Prompts arrive as token ids, like those of any model. They are decoded and split into words, each different prompt once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from heed.policies.backbones.precision import as_stored, autocast, is_wide
from heed.policies.caches.batching import Inputs, chunks_of_like_length
from heed.policies.caches.memory import RowMemory
from heed.policies.heads.action_head import head_kind
from heed.policies.modalities.fusion import Embedders
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.networks.prompt_network import READINGS_BYTES, PromptNetwork, texts_of
from heed.policies.prompts.action_texts import ActionTexts
from heed.policies.prompts.prompt import PromptEncoder
from heed.policies.words.building import SceneBuilder, SplitPrompt
from heed.policies.words.model import WordsModel
from heed.policies.words.scene import Scene
from heed.policies.words.vectors import WordVectors

MOST_TEXTS = 100_000
"""Prompts whose texts are kept."""


class WordsNetwork(PromptNetwork):
    """Reads prompts with `heed-words`, each different one once.

    Args:
        language_model: is used as it is, not copied; what `train_layers` leaves out is frozen.
        action_space: for a head that reads texts its `texts` name the actions, unless the prompts themselves do.
        options: how the policy uses it.
        encoder: makes the prompts.

    Raises:
        ValueError: if the options do not go with such a model.
    """

    model: WordsModel

    def __init__(
        self,
        language_model: LanguageModel,
        action_space: spaces.Space[Any],
        options: ModelOptions,
        *,
        encoder: PromptEncoder,
    ):
        super().__init__()
        if options.normalization != "mean":
            raise ValueError(
                f"{language_model.name} scores an action as a whole, so there are no likelihoods of tokens to "
                f"normalise: leave normalization={options.normalization!r} out."
            )
        if options.compiled:
            raise ValueError(f"compiled=True is for models of transformers, and {language_model.name} is none of them.")
        assert isinstance(language_model.model, WordsModel)
        self.model = language_model.model
        self.precision = as_stored(self.model, options.precision)
        self._is_wide = is_wide(self.model)
        self.features_dim = self.model.config.hidden_size
        self.layout = encoder.layout
        self.refuse_sequence()
        self.tokens_read = 0
        self._encoder = encoder
        self._actions = encoder.action_texts
        self.n_scores = self.layout.choices
        if not self.layout.choices and head_kind(options.head).reads_texts:
            self._actions = ActionTexts(texts_of(action_space))
            self.n_scores = len(self._actions.texts)
        self.auxiliary = Embedders.of(self.layout.modalities, "late", self.features_dim)
        self.prepare_layers(language_model, options)
        self.memory = RowMemory(self.model, READINGS_BYTES // (4 * (self.features_dim + self.n_scores)))
        self._texts: dict[bytes, str] = {}
        self._mean = torch.zeros(0)
        self._kept_builder: SceneBuilder | None = None

    @property
    def _builder(self) -> SceneBuilder:
        """What makes scenes, with the model's mean of vectors as it is now: a checkpoint is loaded into the network."""
        mean = self.model.mean
        if self._kept_builder is None or not torch.equal(mean, self._mean.to(mean)):
            self._mean = mean.clone()
            self._kept_builder = SceneBuilder(WordVectors(mean.float().cpu().numpy().copy()))
        return self._kept_builder

    def read(self, batch: Inputs) -> tuple[Tensor, Tensor | None]:
        """Return the features of different prompts, (U, D), and the scores of their actions, (U, A), if there are any.

        A score is -inf where a prompt has fewer actions.
        """
        listed = self._listed(batch)

        def compute(new: Sequence[int]) -> Tensor:
            return self._compute(batch, listed, new)

        found = None
        if self.memory is not None and (self.is_inference or self.is_frozen):
            found = self.memory.find(batch.keys, [1] * len(batch.keys), compute)
        if found is None:
            rows = compute(range(len(batch.keys)))
        else:
            table, places = found
            rows = table[places]
        features, scores = rows[:, : self.features_dim], rows[:, self.features_dim :]
        if not self.n_scores:
            return features, None
        return features, scores.masked_fill(torch.from_numpy(listed < 0).to(scores.device), -torch.inf)

    def pieces(self, prompt: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return a prompt's words as they are looked up, and the token with which each begins."""
        tokens = prompt.cpu().numpy()
        (split,) = self._builder.split([self._encoder.decode(tokens)])
        scene = self._builder.build([split], (), np.zeros((1, 0), dtype=np.int64))
        ends = np.cumsum([len(self._encoder.decode(token)) for token in tokens[:, None]])
        places = np.minimum(np.searchsorted(ends, split.starts, side="right"), len(tokens) - 1)
        return [(scene.words[0].to(prompt.device), torch.from_numpy(places).to(prompt.device))]

    def _listed(self, batch: Inputs) -> npt.NDArray[np.int64]:
        """Return which actions each prompt has to choose from, (U, A), -1 behind the last."""
        if self.layout.choosing is not None:
            return self.listed(batch).astype(np.int64)
        return np.broadcast_to(np.arange(self.n_scores), (len(batch.keys), self.n_scores))

    def _compute(self, batch: Inputs, listed: npt.NDArray[np.int64], chosen: Sequence[int]) -> Tensor:
        """Return features and scores one behind the other, (N, D + A), of the prompts with the indices `chosen`."""
        prompts = self._builder.split([self._text_of(batch, index) for index in chosen])
        lengths = np.array([len(prompt.starts) for prompt in prompts], dtype=np.int64)
        self.tokens_read += int(lengths.sum())
        order = np.argsort(lengths, kind="stable")
        rows_of_actions = listed[np.asarray(chosen, dtype=np.int64)]
        parts = []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            for chunk in chunks_of_like_length(lengths[order] + rows_of_actions.shape[1], batch.batch.device):
                places = order[chunk]
                scene = self._scene([prompts[place] for place in places], rows_of_actions[places])
                with autocast(batch.batch.device, self.precision, wide=self._is_wide):
                    features, scores = self.model(scene)
                parts.append(torch.cat([features, scores], dim=1).float())
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        return torch.cat(parts)[torch.from_numpy(inverse).to(batch.batch.device)]

    def _scene(self, prompts: Sequence[SplitPrompt], listed: npt.NDArray[np.int64]) -> Scene:
        scene = self._builder.build(prompts, self._actions.texts, listed)
        return Scene(*(tensor.to(self.model.device) for tensor in scene))

    def _text_of(self, batch: Inputs, index: int) -> str:
        """Return the text of a different prompt; decoding takes longer than looking it up."""
        tokens = batch.prompts_array[index, : batch.lengths[index]]
        key = tokens.tobytes()
        found = self._texts.get(key)
        if found is None:
            if len(self._texts) >= MOST_TEXTS:
                self._texts.clear()
            found = self._texts[key] = self._encoder.decode(tokens)
        return found

    def _text_vectors(self, batch: Inputs) -> Tensor:
        """Return a vector of each action's text, (1, A, D), or where actions change those of each row, (B, A, D)."""
        listed = self._listed(batch)[:1] if self.layout.choosing is None else self._listed(batch)
        nothing = self._builder.split([""]) * len(listed)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            scene = self._scene(nothing, listed)
            vectors = functional.layer_norm(self.model.action_vectors(scene), (self.features_dim,))
        vectors = vectors[scene.listed.clamp(min=0)] * (scene.listed >= 0)[..., None]
        return vectors if self.layout.choosing is None else vectors[batch.inverse]
