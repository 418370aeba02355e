"""Small models of a large one's architecture, to try out on them what is true of the architecture.

Whether a mask of ours does what it should hangs on the code of the attention, on the kinds of layers, on windows and on
positions: all of that is in the configuration. So a model of the same class is made with one layer of each kind, a
narrow feed-forward network and a small vocabulary, in float32, with weights so large that a mistake shows.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from heed.policies.models.pretrained import quietly

VOCABULARY = 64
NARROW = 64
"""Width of feed-forward networks, which know nothing of other tokens."""

_FEED_FORWARD = ("intermediate_size", "moe_intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff")
_STACKS = ("num_hidden_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
"""What configurations call their numbers of layers; the first is known to each by any other name."""


def probe_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return a small model of the architecture of `model`, on its device, in float32.

    Raises:
        Exception: whatever the model's class makes of such a configuration.
    """
    kinds = [_kind(layer) for layer in _layers(model)]
    chosen = sorted({kinds.index(kind) for kind in kinds})
    if len(chosen) == 1 < len(kinds):
        chosen = [0, 1]  # one that gives the other its input
    for layers in (chosen, list(range(chosen[-1] + 1))):
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), quietly():
            probe: PreTrainedModel = type(model)(_smaller(model.config, layers, len(kinds)))
            probe.float()
        # Where a layer's kind follows from its place alone, those before it must be there too.
        if [_kind(layer) for layer in _layers(probe)] == [kinds[index] for index in layers]:
            break
    for weight, new in telling_weights(probe).items():
        weight.data = new
    probe.train(False)
    nn.Module.to(probe, model.device)
    return probe


def _smaller(config: PretrainedConfig, layers: Sequence[int], count: int) -> PretrainedConfig:
    """Return a configuration with some of its `count` layers, narrow ones."""
    smaller = copy.deepcopy(config)
    text: Any = smaller.get_text_config()
    for part in {id(one): one for one in (smaller, text)}.values():
        values = vars(part)
        for name, value in list(values.items()):
            if isinstance(value, list | tuple) and len(value) == count and "layer" in name:
                values[name] = type(value)(value[index] for index in layers)
            elif isinstance(value, PretrainedConfig) and value is not text:
                value.num_hidden_layers = 1  # of what sees or hears
        for name in _FEED_FORWARD:
            if isinstance(getattr(part, name, None), int):
                setattr(part, name, min(getattr(part, name), NARROW))
    for name in _STACKS:
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, min(getattr(text, name), len(layers)))
    for part in (smaller, text):
        part.vocab_size = min(part.vocab_size, VOCABULARY)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
            token = getattr(part, name, None)
            if isinstance(token, int) and token >= part.vocab_size:
                setattr(part, name, 0)
    return smaller


def telling_weights(model: PreTrainedModel) -> dict[torch.nn.Parameter, Tensor]:
    """Return new weights for a model, in float32 at least, so large that attention chooses and mistakes show.

    Matrices keep the size of what goes into them; those of a new model are a tenth of that, and what is a little wrong
    before a training may be very wrong behind it.
    """
    generator = torch.Generator().manual_seed(0)
    new = {}
    for weight in model.parameters():
        if not weight.is_floating_point():
            continue
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        if weight.dim() < 2:
            new[weight] = weight.detach().to(dtype)
        else:
            drawn = torch.empty(weight.shape, dtype=dtype).normal_(
                std=1.5 * weight.shape[-1] ** -0.5, generator=generator
            )
            new[weight] = drawn.to(weight.device)
    return new


def _layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """Return the model's layers: the longest lists of modules in it, one after the other."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module)]
    count = int(model.config.get_text_config().num_hidden_layers)
    found = [module for module in lists if len(module) == count]
    return list(found[-1]) if found else []


def _kind(layer: torch.nn.Module) -> tuple[Any, ...]:
    """Return what tells a layer from those of other kinds: its parts, their switches, and how far they see."""
    switches = []
    for name, module in layer.named_modules():
        plain = {
            key: value
            for key, value in vars(module).items()
            if not key.startswith("_")
            and ((value is None or isinstance(value, bool | str)) or ("window" in key and isinstance(value, int)))
        }
        switches.append((name, type(module).__name__, tuple(sorted(plain.items(), key=lambda one: one[0]))))
    return tuple(switches)
