"""Small random models of real architectures, for the tests of `heed.policies`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
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
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
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
    # Gemma 2 squashes its logits and those of its attention, Gemma 3 has two rotations; both have two kinds of layers.
    "gemma2": lambda **extra: Gemma2ForCausalLM(
        Gemma2Config(
            **_GATED,
            head_dim=8,
            layer_types=["sliding_attention", "full_attention"],
            sliding_window=64,
            final_logit_softcapping=3.0,
            attn_logit_softcapping=2.0,
            **extra,
        )
    ),
    "gemma3": lambda **extra: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **_GATED, head_dim=8, layer_types=["sliding_attention", "full_attention"], sliding_window=64, **extra
        )
    ),
    # Phi turns half of a head, and its output embedding has a bias.
    "phi": lambda **extra: _with_bias(PhiForCausalLM(PhiConfig(**_GATED, **extra))),
    "phi3": lambda **extra: Phi3ForCausalLM(Phi3Config(**_GATED, pad_token_id=0, **extra)),
    # Every other layer of this one knows no places.
    "smollm3": lambda **extra: SmolLM3ForCausalLM(
        SmolLM3Config(**_GATED, no_rope_layers=[1, 0], pad_token_id=0, **extra)
    ),
    "gpt-neox": lambda **extra: GPTNeoXForCausalLM(
        GPTNeoXConfig(**_COMMON, intermediate_size=64, max_position_embeddings=128, **extra)
    ),
}


WITHOUT_SDPA = {"gemma2"}
"""Families whose attention `sdpa` cannot compute; what does takes its softmax in float32."""

WITH_WINDOWS = {"gemma2", "gemma3"}
"""Families that are built here with layers that see only so far back."""

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


def _with_bias(model: PreTrainedModel) -> PreTrainedModel:
    """Give the output embedding a bias that shows; a new model's is zero."""
    head = model.get_output_embeddings()
    assert isinstance(head, torch.nn.Linear)
    assert head.bias is not None
    torch.nn.init.normal_(head.bias)
    return model


def build(family: str, *, attention: str = "sdpa", seed: int = 0) -> PreTrainedModel:
    """Build a small random model in float64 with larger weights than usual, so that mistakes show."""
    torch.manual_seed(seed)
    attention = "eager" if family in WITHOUT_SDPA else attention
    if family in ENCODER_DECODERS:
        model = ENCODER_DECODERS[family](initializer_factor=1.0, attn_implementation=attention)
    else:
        model = BUILDERS[family](initializer_range=0.3, attn_implementation=attention)
    model.double()
    for module in model.modules():
        name = type(module).__name__
        if name.startswith("Gemma") and name.endswith("RMSNorm"):
            module.forward = partial(_gemma_norm_in_float64, module)
        elif name.endswith("RMSNorm") or name == "T5LayerNorm":
            module.forward = partial(_norm_in_float64, module)
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
