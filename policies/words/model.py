"""`heed-words`: a small transformer over the vectors of words, which are its only knowledge of a vocabulary.

A prompt's words attend to one another; the state and each action are queries into them. Words are told apart by their
vectors, by the part and segment they stand in, and by how alike they are to the words of the other part. Attention is
biased by the likeness of two words and by whether they stand together, with learned weights (T5's biases, Raffel et al.
2020, learn them by distance). So what it learns about one word holds for any that are as much alike: it *binds* what an
instruction names to what is seen.

A word that has its like in the instruction is *bound*: what it means no longer matters then, only what it is bound to.
So the embedding of its meaning is left out, the more the surer it is, and an agent that learned with "red" and "ball"
cannot learn these two by heart.

A query attends to the prompt's words and to no other query. What else there is to choose from changes an action's score
only where it binds a word of the instruction that nothing else does.

Shapes: U prompts, L words of a prompt, A actions, Q = 1 + A queries, H heads, D width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from heed.policies.words.building import MOST_ACTION_WORDS
from heed.policies.words.scene import (
    N_ACTION_FEATURES,
    N_PAIR_FEATURES,
    N_QUERY_FEATURES,
    N_WORD_FEATURES,
    Likeness,
    Scene,
    likeness_of,
)
from heed.policies.words.vectors import MEANING, WIDTH

MODEL_TYPE = "heed-words"

MOST_SEGMENTS, MOST_PLACES = 32, 16
"""Segments of a prompt and places in a segment that are told apart; those behind the last share its embedding."""

_SCALE = 12.0
"""What vectors of length 1 are multiplied by, so that their numbers are of about 1."""

_SHARP, _SHARP_SPELT, _TOGETHER = 8.0, 4.0, 2.0
"""What heads begin with: how much likeness in meaning and in spelling counts, and standing in the same segment."""


class WordsConfig(PretrainedConfig):
    """The sizes of `heed-words`.

    Args:
        hidden_size: D.
        num_hidden_layers: how many layers there are.
        num_attention_heads: H, of which the first four begin with a bias each.
        vocab_size: tokens of the tokenizer that writes prompts as integers; the model reads words.
        initializer_range: standard deviation of its first embeddings.
        more: of transformers' own.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        hidden_size: int = 64,
        num_hidden_layers: int = 3,
        num_attention_heads: int = 4,
        vocab_size: int = 256,
        initializer_range: float = 0.02,
        **more: Any,
    ):
        super().__init__(**more)
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.vocab_size = vocab_size
        self.initializer_range = initializer_range


class WordsOutput(NamedTuple):
    """What the model makes of prompts."""

    features: Tensor
    """Of the states, (U, D)."""
    scores: Tensor
    """Of the actions, (U, A); any number where there is none."""


class WordsModel(PreTrainedModel):
    """Relates the words of prompts and actions.

    Args:
        config: its sizes.
    """

    config_class = WordsConfig
    base_model_prefix = ""
    main_input_name = "scene"
    mean: Tensor
    """Of the vectors of many words, (MEANING,): what all have in common."""

    def __init__(self, config: WordsConfig):
        super().__init__(config)
        width = config.hidden_size
        self.register_buffer("mean", torch.zeros(MEANING))
        self.words = WordEmbedding(width)
        self.segments, self.places = nn.Embedding(MOST_SEGMENTS, width), nn.Embedding(MOST_PLACES, width)
        self.parts = nn.Embedding(2, width)
        self.likeness = nn.Linear(N_WORD_FEATURES, width)
        self.action_words = WordEmbedding(width)
        self.action_places = nn.Embedding(MOST_ACTION_WORDS, width)
        self.action_mix, self.action_likeness = nn.Linear(width, width), nn.Linear(N_ACTION_FEATURES, width)
        self.state = nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(_Layer(width, config.num_attention_heads) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Set the first weights of a module; linear layers and norms keep those of torch."""
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, WordsModel):
            nn.init.normal_(module.state, std=self.config.initializer_range)

    def get_input_embeddings(self) -> nn.Module:
        """Return what turns the words of a prompt into vectors."""
        return self.words

    def action_vectors(self, scene: Scene) -> Tensor:
        """Return a vector of each action by its own words, (G, D); no prompt is looked at."""
        return self._mixed(self.action_words(scene.action_words, scene.vectors), scene.action_real)

    def _mixed(self, words: Tensor, real: Tensor) -> Tensor:
        """Return vectors of actions, (..., D), given those of their words, (..., W, D), and which there are."""
        places = torch.arange(words.shape[-2], device=words.device)
        mixed = functional.gelu(words + self.action_places(places)) * real[..., None]
        counts = real.sum(dim=-1, keepdim=True).clamp(min=1)
        vectors: Tensor = self.action_mix(mixed.sum(dim=-2) / counts**0.5)
        return vectors

    def forward(self, scene: Scene) -> WordsOutput:
        """Return features and scores of prompts."""
        likeness = likeness_of(scene)
        segment = scene.segment.clamp(max=MOST_SEGMENTS - 1)
        words = self.words(scene.words, scene.vectors)
        words = words * (1 - likeness.bound)[..., None].to(words.dtype) + self.segments(segment)
        words = words + self.places(scene.place.clamp(max=MOST_PLACES - 1)) + self.parts(scene.part)
        words = words + self.likeness(2 * likeness.word)
        queries = self.state.expand(len(words), 1, -1)
        if scene.listed.shape[1]:
            listed = scene.listed.clamp(min=0)
            named = self.action_words(scene.action_words, scene.vectors)[listed]  # (U, A, W, D)
            named = named * (1 - likeness.action_bound)[..., None].to(named.dtype)
            actions = self._mixed(named, scene.action_real[listed]) + self.action_likeness(2 * likeness.action)
            queries = torch.cat([queries, actions], dim=1)
        absent = torch.zeros_like(scene.real, dtype=words.dtype).masked_fill(~scene.real, -1e4)[:, None, None]
        for layer in self.layers:
            words, queries = layer(words, queries, likeness, absent, last=layer is self.layers[-1])
        queries = self.norm(queries)
        return WordsOutput(queries[:, 0], self.score(queries[:, 1:])[..., 0])


class WordEmbedding(nn.Module):
    """Turns words into vectors of the model's width, given their vectors of meaning and spelling.

    Args:
        width: D.
    """

    def __init__(self, width: int):
        super().__init__()
        self.projection = nn.Linear(WIDTH, width)

    def forward(self, words: Tensor, vectors: Tensor) -> Tensor:
        """Return the vectors, (..., D), of words, (...), which are rows of `vectors`, (V, E)."""
        projected: Tensor = self.projection(vectors * _SCALE)
        return projected[words]


class _Layer(GradientCheckpointingLayer):
    """Words attend to words, queries to words; then a feed-forward network, the same for both."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        pair, query = torch.zeros(heads, N_PAIR_FEATURES), torch.zeros(heads, N_QUERY_FEATURES)
        if heads >= 4:
            pair[0, 0], pair[1, 2], pair[2, 1], pair[3, 0] = _SHARP, _TOGETHER, _SHARP_SPELT, _SHARP_SPELT
            query[0, 0], query[2, 1] = _SHARP, _SHARP_SPELT
        self.pair_bias, self.query_bias = nn.Parameter(pair), nn.Parameter(query)

    def forward(
        self, words: Tensor, queries: Tensor, likeness: Likeness, absent: Tensor, *, last: bool
    ) -> tuple[Tensor, Tensor]:
        """Return words, (U, L, D), and queries, (U, Q, D); the `last` layer leaves the words as they are."""
        normed = self.attention_norm(words)
        key, value = (self._split(part) for part in self.key_value(normed).chunk(2, dim=-1))
        bias = torch.einsum("ufql,hf->uhql", likeness.query, self.query_bias) + absent
        queries = self._feed_forward(queries + self._attend(self.attention_norm(queries), key, value, bias))
        if not last:
            bias = torch.einsum("ufkl,hf->uhkl", likeness.pair, self.pair_bias) + absent
            words = self._feed_forward(words + self._attend(normed, key, value, bias))
        return words, queries

    def _attend(self, states: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Return what states, (U, N, D), see of keys and values, (U, H, L, D / H), with a bias (U, H, N, L)."""
        query = self._split(self.query(states))
        weights = query @ key.transpose(2, 3) * key.shape[-1] ** -0.5 + bias
        seen = (weights.softmax(dim=-1) @ value).transpose(1, 2).reshape(states.shape)
        attended: Tensor = self.out(seen)
        return attended

    def _split(self, states: Tensor) -> Tensor:
        split: Tensor = states.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return split

    def _feed_forward(self, states: Tensor) -> Tensor:
        forwarded: Tensor = states + self.down(functional.gelu(self.up(self.forward_norm(states))))
        return forwarded


AutoConfig.register(MODEL_TYPE, WordsConfig)
AutoModel.register(WordsConfig, WordsModel)
