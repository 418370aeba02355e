"""Small tokenizers with the rules of the families that `examples.families` goes through, trained on a few sentences."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    RobertaTokenizer,
    T5Tokenizer,
)

TEXTS = (
    "Instruction: go to the red ball Observation: red ball 2 left 1 ahead; wall 3 ahead Action: turn left",
    "Instruction: pick up a grey key Observation: grey key 1 ahead; blue box 2 right Action: go forward",
    "Instruction: open the green door Observation: closed green door 3 ahead; purple ball 1 right Action: toggle",
    "Instruction: put the yellow box next to it Observation: you carry a yellow box Action: turn right, drop, pick up",
)
"""What the tokenizers are trained on."""


@functools.cache
def _byte_pairs() -> tuple[dict[str, int], list[Any]]:
    """Return the vocabulary and the merges of byte-level pair encoding, as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _pairs_of(tokenizer, ())


@functools.cache
def _sentence_pairs(special: tuple[str, ...]) -> tuple[dict[str, int], list[Any]]:
    """Return those of SentencePiece's pair encoding, where a word begins with ▁, and unknown characters are bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    alphabet = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=[*alphabet, "▁"], show_progress=False)
    # Runs of spaces are tokens of their own, as in Llama's.
    tokenizer.train_from_iterator([text.replace(": ", " : ") for text in TEXTS], trainer)
    vocabulary, merges = _pairs_of(tokenizer, (*special, *(f"<0x{byte:02X}>" for byte in range(256))))
    vocabulary["▁▁"] = len(vocabulary)
    return vocabulary, [*merges, ("▁", "▁")]


def _pairs_of(tokenizer: Tokenizer, first: Iterable[str]) -> tuple[dict[str, int], list[Any]]:

    model = json.loads(tokenizer.to_str())["model"]
    learned = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    tokens = [*first, *learned]
    return {token: number for number, token in enumerate(tokens)}, [(one, two) for one, two in model["merges"]]


def _beginning(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Let a tokenizer begin every text with its token for that."""
    begin = str(tokenizer.bos_token)
    number = tokenizer.convert_tokens_to_ids(begin)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, number)]
    )
    return tokenizer


def gpt2_tokenizer() -> PreTrainedTokenizerBase:
    """Bytes; nothing before or behind a text; no token to pad with."""
    vocabulary, merges = _byte_pairs()
    return GPT2Tokenizer(vocab={**vocabulary, "<|endoftext|>": len(vocabulary)}, merges=merges)


def qwen_tokenizer() -> PreTrainedTokenizerBase:
    """Bytes; nothing before or behind a text; ChatML."""
    vocabulary, merges = _byte_pairs()
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def llama3_tokenizer() -> PreTrainedTokenizerBase:
    """Bytes; a token begins every text; no token to pad with; its chat template writes the beginning, too."""
    vocabulary, merges = _byte_pairs()
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    marks = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    inner.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    begin = inner.token_to_id(marks[0])
    inner.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{marks[0]} $A", special_tokens=[(marks[0], begin)]),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=marks[0], eos_token=marks[4])
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
        "{{ message.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )
    return tokenizer


def llama2_tokenizer() -> PreTrainedTokenizerBase:
    """Sentence pieces as Llama 2 has them (`legacy`): ▁ before every text, even before one that begins with a space."""
    special = ("<unk>", "<s>", "</s>")
    vocabulary, merges = _sentence_pairs(special)
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    inner.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in special])
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]"
        "{% elif message.role == 'assistant' %} {{ message.content }}{{ eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
    )
    return tokenizer


def mistral_tokenizer() -> PreTrainedTokenizerBase:
    """Sentence pieces as `transformers` builds Llama's today: ▁ before the first word."""
    vocabulary, merges = _sentence_pairs(("<unk>", "<s>", "</s>"))
    return _beginning(LlamaTokenizer(vocab=vocabulary, merges=merges))


def gemma_tokenizer() -> PreTrainedTokenizerBase:
    """Sentence pieces without ▁ before a text; a token begins every text, and the chat template writes it, too."""
    vocabulary, merges = _sentence_pairs(("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"))
    tokenizer = _beginning(GemmaTokenizer(vocab=vocabulary, merges=merges))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}<start_of_turn>"
        "{{ 'model' if message.role == 'assistant' else message.role }}\n{{ message.content | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    )
    return tokenizer


def t5_tokenizer() -> PreTrainedTokenizerBase:
    """Unigrams; a token ends every text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False, initial_alphabet=["▁"]
    )
    tokenizer.train_from_iterator(TEXTS, trainer)

    pieces = [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def bert_tokenizer() -> PreTrainedTokenizerBase:
    """Pieces of lower-cased words; tokens before and behind every text, and between the two of a pair."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return BertTokenizer(vocab=tokenizer.get_vocab())


def roberta_tokenizer() -> PreTrainedTokenizerBase:
    """Bytes; tokens before and behind every text, and two between those of a pair."""
    pairs, merges = _byte_pairs()
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    vocabulary = {token: number for number, token in enumerate((*special, *pairs))}
    return RobertaTokenizer(vocab=vocabulary, merges=merges)


def modernbert_tokenizer() -> PreTrainedTokenizerBase:
    """Bytes; tokens before and behind every text, and between the two of a pair; no types."""
    vocabulary, merges = _byte_pairs()
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    names = {
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    inner.add_special_tokens([AddedToken(mark, special=True) for mark in names.values()])
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(mark, inner.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_input_names=["input_ids", "attention_mask"], **names)
