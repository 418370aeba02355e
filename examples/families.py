"""Every family of language models through both kinds of agents: `python -m examples.families`, which prints a table.

For each family a small model of the real architecture is made, with a tokenizer that is trained here under the family's
rules, and saved as a user's own would be. PPO and DQN update it twice, with all of its weights and with LoRA; the
agents are saved, and loaded by another process, which must find the same outputs. Of LoRA's checkpoints the size of all
weights, the optimizer's numbers included, is held against the size of the base model.
"""

from __future__ import annotations

import argparse
import os
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
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerBase,
)

from examples import family_tokenizers as tokenizers
from heed.agents import DQN, PPO, load
from heed.agents.agent import LanguageAgent
from heed.envs import make
from heed.policies import Adapter
from heed.policies.backbones.encoder import is_encoder
from heed.policies.models.encoders import Pooling, write_pooling

ENVIRONMENT = "BabyAI-GoToRedBallNoDists-v0"
WORDS = {
    "instruction": ["go to the red ball", "pick up a grey key"],
    "observation": ["red ball 2 left 1 ahead; wall 3 ahead", "grey key 1 ahead; blue box 2 right"],
}
"""What the outputs are compared on."""
VOCABULARY = 10_240
"""Rows of the embeddings; the tokenizers use a few hundred, as real models' leave some unused."""
RANK = 2


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of language models: its architecture and its tokenizer's rules."""

    architecture: str
    """As `transformers` calls it."""
    sizes: dict[str, Any]
    """Of the model, beside those that all have."""
    tokenizer: Callable[[], PreTrainedTokenizerBase]
    pooling: Pooling | None = None
    """What sentence-transformers writes beside the model, if it does."""


_DECODER: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_ENCODER: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
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


FAMILIES: dict[str, Family] = {
    "GPT-2": Family(
        architecture="gpt2",
        sizes={"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512},
        tokenizer=tokenizers.gpt2_tokenizer,
    ),
    "Llama 2": Family(architecture="llama", sizes=_DECODER, tokenizer=tokenizers.llama2_tokenizer),
    "Llama 3": Family(architecture="llama", sizes=_DECODER, tokenizer=tokenizers.llama3_tokenizer),
    "SmolLM": Family(
        architecture="llama", sizes={**_DECODER, "tie_word_embeddings": True}, tokenizer=tokenizers.gpt2_tokenizer
    ),
    "SmolLM3": Family(
        architecture="smollm3", sizes={**_DECODER, "no_rope_layers": [1, 0]}, tokenizer=tokenizers.llama3_tokenizer
    ),
    "Qwen2": Family(
        architecture="qwen2", sizes={**_DECODER, "tie_word_embeddings": True}, tokenizer=tokenizers.qwen_tokenizer
    ),
    "Qwen3": Family(architecture="qwen3", sizes={**_DECODER, "head_dim": 32}, tokenizer=tokenizers.qwen_tokenizer),
    "Mistral": Family(
        architecture="mistral", sizes={**_DECODER, "sliding_window": 384}, tokenizer=tokenizers.mistral_tokenizer
    ),
    "Gemma": Family(architecture="gemma", sizes={**_DECODER, "head_dim": 32}, tokenizer=tokenizers.gemma_tokenizer),
    "Gemma 2": Family(
        architecture="gemma2",
        sizes={**_DECODER, "head_dim": 32, "sliding_window": 384},
        tokenizer=tokenizers.gemma_tokenizer,
    ),
    "Gemma 3": Family(
        architecture="gemma3_text",
        sizes={
            **_DECODER,
            "head_dim": 32,
            "sliding_window": 384,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        tokenizer=tokenizers.gemma_tokenizer,
    ),
    "Phi": Family(architecture="phi", sizes=_DECODER, tokenizer=tokenizers.gpt2_tokenizer),
    "Phi-3": Family(architecture="phi3", sizes=_DECODER, tokenizer=tokenizers.llama2_tokenizer),
    "T5": Family(architecture="t5", sizes=_T5, tokenizer=tokenizers.t5_tokenizer),
    "Flan-T5": Family(
        architecture="t5",
        sizes={**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        tokenizer=tokenizers.t5_tokenizer,
    ),
    "BERT": Family(architecture="bert", sizes=_ENCODER, tokenizer=tokenizers.bert_tokenizer),
    "MiniLM": Family(architecture="bert", sizes=_ENCODER, tokenizer=tokenizers.bert_tokenizer, pooling="mean"),
    # It counts places from behind its padding's id.
    "RoBERTa": Family(
        architecture="roberta",
        sizes={**_ENCODER, "max_position_embeddings": 514},
        tokenizer=tokenizers.roberta_tokenizer,
    ),
    "ModernBERT": Family(
        architecture="modernbert",
        sizes={**_ENCODER, "local_attention": 64, "global_attn_every_n_layers": 2},
        tokenizer=tokenizers.modernbert_tokenizer,
    ),
}


def save_model(name: str, folder: Path) -> Path:
    """Make a family's model and tokenizer, and save them into `folder` as a user's own would be."""
    family = FAMILIES[name]
    tokenizer = family.tokenizer()
    marks = ["bos_token_id", "eos_token_id", "pad_token_id"]
    marks += ["cls_token_id", "sep_token_id"] if family.architecture == "modernbert" else []
    ends = {key: getattr(tokenizer, key) for key in marks}
    config = AutoConfig.for_model(family.architecture, vocab_size=VOCABULARY, **ends, **family.sizes)
    kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if is_encoder(config):
        kind = AutoModelForMaskedLM
    torch.manual_seed(0)
    model = kind.from_config(config)
    if family.sizes.get("tie_word_embeddings") is False and config.is_encoder_decoder:
        # Flan-T5's output embedding is its own, whatever the configuration says of it in transformers 5.
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.05)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if family.pooling is not None:
        write_pooling(folder, family.pooling, config.hidden_size)
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
    agent.clear_cache()
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
    # Another number of threads adds up in another order.
    subprocess.run(again, check=True, env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())})
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
