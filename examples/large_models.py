"""How fast a large model trains with LoRA in bfloat16: `python -m examples.large_models 0.5b 7b --device cuda`.

Models of Qwen2.5's architectures are made of random weights where they are to run, in bfloat16, and PPO trains a LoRA
adapter of each, held near the policy that it began with. For each there are steps a second, tokens a second, the memory
at the peak beside the estimate of `heed memory`, and the share of the device's peak in floating-point operations.

What a token costs: a forward pass takes two operations for each weight (but the embedding's, which is looked up), and
so does the gradient of what goes through a frozen weight; the gradient of the adapter is not counted. What activation
checkpointing computes a second time is work, but none that is wanted: it is not counted either, as in the "model FLOPs
utilization" of PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from heed.agents import PPO
from heed.envs import make
from heed.policies import Adapter, load_language_model
from heed.policies.language_model import LanguageModel
from heed.scripts.memory.command import MemoryConfig
from heed.scripts.memory.estimate import estimate_memory
from heed.scripts.tracking.system import MIB, peak_memory

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

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.0}
"""Dense products of bfloat16 in 10**12 operations a second, by a part of the device's name, from its data sheets."""

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


def measure(name: str, options: Options, peak_tflops: float | None = None) -> dict[str, Any]:
    """Train, and return what it took: sizes in MiB, rates a second."""
    device = torch.device(options.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    language_model = new_language_model(name, options.device)
    weights = sum(weight.numel() for weight in language_model.model.parameters())
    looked_up = language_model.vocabulary * language_model.model.config.hidden_size
    tied = language_model.model.config.tie_word_embeddings
    agent = PPO(
        env=make(LEVEL, n_envs=options.n_envs, seed=0),
        n_steps=options.rollout_steps,
        batch_size=options.batch_size,
        micro_batch_tokens=options.micro_batch_tokens,
        n_epochs=1,
        learning_rate=1e-4,
        reference_coef=0.1,
        seed=0,
        device=device,
        policy_kwargs={
            "model": language_model,
            "adapter": Adapter(method="lora", rank=8),
            "weights": "bfloat16",
            "activation_checkpointing": options.activation_checkpointing,
        },
    )
    del language_model
    steps = options.n_envs * options.rollout_steps
    agent.learn(steps)
    networks: list[Any] = [agent.language_policy.network, agent.reference.network if agent.reference else None]
    policy, reference = networks
    before = policy.tokens_read, reference.tokens_read
    learned = _Learned(agent)
    began = _now(device)
    agent.learn(options.rollouts * steps, reset_num_timesteps=False)
    seconds = _now(device) - began
    assert agent.env is not None
    agent.env.close()
    tokens = policy.tokens_read - before[0] + reference.tokens_read - before[1]
    # The output embedding is applied at a few places of a prompt only, a tied one likewise: layers are what counts.
    per_forward = 2 * (weights - looked_up * (1 if tied else 2))
    operations = per_forward * (tokens + learned.tokens)  # forward for all, backward through what was learned from
    if peak_tflops is None and device.type == "cuda":
        known = torch.cuda.get_device_name(device)
        peak_tflops = next((tflops for part, tflops in PEAK_TFLOPS.items() if part in known), None)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    return {
        "model": name,
        "weights": weights,
        "steps_per_second": options.rollouts * steps / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_mib": peak / MIB,
        "estimated_mib": estimated(name, options) / MIB,
        "tflops": operations / seconds / 1e12,
        "share_of_peak": None if peak_tflops is None else operations / seconds / 1e12 / peak_tflops,
    }


class _Learned:
    """Counts the tokens that the policy's network reads with a gradient."""

    def __init__(self, agent: PPO):
        self.tokens = 0
        network: Any = agent.language_policy.network
        read = network._read

        def counting(batch: Any) -> Any:
            if torch.is_grad_enabled():
                self.tokens += int(batch.lengths.sum())
            return read(batch)

        network._read = counting


def estimated(name: str, options: Options) -> int:
    """Return the bytes on the device that `heed memory` reckons with."""
    with tempfile.TemporaryDirectory() as folder:
        configuration(name).save_pretrained(folder)
        load_language_model("heed-tiny").tokenizer.save_pretrained(folder)
        path = Path(folder) / "config.json"
        described = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**described, "architectures": ["Qwen2ForCausalLM"]}), encoding="utf-8")
        config = MemoryConfig(
            env=LEVEL,
            model=folder,
            device=options.device,
            adapter="lora",
            weights="bfloat16",
            reference_coef=0.1,
            n_envs=options.n_envs,
            rollout_steps=options.rollout_steps,
            batch_size=options.batch_size,
            micro_batch_tokens=options.micro_batch_tokens,
            activation_checkpointing=options.activation_checkpointing,
        )
        return estimate_memory(config).total("device")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main(arguments: list[str] | None = None) -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=sorted(MODELS))
    defaults = Options()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name in ("n_envs", "rollout_steps", "batch_size", "micro_batch_tokens", "rollouts"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument("--peak-tflops", type=float, help="of the device, where it is none of those that are known")
    given = vars(parser.parse_args(arguments))
    models, peak_tflops = given.pop("models"), given.pop("peak_tflops")
    for name in models:
        found = measure(name, Options(**given), peak_tflops)
        share = "" if found["share_of_peak"] is None else f" ({found['share_of_peak']:.1%} of the peak)"
        print(
            f"{name}: {found['weights'] / 1e9:.2f} B weights, {found['steps_per_second']:.1f} steps/s, "
            f"{found['tokens_per_second']:.0f} tokens/s, {found['peak_mib']:.0f} MiB at the peak "
            f"({found['estimated_mib']:.0f} estimated), {found['tflops']:.2f} TFLOP/s{share}"
        )


if __name__ == "__main__":
    main()
