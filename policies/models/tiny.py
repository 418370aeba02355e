"""`heed-tiny`: the small language model that ships with Heed.

A stock Llama of two layers, pretrained by `tools/pretrain.py` on the environments' language: `heed_tiny/` holds its
weights, its tokenizer, and a card with the command and the scores. `heed-tiny-random` is the same without
pretraining, for comparison.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from heed.policies.prompts.template import PromptTemplate

FOLDER = Path(__file__).parent / "heed_tiny"
"""Where heed-tiny is, in the form that transformers saves and loads."""

TEMPLATE = PromptTemplate(" {observation}\n {instruction}\n")
"""heed-tiny's prompt. The instruction stands last, so that it is matched with what was seen before it."""


def configuration(vocabulary: int, *, tied: bool = False) -> LlamaConfig:
    """Return the configuration of heed-tiny; the arguments are those of `new_model`."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        initializer_range=0.05,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=1,
    )


def new_model(vocabulary: int, *, seed: int, tied: bool = False) -> LlamaForCausalLM:
    """Return heed-tiny before pretraining, the same for the same seed.

    Args:
        vocabulary: how many tokens it knows.
        seed: of its weights.
        tied: whether input and output embeddings are one, as they are while it is pretrained.
    """
    config = configuration(vocabulary, tied=tied)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: LlamaForCausalLM = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    return model
