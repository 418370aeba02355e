"""`heed memory`: against what trainings really take."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from heed.agents import DQN, PPO
from heed.envs.make import make
from heed.policies.models.language_model import LanguageModelError
from heed.policies.models.loading import load_language_model
from heed.scripts.memory import MemoryConfig, main, memory
from heed.scripts.train import train
from heed.training.agent_arguments import agent_arguments
from heed.training.errors import ConfigurationError
from heed.training.memory import estimate, telling
from heed.training.memory.estimate import PROCESS, estimate_memory
from heed.training.memory.optimizer_step import measure_step
from heed.training.memory.peak import LiveBytes
from heed.training.memory.telling import told
from heed.training.options import TrainConfig

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
SALAD = "tests.word_salad:WordSalad-v0"
SIZES: dict[str, Any] = {"vocab_size": 2000}
T5: dict[str, Any] = {"decoder_start_token_id": 0}
MODELS: dict[str, Any] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=192, n_layer=3, n_head=6, **SIZES)),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(hidden_size=192, intermediate_size=512, num_hidden_layers=2, num_attention_heads=6, **SIZES)
    ),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(d_model=128, d_ff=256, d_kv=32, num_layers=2, num_heads=4, **T5, **SIZES)
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, build in MODELS.items():
        torch.manual_seed(0)
        build().save_pretrained(folder / name)
        load_language_model("heed-tiny").tokenizer.save_pretrained(folder / name)
    load_language_model("heed-words").share(folder / "words")
    return {name: folder / name for name in (*MODELS, "words")}


NO_TENSORS = (PROCESS, "rollout", "replay buffer", "sentence encoder", "words")
"""Parts that are arrays of NumPy."""


def measured(config: MemoryConfig) -> int:
    """Return the bytes of tensors that a rollout and two updates of such a training have alive at their peak."""
    config = config.resolved()  # type: ignore[assignment]
    assert config.n_envs is not None
    kind: Any = {"ppo": PPO, "dqn": DQN}[config.agent]
    arguments = agent_arguments(config)
    name = arguments["policy_kwargs"].pop("model")
    language_model = load_language_model(name, dtype=getattr(torch, config.weights))
    loaded = sum(weight.numel() * weight.dtype.itemsize for weight in language_model.model.parameters())
    arguments["policy_kwargs"]["model"] = language_model.give_away()  # as one that is loaded by its name
    arguments |= {"learning_starts": 400} if config.agent == "dqn" else {}
    with LiveBytes() as live:
        agent = kind(env=make(config.env, n_envs=config.n_envs, seed=0), seed=0, **arguments)
        agent.learn(config.steps)
    agent.env.close()
    return loaded + int(live.peak)


def options(agent: str, model: Path | str, **more: Any) -> MemoryConfig:
    sizes = {"ppo": {"rollout_steps": 8, "epochs": 2, "batch_size": 32}, "dqn": {"batch_size": 32, "hindsight": 0}}
    given = {"n_envs": 4, "steps": 32 if agent == "ppo" else 404, **sizes[agent], **more}
    return MemoryConfig(env=SALAD, model=str(model), agent=agent, device="cpu", **given)


@pytest.mark.parametrize(
    ("agent", "model", "more"),
    [
        pytest.param("ppo", "gpt2", {"reference_coef": 0.1}, marks=pytest.mark.exhaustive),
        ("ppo", "gpt2", {"activation_checkpointing": True, "micro_batch_tokens": 400}),
        ("ppo", "llama", {"adapter": "lora", "weights": "bfloat16", "reference_coef": 0.1}),
        pytest.param("ppo", "t5", {"head": "linear"}, marks=pytest.mark.exhaustive),
        pytest.param("ppo", "llama", {"train_layers": 1}, marks=pytest.mark.exhaustive),
        ("dqn", "llama", {}),
        ("ppo", "words", {"batch_size": 128, "rollout_steps": 32}),
        ("ppo", "words", {"adapter": "lora", "batch_size": 128, "rollout_steps": 32, "reference_coef": 0.1}),
        ("ppo", "words", {"micro_batch_tokens": 1000, "batch_size": 128, "rollout_steps": 32, "head": "linear"}),
        pytest.param("ppo", "words", {"train_layers": 1}, marks=pytest.mark.exhaustive),
        pytest.param("dqn", "words", {"batch_size": 128}, marks=pytest.mark.exhaustive),
    ],
)
def test_the_estimate_is_near_what_a_training_takes(
    agent: str, model: str, more: dict[str, Any], models: dict[str, Path]
) -> None:
    config = options(agent, models[model], **more)
    estimate = estimate_memory(config)
    tensors = sum(part.size for part in estimate.parts if part.name not in NO_TENSORS)
    taken = measured(config)
    assert 0.85 < tensors / taken < 1.15, (tensors / taken, estimate.parts)
    largest = max(part.size for part in estimate.parts if part.name not in NO_TENSORS)
    assert not 0.85 < (tensors - largest) / taken < 1.15, "one that leaves a part out would be noticed"


def test_no_weights_are_read(models: dict[str, Path], tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((models["gpt2"] / name).read_bytes())
    without, there = (
        estimate_memory(options("ppo", folder), prompt_tokens=30) for folder in (tmp_path, models["gpt2"])
    )
    same = [part for part in without.parts if part.name != PROCESS]
    assert same == [part for part in there.parts if part.name != PROCESS]
    assert without.prompt_tokens == 30
    assert without.minibatch[0] == 32, "no two prompts are alike"
    weights = next(part.size for part in same if part.name == "language model")
    assert weights == 4 * sum(weight.numel() for weight in MODELS["gpt2"]().parameters())


def test_what_takes_less_takes_less(models: dict[str, Path]) -> None:
    @functools.cache
    def estimated(**more: Any) -> Any:
        return estimate_memory(options("ppo", models["gpt2"], **more), prompt_tokens=100)

    def part(name: str, **more: Any) -> int:
        return sum(part.size for part in estimated(**more).parts if part.name == name)

    plain = part("activations")
    assert part("activations", activation_checkpointing=True) < 0.6 * plain
    assert part("activations", micro_batch_tokens=100 * 8) < 0.4 * plain
    assert part("optimizer", adapter="lora") < 0.4 * part("optimizer")
    assert part("optimizer", set=("optimizer_class=SGD",)) == 0
    momentum = part("optimizer", set=("optimizer_class=SGD", "optimizer_kwargs={momentum: 0.9}"))
    assert momentum == part("gradient")
    assert part("language model", adapter="lora", weights="bfloat16") < 0.7 * part("language model", adapter="lora")
    assert part("reference policy") == 0
    assert part("reference policy", adapter="lora", reference_coef=0.1) == part("gradient", adapter="lora")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.Adam, {}),
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.RMSprop, {"centered": True}),
        (torch.optim.Adafactor, {}),
        (torch.optim.ASGD, {}),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_optimizers_state_is_what_a_real_step_leaves(kind: Any, settings: dict[str, Any], device: str) -> None:
    weights = [torch.nn.Parameter(torch.ones(100, 50)), torch.nn.Parameter(torch.ones(70))]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    real = kind(weights, lr=1e-3, **settings)
    real.step()
    kept = [one for entries in real.state.values() for one in entries.values() if isinstance(one, torch.Tensor)]
    step = measure_step(weights, kind, settings, device=torch.device(device))
    assert step.state == sum(one.untyped_storage().nbytes() for one in kept)
    if kind is torch.optim.Adam and device == "cpu":  # one weight after the other: a root, and the root's quotient
        assert step.temporary == pytest.approx(2 * 100 * 50 * 4, rel=0.01)


def test_an_optimizer_that_needs_numbers_is_told(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a kernel of its own")

    monkeypatch.setattr(estimate, "measure_step", fails)
    parts = estimate_memory(options("ppo", models["gpt2"]), prompt_tokens=100).parts
    (optimizer,) = [part for part in parts if part.name == "optimizer"]
    assert "Adam cannot be measured (RuntimeError)" in optimizer.note
    assert optimizer.size == 2 * sum(part.size for part in parts if part.name == "gradient")


def test_the_command_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--env", LEVEL, "--n-envs", "4", "--batch-size", "32", "--prompt-tokens", "40", "--device", "cpu"])
    told_ = " ".join(capsys.readouterr().out.split())
    for words in ("language model", "optimizer", "together", "it fits", "with --activation-checkpointing:"):
        assert words in told_


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has a table and no language model"):
        memory(MemoryConfig(agent="q-learning", env="FrozenLake-v1"))
    with pytest.raises(ConfigurationError, match="--prompt-tokens is 0"):
        MemoryConfig(prompt_tokens=0)
    with pytest.raises(LanguageModelError, match="no model folder"):
        memory(MemoryConfig(model="./nowhere"))


def test_a_training_says_what_it_needs_and_what_it_took(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "free_memory", lambda device: 2**20)
    run = tmp_path / "run"
    sizes: dict[str, Any] = {"n_envs": 4, "rollout_steps": 8, "batch_size": 16, "eval_episodes": 0, "sample_every": 0}
    sizes |= {"run_dir": run, "device": "cpu", "micro_batch_tokens": 100}
    train(TrainConfig(env=LEVEL, steps=32, model=str(models["gpt2"]), **sizes))
    told_ = " ".join(capsys.readouterr().out.split())
    assert "Memory: about" in told_
    assert "Warning: that is more than the 1 MiB which are free on cpu" in told_
    assert "Memory used at the peak:" in told_
    written = json.loads((run / "memory.json").read_text(encoding="utf-8"))
    assert written["used"]["process_peak"] > 2**27
    assert written["estimate"]["total"] == sum(part["size"] for part in written["estimate"]["parts"])
    assert written["estimate"]["tokens_at_once"] <= 100


def test_sizes_in_words() -> None:
    assert told(3 * 2**30 + 2**28) == "3.2 GiB"
    assert told(15 * 2**20) == "15 MiB"
