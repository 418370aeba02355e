"""Every family of language models through both kinds of agents: `python -m examples.families`, which prints a table.

For each family a small model of the real architecture is made, with a tokenizer that is trained here under the family's
rules, and saved as a user's own would be. PPO and DQN update it twice, with all of its weights and with LoRA; the
agents are saved, and loaded by another process, which must find the same outputs. Of LoRA's checkpoints the size of all
weights, the optimizer's numbers included, is held against the size of the base model.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    T5Tokenizer,
)

from heed.agents import DQN, PPO, load
from heed.agents.agent import LanguageAgent
from heed.envs import make
from heed.policies import Adapter

ENVIRONMENT = "BabyAI-GoToRedBallNoDists-v0"
WORDS = {
    "instruction": ["go to the red ball", "pick up a grey key"],
    "observation": ["red ball 2 left 1 ahead; wall 3 ahead", "grey key 1 ahead; blue box 2 right"],
}
"""What the outputs are compared on."""
VOCABULARY = 10_240
"""Rows of the embeddings; the tokenizers use a few hundred, as real models' leave some unused."""
RANK = 2
TEXTS = (
    "Instruction: go to the red ball Observation: red ball 2 left 1 ahead; wall 3 ahead Action: turn left",
    "Instruction: pick up a grey key Observation: grey key 1 ahead; blue box 2 right Action: go forward",
    "Instruction: open the green door Observation: closed green door 3 ahead; purple ball 1 right Action: toggle",
    "Instruction: put the yellow box next to it Observation: you carry a yellow box Action: turn right, drop, pick up",
)
"""What the tokenizers are trained on."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of language models: its architecture and its tokenizer's rules."""

    architecture: str
    """As `transformers` calls it."""
    sizes: dict[str, Any]
    """Of the model, beside those that all have."""
    tokenizer: Callable[[], PreTrainedTokenizerBase]


_DECODER: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_T5: dict[str, Any] = {
    "d_model": 128,
    "d_kv": 32,
    "d_ff": 512,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}


# -- tokenizers, each with the rules of its family -------------------------------------------------------------


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


FAMILIES: dict[str, Family] = {
    "GPT-2": Family(
        architecture="gpt2",
        sizes={"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512},
        tokenizer=gpt2_tokenizer,
    ),
    "Llama 2": Family(architecture="llama", sizes=_DECODER, tokenizer=llama2_tokenizer),
    "Llama 3": Family(architecture="llama", sizes=_DECODER, tokenizer=llama3_tokenizer),
    "SmolLM": Family(architecture="llama", sizes={**_DECODER, "tie_word_embeddings": True}, tokenizer=gpt2_tokenizer),
    "SmolLM3": Family(architecture="smollm3", sizes={**_DECODER, "no_rope_layers": [1, 0]}, tokenizer=llama3_tokenizer),
    "Qwen2": Family(architecture="qwen2", sizes={**_DECODER, "tie_word_embeddings": True}, tokenizer=qwen_tokenizer),
    "Qwen3": Family(architecture="qwen3", sizes={**_DECODER, "head_dim": 32}, tokenizer=qwen_tokenizer),
    "Mistral": Family(architecture="mistral", sizes={**_DECODER, "sliding_window": 384}, tokenizer=mistral_tokenizer),
    "Gemma": Family(architecture="gemma", sizes={**_DECODER, "head_dim": 32}, tokenizer=gemma_tokenizer),
    "Gemma 2": Family(
        architecture="gemma2",
        sizes={**_DECODER, "head_dim": 32, "sliding_window": 384},
        tokenizer=gemma_tokenizer,
    ),
    "Gemma 3": Family(
        architecture="gemma3_text",
        sizes={
            **_DECODER,
            "head_dim": 32,
            "sliding_window": 384,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        tokenizer=gemma_tokenizer,
    ),
    "Phi": Family(architecture="phi", sizes=_DECODER, tokenizer=gpt2_tokenizer),
    "Phi-3": Family(architecture="phi3", sizes=_DECODER, tokenizer=llama2_tokenizer),
    "T5": Family(architecture="t5", sizes=_T5, tokenizer=t5_tokenizer),
    "Flan-T5": Family(
        architecture="t5",
        sizes={**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        tokenizer=t5_tokenizer,
    ),
}


def save_model(name: str, folder: Path) -> Path:
    """Make a family's model and tokenizer, and save them into `folder` as a user's own would be."""
    family = FAMILIES[name]
    tokenizer = family.tokenizer()
    ends = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = AutoConfig.for_model(family.architecture, vocab_size=VOCABULARY, **ends, **family.sizes)
    kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    torch.manual_seed(0)
    model = kind.from_config(config)
    if family.sizes.get("tie_word_embeddings") is False and config.is_encoder_decoder:
        # Flan-T5's output embedding is its own, whatever the configuration says of it in transformers 5.
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.05)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# -- agents -------------------------------------------------------------------------------------------------------

AGENTS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "ppo": (PPO, {"n_steps": 8, "batch_size": 16, "n_epochs": 1}, 32),
    "dqn": (DQN, {"learning_starts": 8, "buffer_size": 64, "batch_size": 8, "train_freq": 4, "gradient_steps": 1}, 24),
}
"""Class, arguments, and steps for two updates."""


def agent_of(kind: str, model: Path, adapter: Adapter | None) -> LanguageAgent:
    """Return a new agent that is to train a model in two environments."""
    agent_class, arguments, _ = AGENTS[kind]
    kwargs = {"model": str(model), "adapter": adapter, "max_prompt_tokens": 128}
    made: LanguageAgent = agent_class(
        env=make(ENVIRONMENT, n_envs=2, seed=0), policy_kwargs=kwargs, seed=0, device="cpu", **arguments
    )
    return made


def outputs(agent: LanguageAgent) -> np.ndarray[Any, Any]:
    """Return probabilities of a policy gradient's actions, Q-values of DQN, for `WORDS`."""
    agent.forget_readings()
    return np.asarray(agent.action_preferences(WORDS))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came out for a family."""

    family: str
    weights: int
    """Numbers in the model."""
    difference: float
    """The largest between outputs before saving and after loading, over both agents, with LoRA and without."""
    change: float
    """The least that two updates changed an output, over the same; that of an agent that learned nothing is 0."""
    share: dict[str, float]
    """Of LoRA's checkpoint in the size of the base, by agent."""


def measure(families: Sequence[str], folder: Path) -> Iterator[Row]:
    """Train and save agents of all families, load them in another process, and compare."""
    expected: dict[str, np.ndarray[Any, Any]] = {}
    changes: dict[str, list[float]] = {name: [] for name in families}
    sizes: dict[str, int] = {}
    shares: dict[str, dict[str, float]] = {name: {} for name in families}
    for place, name in enumerate(families):
        model = save_model(name, folder / str(place) / "model")
        sizes[name] = (model / "model.safetensors").stat().st_size
        for kind in AGENTS:
            for method in ("full", "lora"):
                adapter = Adapter(rank=RANK) if method == "lora" else None
                agent = agent_of(kind, model, adapter)
                before = outputs(agent)
                agent.learn(AGENTS[kind][2])
                home = folder / str(place) / f"{kind}-{method}"
                agent.save(home)
                key = f"{place}/{home.name}"
                expected[key] = outputs(agent)
                if adapter is not None:
                    saved = sum(
                        (home / file).stat().st_size for file in ("policy.safetensors", "optimizer.safetensors")
                    )
                    shares[name][kind] = saved / sizes[name]
                changes[name].append(float(np.abs(before - expected[key]).max()))
                assert agent.env is not None
                agent.env.close()
    again = [sys.executable, "-m", "examples.families", "--load", str(folder)]
    subprocess.run(again, check=True)
    found = load_file(folder / "outputs.safetensors")
    for place, name in enumerate(families):
        keys = [key for key in expected if key.startswith(f"{place}/")]
        yield Row(
            family=name,
            weights=sizes[name] // 4,
            difference=max(float(np.abs(expected[key] - found[key]).max()) for key in keys),
            change=min(changes[name]),
            share=shares[name],
        )


def load_and_write(folder: Path) -> None:
    """Load all agents below `folder`, and write their outputs there."""
    homes = sorted(path.parent for path in folder.glob("*/*/agent.json"))
    found = {str(home.relative_to(folder)): outputs(load(home, device="cpu")) for home in homes}
    save_file(found, folder / "outputs.safetensors")


def table(rows: Iterable[Row]) -> str:
    """Return rows as a table of Markdown."""
    lines = [
        "| family | weights | two updates changed outputs by at least | outputs after loading differ by | "
        "LoRA's checkpoint, PPO | DQN |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        shares = " | ".join(f"{100 * row.share[kind]:.1f} %" for kind in AGENTS)
        lines.append(
            f"| {row.family} | {row.weights / 1e6:.1f} M | {row.change:.0e} | {row.difference:.0e} | {shares} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", help="all unless given", metavar="family", default=[])
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load is not None:
        load_and_write(options.load)
        return
    unknown = sorted(set(options.families) - set(FAMILIES))
    if unknown:
        parser.error(f"there is no family {unknown[0]!r}: give some of {', '.join(FAMILIES)}")
    with tempfile.TemporaryDirectory() as folder:
        print(table(measure(options.families or list(FAMILIES), Path(folder))))


if __name__ == "__main__":
    main()
