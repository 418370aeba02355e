"""Hidden states of a language model, computed where they are read.

A policy reads one position of a prompt, and a few behind it where actions are scored. All layers but the last need
every position; the last needs keys and values of every position, but queries and the feed-forward network only where
it is read. In a model of two layers that is almost half of the work. `transformers` computes all; the Llama family has
layers of our own (`llama.py`).

The layers can also be run in two parts, so that what frozen layers give need be computed only once (`frozen.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from heed.policies.backbones.backbone import backbone_of
from heed.policies.backbones.llama import COMPILED, FAMILY, pick, read_llama


@dataclass(frozen=True, kw_only=True)
class LowerStates:
    """What the lowest layers of a model gave, to go on from."""

    states: Tensor
    """(B, S, D)"""
    layers: int
    """How many layers that was."""


def read_hidden_states(
    model: PreTrainedModel,
    tokens: Tensor,
    read: Tensor,
    *,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
    cache: DynamicCache | None = None,
    lower: LowerStates | None = None,
) -> Tensor:
    """Return the final hidden states at some positions.

    Args:
        model: a causal language model.
        tokens: token ids, (B, S).
        read: where to read, (B, R).
        positions: position ids, (B, S); 0, 1, 2, ... unless given.
        mask: what sees what, bool, (B, 1, S, P + S) with P columns in the cache; causal unless given.
        cache: keys and values of tokens before these; those of these tokens are put behind them.
        lower: what the lowest layers give for these tokens, if that is known.

    Returns:
        (B, R, D).
    """
    if computes_last_layer_in_part(model):
        known = None if lower is None else (lower.states, lower.layers)
        return read_llama(model, tokens, read, positions=positions, mask=mask, cache=cache, lower=known)
    inputs = _inputs(model, positions, mask, cache)
    with contextlib.nullcontext() if lower is None else _without_lowest_layers(model, lower):
        hidden: Tensor = model.base_model(input_ids=tokens, **inputs).last_hidden_state
    return pick(hidden, read)


def _inputs(
    model: PreTrainedModel, positions: Tensor | None, mask: Tensor | None, cache: DynamicCache | None = None
) -> dict[str, Any]:
    """Return what a forward of transformers takes beside the tokens; what is None is left to it."""
    given = {
        "position_ids": positions,
        "attention_mask": None if mask is None else as_attention_takes_it(model, mask),
        "past_key_values": cache,
    }
    return {"use_cache": cache is not None, **{name: value for name, value in given.items() if value is not None}}


def read_lower_states(
    model: PreTrainedModel,
    tokens: Tensor,
    layers: int,
    *,
    positions: Tensor | None,
    mask: Tensor | None,
    cache: DynamicCache | None = None,
) -> LowerStates:
    """Return what the lowest `layers` layers give for `tokens`; the other arguments are `read_hidden_states`'s."""

    class Reached(Exception):  # noqa: N818 - no error, the way out of the model's forward
        def __init__(self, states: Tensor):
            self.states = states

    def stop(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        raise Reached(arguments[0])

    hook = layers_of(model)[layers].register_forward_pre_hook(stop)
    try:
        model.base_model(input_ids=tokens, **_inputs(model, positions, mask, cache))
    except Reached as reached:
        return LowerStates(states=reached.states, layers=layers)
    finally:
        hook.remove()
    raise RuntimeError(f"{type(model).__name__} never came to its layer {layers}.")


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return the list of the model's layers, whatever it is called there.

    Raises:
        ValueError: if the model is no single stack of layers.
    """
    return backbone_of(model).layers


@contextlib.contextmanager
def _without_lowest_layers(model: PreTrainedModel, lower: LowerStates) -> Iterator[None]:
    """Let the model's forward begin at the states of `lower`."""
    base, layers = model.base_model, layers_of(model)
    name = next(name for name, module in base.named_children() if module is layers)
    hook = layers[lower.layers].register_forward_pre_hook(lambda _, arguments: (lower.states, *arguments[1:]))
    # Where layers differ in kind, a model takes the kind from a layer's place in the list: it must stay.
    mixed = len(set(getattr(model.config.get_text_config(), "layer_types", None) or ())) > 1
    passed = [_Passed() for _ in layers[: lower.layers]] if mixed else []
    setattr(base, name, nn.ModuleList([*passed, *layers[lower.layers :]]))
    try:
        yield
    finally:
        setattr(base, name, layers)
        hook.remove()


class _Passed(nn.Module):
    """Stands for a layer whose output is known already."""

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden


def compile_layers(model: PreTrainedModel) -> None:
    """Let `torch.compile` fuse what the model's layers do, from their next use on."""
    if type(model.base_model).__name__ in FAMILY:
        COMPILED.add(model)
    for layer in layers_of(model):
        layer.compile(dynamic=True)  # nothing happens before it is called, which layers of our own are not


def as_attention_takes_it(model: PreTrainedModel, mask: Tensor) -> Tensor:
    """Return a bool mask as it is for `sdpa`, and as numbers to be added for what else would misread it in silence."""
    if getattr(model.config, "_attn_implementation", None) == "sdpa":
        return mask
    lowest = torch.finfo(model.dtype).min
    return torch.zeros_like(mask, dtype=model.dtype).masked_fill(~mask, lowest)


def computes_last_layer_in_part(model: PreTrainedModel) -> bool:
    """Say whether the last layer of `model` is computed only where it is read."""
    return (
        type(model.base_model).__name__ in FAMILY
        and getattr(model.config, "_attn_implementation", None) == "sdpa"
        and backbone_of(model).window is None
        and not getattr(model.base_model, "gradient_checkpointing", False)
    )
