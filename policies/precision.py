"""In what precision a language model computes."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from transformers import PreTrainedModel

Precision = Literal["auto", "float32", "bfloat16"]
"""`bfloat16` lets matrix products of a float32 model compute in bfloat16 (autocast), weights and sums staying float32.
`auto` does so on a GPU that has it, for models wide enough to gain; never on a CPU."""

WIDE = 512
"""Hidden width from which `auto` chooses bfloat16: below, casting costs more than the products save."""


def autocast(device: torch.device, precision: Precision, *, wide: bool) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a model on `device` is to compute; `wide` says what `is_wide` says of it."""
    if not computes_in_bfloat16(device, precision, wide=wide):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def computes_in_bfloat16(device: torch.device, precision: Precision, *, wide: bool) -> bool:
    """Say whether a model on `device` is to compute under autocast to bfloat16."""
    if precision != "auto":
        return precision == "bfloat16"
    return wide and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def is_wide(model: PreTrainedModel) -> bool:
    """Say whether `model` computes in float32 and has products large enough to gain."""
    return model.dtype == torch.float32 and int(model.config.get_text_config().hidden_size) >= WIDE
