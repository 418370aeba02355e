"""What is special about a language model's architecture, in one small class for each kind.

`backbone_of(model)` finds the class; nobody else asks a configuration what kind of model it is. To add a kind, write a
class in a file of its own and register it before those that would take its models as well:

    @register_backbone
    class StateSpace(Causal):
        ...

Shapes: B prompts, L prompt tokens, T tokens of an action, V vocabulary, D hidden.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

Read = Callable[..., Tensor]
"""Reads hidden states: `read_hidden_states`, or something that knows part of them already."""

_WINDOWS = (
    "sliding_window",
    "sliding_window_size",
    "attention_chunk_size",
    "attention_window_size",
    "keep_window_size",
    "window_size",
)
"""What configurations call how far back a layer sees, or how long the chunks are within which it does."""

_KINDS_WITH_WINDOWS = ("sliding", "chunk", "local")
"""Words in the names of the kinds of layers that see only so far."""

_LIMITS = ("max_position_embeddings", "max_encoder_position_embeddings", "max_seq_len")
"""What configurations call the number of positions: mostly the first, of which others are other names."""


class Backbone(ABC):
    """The facts about one model's architecture.

    Args:
        model: of the kind that `fits` takes.
    """

    auto_class: ClassVar[str]
    """The class of transformers that loads such a model."""
    adapter_task: ClassVar[str]
    """What peft calls it."""
    closes_prompts: ClassVar[bool]
    """Whether a prompt ends with the tokenizer's end token, as the texts that the model was trained on."""
    gives_likelihoods: ClassVar[bool] = True
    """Whether it tells how likely a text is."""
    trains: ClassVar[bool] = True
    """Whether it has weights that could train."""
    prompt_tokens: ClassVar[int] = 256
    """How long prompts may be unless somebody says otherwise."""
    actions_stand_behind: ClassVar[bool] = True
    """Whether an action's tokens stand behind the prompt's, and take up positions there."""
    scoring_methods: ClassVar[tuple[str, ...]] = ()
    """How action texts can be scored, to be tried out (`heed.policies.heads.scoring`)."""
    keeps_prefixes: ClassVar[bool] = False
    """Whether keys and values of a prompt's beginning are of use to a longer one."""
    has_room_before: ClassVar[bool] = False
    """Whether soft tokens can stand before a prompt."""
    description: ClassVar[str]
    """What it is, for a message: "has an encoder"."""

    def __init__(self, model: PreTrainedModel):
        self.model = model

    @classmethod
    @abstractmethod
    def fits(cls, config: PretrainedConfig) -> bool:
        """Say whether a model with this configuration is of the kind."""

    @property
    def reader(self) -> Any:
        """The module that gives hidden states."""
        return self.model.base_model

    @property
    def token_embedding(self) -> nn.Module:
        """The module that turns a prompt's tokens into vectors."""
        embedding = self.model.get_input_embeddings()
        assert embedding is not None
        return embedding

    @property
    def vocabulary(self) -> int:
        """How many tokens prompts may consist of: those that have an embedding."""
        embedding = self.model.get_input_embeddings()
        assert isinstance(embedding, nn.Embedding)
        return embedding.num_embeddings

    @property
    def embedding_width(self) -> int:
        """How many numbers stand for a token where the model begins to read."""
        embedding: Any = self.model.get_input_embeddings()
        return int(embedding.weight.shape[1])

    @property
    def width(self) -> int:
        """How many numbers a hidden state has that the model gives, D.

        A few project it behind the last layer, as OPT-350m does to the width of its embeddings.
        """
        width = int(self.model.config.get_text_config().hidden_size)
        head = self.model.get_output_embeddings()
        if isinstance(head, nn.Linear) and head.in_features == width:
            return width
        start = torch.zeros(1, 1, dtype=torch.long, device=self.model.device)
        with torch.no_grad():
            states: Tensor = self.reader(input_ids=start, use_cache=False).last_hidden_state
        return int(states.shape[-1])

    @property
    def layers(self) -> nn.ModuleList:
        """The list of the model's layers, whatever it is called there.

        Raises:
            ValueError: if the model is no single stack of layers.
        """
        count = self.model.config.get_text_config().num_hidden_layers
        parts = list(self.model.base_model.children())
        # BERT's are in a part of its own.
        for module in [*parts, *(inner for part in parts for inner in part.children())]:
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return module
        raise self._no_single_stack()

    def _no_single_stack(self) -> ValueError:
        return ValueError(f"{type(self.model).__name__} is not one stack of layers, so it cannot be frozen in part.")

    @property
    def window(self) -> int | None:
        """How many tokens back a layer of the model sees at the least; None where all see everything."""
        config = self.model.config.get_text_config()
        kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)
        if kinds is not None and not any(word in str(kind) for kind in kinds for word in _KINDS_WITH_WINDOWS):
            return None
        found = (getattr(config, name, None) for name in _WINDOWS)
        return min((window for window in found if isinstance(window, int) and window > 0), default=None)

    @property
    def most_tokens(self) -> int | None:
        """How many tokens a text may have that the model reads, special ones included; None for any number.

        Some models are wrong behind that, because they look positions up and there are no more; others, which compute
        them, have never seen any.
        """
        config = self.model.config.get_text_config()
        found = (getattr(config, name, None) for name in _LIMITS)
        limit = next((one for one in found if isinstance(one, int) and one > 0), None)
        if limit is None:
            return None
        for name, module in self.model.named_modules():
            # RoBERTa begins to count behind the id of its padding.
            if (
                name.endswith("position_embeddings")
                and isinstance(module, nn.Embedding)
                and module.padding_idx is not None
            ):
                return limit - module.padding_idx - 1
        return limit

    def refused_prompts(self, max_tokens: int, depth: int, before: int) -> str | None:
        """Say why the model has no positions for prompts with actions; None where it has.

        Args:
            max_tokens: of the longest prompt.
            depth: tokens of the longest action, less the one that is never read.
            before: soft tokens that stand before the prompt.
        """
        limit = self.most_tokens
        if limit is None or before + max_tokens + depth <= limit:
            return None
        more = f", {before} virtual tokens stand before them," if before else ""
        return (
            f"takes at most {limit} tokens, but prompts may have {max_tokens}{more} and actions stand behind them: "
            f"lower max_prompt_tokens to {limit - before - depth}."
        )

    def require_usable(self) -> None:  # noqa: B027 - of most kinds there is nothing to refuse
        """Refuse a model that was loaded but cannot be used as one of this kind.

        Raises:
            ValueError: in a sentence that begins with "it", saying why.
        """

    def logits(self, prompt: Tensor, action: Tensor) -> Tensor:
        """Return the logits, (T, V), from which the tokens of `action`, (T,), are drawn after `prompt`, (L,).

        Raises:
            ValueError: if it gives no likelihoods.
        """
        raise ValueError(f"{type(self.model).__name__} {self.description}: it gives texts no likelihood.")

    def last_hidden_state(self, prompts: Tensor, read: Read) -> Tensor:
        """Return the hidden state that follows each prompt, (B, D), for `prompts` (B, L) padded with -1.

        Raises:
            ValueError: if it reads texts as a whole, and has none.
        """
        raise ValueError(f"{type(self.model).__name__} {self.description}: nothing follows what it reads.")


BackboneClass = TypeVar("BackboneClass", bound=type[Backbone])

_registry: list[type[Backbone]] = []


def register_backbone(kind: BackboneClass) -> BackboneClass:
    """Let `backbone_of` find a kind of models; the last that was registered is asked first."""
    _registry.insert(0, kind)
    return kind


def backbone_kind(config: PretrainedConfig) -> type[Backbone]:
    """Return the kind of a model, by its configuration.

    Raises:
        ValueError: if there is none that takes it.
    """
    for kind in _registry:
        if kind.fits(config):
            return kind
    raise ValueError(f"No backbone reads models of {type(config).__name__}.")


def backbone_of(model: PreTrainedModel) -> Backbone:
    """Return the facts about a model's architecture."""
    return backbone_kind(model.config)(model)
