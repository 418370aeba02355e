"""Language models of which only the top layers train: what the layers below give is computed once for each prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heed.policies.backbones.exactness import trials_of
from heed.policies.backbones.hidden_states import (
    LowerStates,
    computes_last_layer_in_part,
    layers_of,
    read_hidden_states,
    read_lower_states,
)
from heed.policies.caches.batching import Inputs
from heed.policies.caches.memory import RowMemory
from heed.policies.caches.prefixes import PrefixMemory
from heed.policies.heads.scoring import last_hidden_state
from heed.policies.heads.trie import Tries
from heed.policies.prompts.layout import PADDING


def freeze(model: PreTrainedModel, train_layers: int | None) -> None:
    """Let only the top `train_layers` layers of `model` train, and what stands behind them.

    Embeddings are frozen, so a tied output embedding is as well.

    Args:
        model: is changed.
        train_layers: None for the whole model, 0 for nothing of it.

    Raises:
        ValueError: if the model has no such layers.
    """
    if train_layers is None:
        return
    model.requires_grad_(False)
    if train_layers == 0:
        return
    layers = layers_of(model)
    if not 0 < train_layers <= len(layers):
        raise ValueError(f"train_layers is {train_layers}, but the language model has {len(layers)} layers.")
    behind = False
    for module in model.base_model.children():
        if module is layers or layers in module.children():
            layers[-train_layers:].requires_grad_(True)
            behind = True
        elif behind:
            module.requires_grad_(True)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is not embedding.weight:  # encoders have none
        head.requires_grad_(True)


def freeze_embeddings(model: PreTrainedModel) -> None:
    """Let a model's embeddings stay as they are: those of tokens, and those of places where it has any.

    An output embedding that is the input's stays with it; one of its own trains.
    """
    embedding = model.get_input_embeddings()
    assert embedding is not None
    embedding.requires_grad_(False)
    for name, module in model.base_model.named_children():
        # GPT-2's of places, all of BERT's; T5's of distances belong to its layers.
        for part in module.modules() if name == "embeddings" else [module]:
            if isinstance(part, nn.Embedding):
                part.requires_grad_(False)


class FrozenLayers:
    """Reads a model whose lowest layers are frozen.

    Args:
        model: a causal language model.
        layers: how many of its layers are frozen.
        max_bytes: what the states that are kept may take up.
    """

    prefixes: PrefixMemory | None = None
    """Reads new prompts from where they differ from others, once `keep_prefixes` was called."""

    def __init__(self, model: PreTrainedModel, layers: int, max_bytes: int):
        width = int(model.config.get_text_config().hidden_size) * model.dtype.itemsize
        self.model, self.layers = model, layers
        trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
        self.memory = RowMemory(model, max_bytes // width, skip=trained)

    def keep_prefixes(self, tries: Tries, max_bytes: int) -> None:
        """Keep keys and values of the frozen layers, too, in so many bytes; the tries' nodes stand behind prompts."""
        self.prefixes = PrefixMemory(self.model, tries, max_bytes, self.memory.watch, layers=self.layers)

    def clear_cache(self) -> None:
        """Forget what was computed."""
        self.memory.clear_cache()
        if self.prefixes is not None:
            self.prefixes.clear_cache()

    def reader(self, prompts: Tensor, keys: Sequence[bytes]) -> Callable[..., Tensor]:
        """Return `read_hidden_states` for different prompts, (B, L), with these keys, and the nodes of a trie."""
        return partial(self._read, prompts, keys)

    def _read(
        self,
        prompts: Tensor,
        keys: Sequence[bytes],
        model: PreTrainedModel,
        tokens: Tensor,
        read: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        real = torch.ones_like(tokens, dtype=torch.bool)  # (B, S)
        real[:, : prompts.shape[1]] = prompts != PADDING

        def compute(new: list[int]) -> Tensor:
            if self.prefixes is not None:
                lengths = (prompts[new] != PADDING).sum(dim=1).cpu().numpy()
                rows = np.arange(len(new))
                batch = Inputs(prompts[new], rows, lengths, [keys[index] for index in new], torch.from_numpy(rows))
                with torch.no_grad():
                    states = self.prefixes.read_lower(batch)
                if states is not None:
                    return states
            return _compute(model, self.layers, tokens, positions, mask, torch.tensor(new)).states[real[new]]

        found = self.memory.find(keys, real.sum(dim=1).tolist(), compute)
        if found is None:  # too many to be kept
            lower = _compute(model, self.layers, tokens, positions, mask, torch.arange(len(tokens)))
        else:
            table, starts = found
            # Padding takes the row of the token before it, which nothing reads.
            places = starts[:, None] + (real.cumsum(dim=1) - 1).clamp(min=0)
            lower = LowerStates(states=table[places], layers=self.layers)
        return read_hidden_states(model, tokens, read, positions=positions, mask=mask, lower=lower)


def _compute(
    model: PreTrainedModel,
    layers: int,
    tokens: Tensor,
    positions: Tensor | None,
    mask: Tensor | None,
    rows: Tensor,
) -> LowerStates:
    with torch.no_grad():
        return read_lower_states(
            model,
            tokens[rows],
            layers,
            positions=None if positions is None else positions.expand(len(tokens), -1)[rows],
            mask=None if mask is None else mask[rows],
        )


def goes_on_exactly(model: PreTrainedModel, layers: int, longest: int) -> bool:
    """Say whether a model that goes on from the states of its lowest layers gives what it gives when read whole.

    Args:
        model: a causal language model.
        layers: how many of its layers that is.
        longest: how many tokens the prompts have at the most.
    """
    if computes_last_layer_in_part(model):
        return True  # by layers of our own

    def go_on(tested: PreTrainedModel, prompts: Tensor, _: Tries) -> Tensor:
        return last_hidden_state(tested, prompts, read=read_in_two)

    def read_in_two(tested: PreTrainedModel, tokens: Tensor, read: Tensor, **more: Any) -> Tensor:
        below = min(layers, len(layers_of(tested)) - 1)
        return read_hidden_states(tested, tokens, read, **more, lower=read_lower_states(tested, tokens, below, **more))

    with trials_of(model, lambda one, prompts, _: last_hidden_state(one, prompts), longest, None) as trials:
        return all(trial.accepts(go_on) for trial in trials)
