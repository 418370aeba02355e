"""Activation checkpointing: layers keep their input alone, and compute the rest again for the gradient.

Without it a layer keeps some dozens of numbers for each one of its input until the gradient has passed. With it the
forward pass is done twice, which costs about a third more time, and memory holds one layer at a time (Chen et al. 2016,
arXiv 1604.06174).

`transformers` has the same (`gradient_checkpointing_enable`), but not for what is done here: it works in training mode
alone, where dropout would make PPO's ratio noise, so models stay in evaluation mode here, and it would silently do
nothing; and it leaves keys and values out that stand in a cache, so scores behind cached prompts would be wrong. Here
each layer is wrapped, in any mode, and a layer that is computed again finds the cache as it was the first time.
"""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

Result = TypeVar("Result")

_MODELS: weakref.WeakSet[PreTrainedModel] = weakref.WeakSet()
"""Models whose layers are checkpointed."""


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Let every layer of `model` keep its input alone for the gradient, from its next use on.

    Raises:
        ValueError: if `transformers` does not say which are its layers.
    """
    layers = checkpointable_layers(model)
    if not layers:
        raise ValueError(
            f"transformers does not know activation checkpointing for {type(model).__name__}: leave it out, and give "
            "smaller micro-batches (micro_batch_tokens) instead."
        )
    _MODELS.add(model)
    for layer in layers:
        # A partial of the layer, not a closure: a copy of the model gets one of its own layer.
        layer.forward = functools.partial(_forward, layer)


def require_gradient(compiled: bool, train_layers: int | None) -> None:
    """Refuse activation checkpointing where it cannot work, or would do nothing.

    Raises:
        ValueError: if layers are compiled, or nothing trains.
    """
    if compiled:
        raise ValueError(
            "activation_checkpointing computes layers again as they were written, which compiled layers are not: leave "
            "one of the two out."
        )
    if train_layers == 0:
        raise ValueError(
            "With train_layers=0 nothing of the language model has a gradient, so activation_checkpointing has nothing "
            "to compute again: leave it out."
        )


def checkpointable_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model, or of both its stacks, that can be computed again."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def is_checkpointed(model: PreTrainedModel) -> bool:
    """Say whether the layers of `model` are checkpointed."""
    return model in _MODELS


def checkpointed(function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
    """Return what `function` returns; what it needs for the gradient is computed again when the gradient comes.

    Args:
        function: draws no random numbers.
        arguments: of it; a cache among them may be added to.
        named: likewise.
    """
    if not torch.is_grad_enabled():
        return function(*arguments, **named)
    result: Result = checkpoint(
        _Replayed(function, (arguments, named)),
        *arguments,
        use_reentrant=False,
        preserve_rng_state=False,
        **named,
    )
    return result


def _forward(layer: nn.Module, *arguments: Any, **named: Any) -> Any:
    return checkpointed(functools.partial(type(layer).forward, layer), *arguments, **named)


class _Replayed:
    """A function that is called once, and later again with caches as they were before the first call.

    Args:
        function: is called.
        given: the arguments of the first call.
    """

    def __init__(self, function: Callable[..., Any], given: tuple[tuple[Any, ...], dict[str, Any]]):
        self._function = function
        self._called = False
        caches = [part for part in (*given[0], *given[1].values()) if isinstance(part, Cache)]
        self._before = {id(cache): _copy_of(cache) for cache in caches}

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if not self._called:
            self._called = True
            return self._function(*arguments, **named)
        return self._function(
            *(self._as_before(part) for part in arguments),
            **{name: self._as_before(part) for name, part in named.items()},
        )

    def _as_before(self, part: Any) -> Any:
        return _copy_of(self._before[id(part)]) if isinstance(part, Cache) else part


def _copy_of(cache: Any) -> Any:
    """Return a cache of its own with the same keys and values, which are not copied."""
    copied = copy.copy(cache)
    if isinstance(cache, EncoderDecoderCache):
        copied.self_attention_cache = _copy_of(cache.self_attention_cache)
        copied.cross_attention_cache = _copy_of(cache.cross_attention_cache)
        copied.is_updated = dict(cache.is_updated)
        return copied
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied
