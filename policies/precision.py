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


def autocast(model: PreTrainedModel, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """Return the context in which `model` is to compute."""
    device = model.device.type
    if not computes_in_bfloat16(model, precision):
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=torch.bfloat16)


def computes_in_bfloat16(model: PreTrainedModel, precision: Precision) -> bool:
    """Say whether `model` is to compute under autocast to bfloat16."""
    if precision != "auto":
        return precision == "bfloat16"
    return (
        model.device.type == "cuda"
        and model.dtype == torch.float32
        and int(model.config.get_text_config().hidden_size) >= WIDE
        and torch.cuda.is_bf16_supported(including_emulation=False)
    )
