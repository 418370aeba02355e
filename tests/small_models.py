"""Small random models of real architectures, for the tests of `heed.policies`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

VOCABULARY = 50
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
}
_GATED: dict[str, Any] = {**_COMMON, "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 128}

BUILDERS: dict[str, Callable[..., PreTrainedModel]] = {
    "gpt2": lambda **extra: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_layer=2, n_embd=32, n_head=4, n_positions=128, **extra)
    ),
    "llama": lambda **extra: LlamaForCausalLM(LlamaConfig(**_GATED, **extra)),
    # SmolLM is a Llama with tied embeddings and three query heads to one of keys and values.
    "smollm": lambda **extra: LlamaForCausalLM(
        LlamaConfig(
            **{**_GATED, "hidden_size": 48, "num_attention_heads": 6},
            tie_word_embeddings=True,
            rope_parameters={"rope_theta": 1e5, "rope_type": "default"},
            **extra,
        )
    ),
    "qwen2": lambda **extra: Qwen2ForCausalLM(Qwen2Config(**_GATED, **extra)),
    "qwen3": lambda **extra: Qwen3ForCausalLM(Qwen3Config(**_GATED, head_dim=8, **extra)),
    "mistral": lambda **extra: MistralForCausalLM(MistralConfig(**_GATED, sliding_window=None, **extra)),
    "gemma": lambda **extra: GemmaForCausalLM(GemmaConfig(**_GATED, head_dim=8, **extra)),
    "gpt-neox": lambda **extra: GPTNeoXForCausalLM(
        GPTNeoXConfig(**_COMMON, intermediate_size=64, max_position_embeddings=128, **extra)
    ),
}


T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "decoder_start_token_id": 0,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
}

ENCODER_DECODERS: dict[str, Callable[..., PreTrainedModel]] = {
    "t5": lambda **extra: T5ForConditionalGeneration(T5Config(**T5, **extra)),
    # As T5 1.1 and Flan-T5: a gated feed-forward network, and an output embedding of its own.
    "flan-t5": lambda **extra: T5ForConditionalGeneration(
        T5Config(**{**T5, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}, **extra)
    ),
}


def build(family: str, *, attention: str = "sdpa", seed: int = 0) -> PreTrainedModel:
    """Build a small random model in float64 with larger weights than usual, so that mistakes show."""
    torch.manual_seed(seed)
    if family in ENCODER_DECODERS:
        model = ENCODER_DECODERS[family](initializer_factor=1.0, attn_implementation=attention)
    else:
        model = BUILDERS[family](initializer_range=0.3, attn_implementation=attention)
    model.double()
    for module in model.modules():
        if type(module).__name__ in ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "T5LayerNorm"):
            module.forward = partial(_norm_in_float64, module)
        elif type(module).__name__ == "GemmaRMSNorm":
            module.forward = partial(_gemma_norm_in_float64, module)
    model.train(False)
    return model


def _norm_in_float64(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Normalise as the module does, but not in float32, which would hide mistakes of that size."""
    scale = torch.rsqrt(hidden.pow(2).mean(dim=-1, keepdim=True) + module.variance_epsilon)
    normed: torch.Tensor = module.weight * hidden * scale
    return normed


def _gemma_norm_in_float64(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The same for Gemma, whose weight is added to one."""
    scale = torch.rsqrt(hidden.pow(2).mean(dim=-1, keepdim=True) + module.eps)
    normed: torch.Tensor = (1 + module.weight) * hidden * scale
    return normed
