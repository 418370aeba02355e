"""Small random encoders of real architectures with tokenizers of their real kinds, saved to disk, for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
)

_TEXT = """go to the a red green blue ball box key wall door is in sight turn left right forward pick up drop toggle
done 1 2 3 4 ahead put it next ; . , : ? instruction observation action see nothing no then and press button"""
WORDS = _TEXT.split()

SENTENCES = [
    " ".join(WORDS),
    "go to the red ball",
    "blue key 2 left 1 ahead; wall 3 right",
    "turn left",
    "Instruction:",
]

FAMILIES = ("bert", "roberta", "modernbert", "minilm")
POSITIONS = 96
"""How many tokens each of them reads."""


def save_encoder(family: str, folder: Path, *, seed: int = 0, masked: bool = True) -> Path:
    """Save a small random model and its tokenizer into `folder`, as a user's own would be.

    Args:
        family: one of `FAMILIES`; `minilm` is a BERT with the files that sentence-transformers puts beside it.
        folder: is made.
        seed: of the weights.
        masked: save it with what fills gaps, as these models come; else the bare encoder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(family, folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    model = _model(family, tokenizer)
    saved: Any = model if masked and family != "minilm" else model.base_model
    saved.save_pretrained(folder)
    if family == "minilm":
        (folder / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def _tokenizer(family: str, folder: Path) -> PreTrainedTokenizerBase:
    if family in ("bert", "minilm"):
        # Words, and every letter alone and within a word, so that any text can be written.
        letters = "abcdefghijklmnopqrstuvwxyz[]"
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        vocabulary += [one for letter in letters for one in (letter, f"##{letter}") if one not in vocabulary]
        return BertTokenizer(vocab={word: number for number, word in enumerate(dict.fromkeys(vocabulary))})
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if family == "modernbert":
        specials = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(SENTENCES, vocab_size=330, special_tokens=specials, show_progress=False)
    learner.save_model(str(folder))
    if family == "roberta":
        return RobertaTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    from tokenizers.processors import TemplateProcessing

    numbers = [(name, learner.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    learner._tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=numbers
    )
    names = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=learner._tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **dict(zip(names, specials, strict=True)),
    )


def _model(family: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.3,  # large, so that mistakes show
        "pad_token_id": tokenizer.pad_token_id,
    }
    config: PretrainedConfig
    if family == "roberta":
        # The first two positions are never used: it counts from behind its padding's id, 1.
        config = RobertaConfig(**common, max_position_embeddings=POSITIONS + 2, type_vocab_size=1)
        return RobertaForMaskedLM(config)
    if family == "modernbert":
        special: dict[str, Any] = {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
        ends: dict[str, Any] = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
        local: dict[str, Any] = {
            "max_position_embeddings": POSITIONS,
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
        }
        return ModernBertForMaskedLM(ModernBertConfig(**common, **special, **ends, **local))
    return BertForMaskedLM(BertConfig(**common, max_position_embeddings=POSITIONS))
