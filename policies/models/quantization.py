"""Base weights of 8 or 4 bits, by bitsandbytes: a large model in a quarter or an eighth of its memory, on a GPU only.

8 bits: LLM.int8 (Dettmers et al. 2022, arXiv 2208.07339); 4 bits: the NF4 of QLoRA (Dettmers et al. 2023, arXiv
2305.14314), with doubly quantized constants. Such weights cannot train, so they serve under an adapter.
`transformers` and `peft` do the work; here is what must be there, what they are asked for, and how such a model is
copied.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

Quantization = Literal["8bit", "4bit"]


def require_quantization(kind: str) -> None:
    """Refuse to go on where weights cannot be quantized.

    Raises:
        ValueError: if there is no such kind, no GPU, or no bitsandbytes.
    """
    if kind not in get_args(Quantization):
        raise ValueError(f"Weights cannot be quantized to {kind!r}: give one of {', '.join(get_args(Quantization))}.")
    if not torch.cuda.is_available():
        raise ValueError(
            "Quantized weights need an NVIDIA GPU, and PyTorch finds none here: leave the quantization out."
        )
    if find_spec("bitsandbytes") is None:
        raise ValueError("Quantized weights need the package bitsandbytes: pip install 'heed[quantized]'.")


def loading(kind: Quantization | None) -> dict[str, Any]:
    """Return what `from_pretrained` takes beside the rest to load a model with such weights; nothing for None."""
    if kind is None:
        return {}
    compute = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if kind == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
    return {"quantization_config": config, "dtype": compute, "device_map": {"": torch.cuda.current_device()}}


def copy_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model whose weights are quantized, with those that do not train in common.

    A quantized weight is no plain tensor: it holds what its numbers are scaled by, and 8-bit layers keep the numbers
    once more in a state of theirs. All of that is shared, so it is handed on as it is.
    """
    shared: dict[int, Any] = {id(weight): weight for weight in model.parameters() if not weight.requires_grad}
    for module in model.modules():
        for name in ("state", "quant_state"):
            if hasattr(module, name):
                shared[id(getattr(module, name))] = getattr(module, name)
    copied: PreTrainedModel = copy.deepcopy(model, shared)
    return copied
