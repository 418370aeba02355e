"""Trainings whose floating-point operations are counted: heed-tiny, and models of Qwen2.5's architectures.

These are made of random weights where they are to run, in bfloat16, and PPO trains a LoRA adapter of each, held near
the policy that it began with. heed-tiny trains as it does by default, with all of its weights.

What a token costs: a forward pass takes two operations for each weight (but the embedding's, which is looked up), and
so does the gradient of what goes through a weight; the gradient of a weight that trains takes as many once more, that
of an adapter is not counted. What activation checkpointing computes a second time is work, but none that is wanted: it
is not counted either, as in the "model FLOPs utilization" of PaLM (Chowdhery et al. 2022, arXiv 2204.02311,
appendix B).
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from heed.agents import PPO
from heed.envs import make
from heed.policies import Adapter, load_language_model
from heed.policies.models.language_model import LanguageModel
from heed.scripts.memory import MemoryConfig
from heed.training.memory.estimate import estimate_memory
from heed.training.tracking.system import MIB, peak_memory

MODELS: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "kv": 2},
    "0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "kv": 2,
    },
    "1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "kv": 2,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "kv": 4,
    },
}
"""Sizes of Qwen2.5, and one to try this out."""

TINY = "heed-tiny"
LEVEL = "BabyAI-GoToLocal-v0"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of a measured training."""

    device: str = "cpu"
    n_envs: int = 32
    rollout_steps: int = 32
    batch_size: int = 256
    micro_batch_tokens: int = 8192
    activation_checkpointing: bool = False
    rollouts: int = 3
    """Trained on after a first one, which is not counted."""
    patience: float = math.inf
    """Seconds after which no further rollout is begun."""


def configuration(name: str) -> Qwen2Config:
    """Return the architecture of that name."""
    sizes = dict(MODELS[name])
    vocabulary = 512 if name == "tiny" else 152_064 if name == "7b" else 151_936
    return Qwen2Config(
        vocab_size=vocabulary,
        num_key_value_heads=sizes.pop("kv"),
        tie_word_embeddings=name not in ("tiny", "7b"),
        bos_token_id=None,
        eos_token_id=1,
        **sizes,  # type: ignore[arg-type]  # they are sizes, all of them
    )


def new_language_model(name: str, device: str) -> LanguageModel:
    """Return a language model of random weights, made in bfloat16 on `device`, with heed-tiny's tokenizer."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM._from_config(configuration(name), attn_implementation="sdpa", dtype=torch.bfloat16)
    model.train(False)
    return LanguageModel(model, load_language_model("heed-tiny").tokenizer, f"qwen2.5-{name}")


def measure(name: str, options: Options) -> dict[str, Any]:
    """Train, and return what it took: sizes in MiB, rates a second.

    Args:
        name: heed-tiny, or one of `MODELS`.
        options: of the training.
    """
    device = torch.device(options.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    agent = _new_agent(name, options, device)
    model = agent.language_policy.language_model.model
    per_forward = 2 * layer_weights(model, adapted=name != TINY)
    steps = options.n_envs * options.rollout_steps
    agent.learn(steps)
    networks: list[Any] = [agent.language_policy.reader]
    networks += [agent.reference.network] if agent.reference is not None else []
    before = sum(network.tokens_read for network in networks)
    learned = _Learned(agent)
    rollouts, seconds = 0, 0.0
    began = _now(device)
    while rollouts < options.rollouts and seconds < options.patience:
        agent.learn(steps, reset_num_timesteps=False)
        rollouts, seconds = rollouts + 1, _now(device) - began
    assert agent.env is not None
    agent.env.close()
    tokens = sum(network.tokens_read for network in networks) - before
    backward = 2 if name == TINY else 1  # its weights have gradients too
    operations = per_forward * (tokens + backward * learned.tokens)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    return {
        "model": name,
        "weights": sum(weight.numel() for weight in own_weights(model, adapted=name != TINY)),
        "steps": rollouts * steps,
        "seconds": seconds,
        "steps_per_second": rollouts * steps / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_mib": peak / MIB,
        "estimated_mib": estimated(name, options) / MIB,
        "tflops": operations / seconds / 1e12,
    }


def own_weights(model: Any, *, adapted: bool) -> list[Tensor]:
    """Return a model's weights without those of an adapter: under one its own do not train."""
    return [weight for weight in model.parameters() if not (adapted and weight.requires_grad)]


def layer_weights(model: Any, *, adapted: bool = False) -> int:
    """Return how many weights are multiplied with every token, without those of an adapter, which are few.

    Neither embedding is among them: one is looked up, the other is applied at a few places of a prompt only.
    """
    embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
    left_out = {id(module.weight) for module in embeddings if module is not None}
    return sum(weight.numel() for weight in own_weights(model, adapted=adapted) if id(weight) not in left_out)


def _new_agent(name: str, options: Options, device: torch.device) -> PPO:
    policy_kwargs: dict[str, Any] = {"model": TINY}
    arguments: dict[str, Any] = {}
    if name != TINY:
        arguments = {"learning_rate": 1e-4, "reference_coef": 0.1}
        policy_kwargs = {
            "model": new_language_model(name, options.device),
            "adapter": Adapter(method="lora", rank=8),
            "weights": "bfloat16",
            "activation_checkpointing": options.activation_checkpointing,
        }
    return PPO(
        env=make(LEVEL, n_envs=options.n_envs, seed=0),
        n_steps=options.rollout_steps,
        batch_size=options.batch_size,
        micro_batch_tokens=options.micro_batch_tokens,
        n_epochs=1,
        seed=0,
        device=device,
        policy_kwargs=policy_kwargs,
        **arguments,
    )


class _Learned:
    """Counts the tokens that the policy's network reads with a gradient."""

    def __init__(self, agent: PPO):
        self.tokens = 0
        network: Any = agent.language_policy.reader
        read = network._read

        def counting(batch: Any) -> Any:
            if torch.is_grad_enabled():
                self.tokens += int(batch.lengths.sum())
            return read(batch)

        network._read = counting


def estimated(name: str, options: Options) -> int:
    """Return the bytes on the device that `heed memory` reckons with."""
    common: dict[str, Any] = {
        "env": LEVEL,
        "device": options.device,
        "n_envs": options.n_envs,
        "rollout_steps": options.rollout_steps,
        "batch_size": options.batch_size,
        "micro_batch_tokens": options.micro_batch_tokens,
    }
    if name == TINY:
        return estimate_memory(MemoryConfig(**common)).total("device")
    with tempfile.TemporaryDirectory() as folder:
        configuration(name).save_pretrained(folder)
        load_language_model("heed-tiny").tokenizer.save_pretrained(folder)
        path = Path(folder) / "config.json"
        described = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**described, "architectures": ["Qwen2ForCausalLM"]}), encoding="utf-8")
        config = MemoryConfig(
            model=folder,
            adapter="lora",
            weights="bfloat16",
            reference_coef=0.1,
            activation_checkpointing=options.activation_checkpointing,
            **common,
        )
        return estimate_memory(config).total("device")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
