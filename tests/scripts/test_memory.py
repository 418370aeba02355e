"""`heed memory`: against what trainings really take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from heed.agents import DQN, PPO
from heed.envs.make import make
from heed.policies.language_model import LanguageModelError, load_language_model
from heed.scripts.agent_arguments import agent_arguments
from heed.scripts.benchmark.memory import LiveBytes
from heed.scripts.errors import ConfigurationError
from heed.scripts.memory.command import MemoryConfig, main, memory, sentence, told
from heed.scripts.memory.estimate import PROCESS, estimate_memory

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
SIZES: dict[str, Any] = {"vocab_size": 2000}
MODELS: dict[str, Any] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=192, n_layer=4, n_head=6, **SIZES)),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6, **SIZES)
    ),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(d_model=128, d_ff=256, d_kv=32, num_layers=2, num_heads=4, decoder_start_token_id=0, **SIZES)
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, build in MODELS.items():
        torch.manual_seed(0)
        build().save_pretrained(folder / name)
        load_language_model().tokenizer.save_pretrained(folder / name)
    return {name: folder / name for name in MODELS}


def measured(config: MemoryConfig) -> int:
    """Return the bytes of tensors that the first rollout and update of such a training have alive at their peak."""
    config = config.resolved()  # type: ignore[assignment]
    kind: Any = {"ppo": PPO, "dqn": DQN}[config.agent]
    arguments = agent_arguments(config)
    name = arguments["policy_kwargs"].pop("model")
    language_model = load_language_model(name, dtype=getattr(torch, config.weights))
    loaded = sum(weight.numel() * weight.dtype.itemsize for weight in language_model.model.parameters())
    arguments["policy_kwargs"]["model"] = language_model
    with LiveBytes() as live:
        agent = kind(env=make(config.env, n_envs=config.n_envs, seed=0), seed=0, **arguments)
        agent.learn(config.steps)
    agent.env.close()
    return loaded + live.peak


def options(agent: str, model: Path | str, **more: Any) -> MemoryConfig:
    sizes = {"ppo": {"rollout_steps": 16, "epochs": 1, "batch_size": 64}, "dqn": {"batch_size": 64, "hindsight": 0}}
    given = {"n_envs": 8, "steps": 128 if agent == "ppo" else 1032, **sizes[agent], **more}
    return MemoryConfig(env=LEVEL, model=str(model), agent=agent, device="cpu", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("agent", "model", "more"),
    [
        ("ppo", "llama", {}),
        ("ppo", "gpt2", {"reference_coef": 0.1}),
        ("ppo", "gpt2", {"activation_checkpointing": True, "micro_batch_tokens": 400}),
        ("ppo", "llama", {"adapter": "lora", "reference_coef": 0.1}),
        ("ppo", "llama", {"adapter": "lora", "weights": "bfloat16", "activation_checkpointing": True}),
        ("ppo", "t5", {"head": "linear"}),
        ("dqn", "llama", {"train_layers": 2}),
        ("dqn", "gpt2", {}),
    ],
)
def test_the_estimate_is_near_what_a_training_takes(
    agent: str, model: str, more: dict[str, Any], models: dict[str, Path]
) -> None:
    config = options(agent, models[model], **more)
    estimate = estimate_memory(config)
    tensors = sum(part.size for part in estimate.parts if part.name not in (PROCESS, "rollout", "replay buffer"))
    ratio = tensors / measured(config)
    print(agent, model, more, f"{tensors / 2**20:.1f} MiB, ratio {ratio:.3f}")
    assert 0.85 < ratio < 1.15, ratio
