"""A small random model of each kind, for the probes: with heed-tiny's tokenizer, as tall as two layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, T5Config, T5ForConditionalGeneration

from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from tests.small_encoders import save_encoder

KINDS = ("causal", "encoder-decoder", "encoder", "segments")
"""The last is a frozen encoder that reads prompts in segments."""


def small_model(kind: str, folder: Path) -> LanguageModel:
    """Return a random model of a kind, one of `KINDS`; an encoder is saved into `folder` first."""
    if kind in ("encoder", "segments"):
        return load_language_model(str(save_encoder("bert", folder / kind)))
    tokenizer = load_language_model("heed-tiny").tokenizer
    torch.manual_seed(0)
    model: PreTrainedModel
    if kind == "causal":
        size: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size, **heads))
    else:
        size = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
        model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **size))
    return LanguageModel(model.train(False), tokenizer, kind)
