"""In what precision a language model computes."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter
from typing import Literal

import torch
from transformers import PreTrainedModel

Precision = Literal["auto", "float32", "bfloat16"]
"""`bfloat16` lets matrix products of a float32 model compute in bfloat16 (autocast), weights and sums staying float32.
`auto` does so for models wide enough to gain: on a GPU that has it, and on a CPU where a short trial of the model's own
products says that it is faster (`decided`), which some processors are twice and others not at all."""

Weights = Literal["float32", "bfloat16"]
"""How the weights of a language model are stored. `bfloat16` halves what they take up, and computes in it. Weights that
train are float32: a step of 1e-5 of one would be lost in the eight bits that a bfloat16 counts with."""

WIDE = 512
"""Hidden width from which `auto` chooses bfloat16: below, casting costs more than the products save."""

WORTH = 1.2
"""How many times as fast a CPU's products must be in bfloat16 for `auto` to choose it."""

TRIAL_TOKENS = 512
"""How many tokens the products of the trial have: a few prompts that are read together."""

TRIAL_OPERATIONS = 2e9
"""What a product of the trial has at the most, so that large models are tried out as fast as small ones."""

TRIAL_TURNS = 5
"""How often each product is timed in either precision, in turn. The fastest counts, so what disturbs does not."""


def as_stored(model: PreTrainedModel, precision: Precision) -> Precision:
    """Return the precision of a model whose weights may be stored in bfloat16; an adapter in it is float32."""
    return "bfloat16" if precision == "auto" and model.dtype == torch.bfloat16 else precision


def autocast(device: torch.device, precision: Precision, *, wide: bool) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a model on `device` is to compute; `wide` says what `is_wide` says of it."""
    if not computes_in_bfloat16(device, precision, wide=wide):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def computes_in_bfloat16(device: torch.device, precision: Precision, *, wide: bool) -> bool:
    """Say whether a model on `device` is to compute under autocast to bfloat16; on a CPU `auto` is decided before."""
    if precision != "auto":
        return precision == "bfloat16"
    return wide and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def decided(model: PreTrainedModel, precision: Precision, device: torch.device) -> Precision:
    """Return the precision that `auto` stands for on a CPU; on other devices, and for narrow models, it is settled."""
    if precision != "auto" or device.type != "cpu" or not is_wide(model):
        return precision
    return "bfloat16" if speedup_of_bfloat16(model) >= WORTH else "float32"


def speedup_of_bfloat16(model: PreTrainedModel) -> float:
    """Return how many times as fast this CPU multiplies in bfloat16 (autocast) as in float32.

    It is tried out with products of the model's shapes, which takes a fraction of a second, once in a process.
    """
    products = Counter(
        (module.in_features, module.out_features)
        for module in model.base_model.modules()
        if isinstance(module, torch.nn.Linear)
    )
    return _speedup(tuple(sorted(products.items())))


@functools.cache
def _speedup(products: tuple[tuple[tuple[int, int], int], ...]) -> float:
    seconds = {False: 0.0, True: 0.0}
    for (inputs, outputs), count in products:
        tokens = max(16, min(TRIAL_TOKENS, int(TRIAL_OPERATIONS / (2 * inputs * outputs))))
        hidden, weight = torch.ones(tokens, inputs, device="cpu"), torch.ones(outputs, inputs, device="cpu")
        fastest = {False: float("inf"), True: float("inf")}
        for turn in range(1 + TRIAL_TURNS):
            for in_bfloat16 in fastest:
                began = time.perf_counter()
                with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=in_bfloat16):
                    torch.nn.functional.linear(hidden, weight)
                if turn:  # the first call chooses its kernel
                    fastest[in_bfloat16] = min(fastest[in_bfloat16], time.perf_counter() - began)
        for in_bfloat16, fast in fastest.items():
            seconds[in_bfloat16] += count * fast
    return seconds[False] / seconds[True] if products else 1.0


def is_wide(model: PreTrainedModel) -> bool:
    """Say whether `model` computes in float32 and has products large enough to gain."""
    has_weights = next(model.parameters(), None) is not None  # of a sentence encoder, none are PyTorch's
    return has_weights and model.dtype == torch.float32 and int(model.config.get_text_config().hidden_size) >= WIDE


def weights_dtype(weights: Weights) -> torch.dtype:
    """Return the type in which `weights` are stored."""
    return torch.bfloat16 if weights == "bfloat16" else torch.float32


def require_sensible(precision: Precision, weights: Weights, *, trains_own_weights: bool) -> None:
    """Refuse a way to store weights that does not go with the rest.

    Raises:
        ValueError: if `weights` are to be bfloat16 and train, or are to be computed with in float32.
    """
    if weights not in ("float32", "bfloat16"):
        raise ValueError(f"weights is {weights!r}, but must be 'float32' or 'bfloat16'.")
    if weights == "float32":
        return
    if trains_own_weights:
        raise ValueError(
            "weights='bfloat16' is for a language model whose own weights do not train: small steps would be lost in "
            "them. Give an adapter, or train_layers=0; or leave it out and give precision='bfloat16', which computes "
            "so and trains float32 weights."
        )
    if precision == "float32":
        raise ValueError("Weights that are stored in bfloat16 are computed with in bfloat16: leave precision out.")
