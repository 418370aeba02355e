"""bfloat16 where it is asked for or pays; on a CPU, where a trial says that it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from heed.agents import PPO, load
from heed.envs import make
from heed.envs.contract import TextActions
from heed.policies.backbones import precision as precision_module
from heed.policies.backbones.precision import (
    Precision,
    computes_in_bfloat16,
    decided,
    is_wide,
    speedup_of_bfloat16,
)
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from heed.scripts.train import told_precision
from heed.training.options import TrainConfig

PROMPTS = torch.tensor([[5, 6, 7], [8, 9, -1]])


CPU = torch.device("cpu")


def wide_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=640, hidden_size=512, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    torch.manual_seed(0)
    model: LlamaForCausalLM = LlamaForCausalLM(config)
    model.train(False)
    return model


@pytest.mark.parametrize(("speedup", "chosen"), [(2.0, "bfloat16"), (1.2, "bfloat16"), (1.1, "float32")])
def test_a_trial_decides_for_wide_models_on_a_cpu(
    speedup: float, chosen: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_module, "_speedup", lambda products: speedup)
    model = wide_model()
    assert decided(model, "auto", CPU) == chosen
    assert decided(model, "float32", CPU) == "float32"
    assert decided(model, "auto", torch.device("cuda")) == "auto"
    assert decided(load_language_model("heed-tiny").model, "auto", CPU) == "auto"


def test_the_trial_times_the_models_own_products_and_draws_nothing() -> None:
    state = torch.get_rng_state()
    precision_module._speedup.cache_clear()
    measured = speedup_of_bfloat16(wide_model())
    assert 0.01 < measured < 100
    assert speedup_of_bfloat16(wide_model()) == measured, "tried out once in a process"
    assert precision_module._speedup.cache_info().hits == 1
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("began", ["bfloat16", "float32"])
def test_a_training_goes_on_in_the_precision_that_it_began_with(
    began: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"bfloat16": 1.0, "float32": 2.0}
    monkeypatch.setattr(precision_module, "_speedup", lambda products: {"bfloat16": 2.0, "float32": 1.0}[began])
    tokenizer = load_language_model("heed-tiny").tokenizer
    model = LanguageModel(wide_model(), tokenizer, "wide")
    agent = PPO(
        env=make("FrozenLake-v1", n_envs=2), n_steps=4, batch_size=4, device="cpu", policy_kwargs={"model": model}
    )
    assert agent.language_policy.options.precision == began
    told = {"bfloat16": ", bfloat16: bfloat16 is 2.0 times", "float32": ", float32: bfloat16 is 1.0 times"}[began]
    assert told_precision(TrainConfig(), agent) == f"{told} as fast here"
    assert not told_precision(TrainConfig(precision="bfloat16"), agent), "nobody had to try it out"
    agent.save(tmp_path / "agent")
    monkeypatch.setattr(precision_module, "_speedup", lambda products: other[began])  # on another machine, say
    loaded = load(tmp_path / "agent", device="cpu")
    assert isinstance(loaded, PPO)
    assert loaded.language_policy.options.precision == began
    words = {"instruction": ["go"], "observation": ["a frozen lake"]}
    assert loaded.action_probabilities(words).tolist() == agent.action_probabilities(words).tolist()


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    cpu = torch.device("cpu")
    assert not computes_in_bfloat16(cpu, "auto", wide=True)
    assert not computes_in_bfloat16(cpu, "float32", wide=True)
    assert computes_in_bfloat16(cpu, "bfloat16", wide=False)


@pytest.mark.parametrize(
    ("wide", "supported", "chosen"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_gpu_computes_wide_models_in_bfloat16_where_it_can(
    wide: bool, supported: bool, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    assert computes_in_bfloat16(torch.device("cuda"), "auto", wide=wide) == chosen


@pytest.mark.parametrize(
    ("width", "dtype", "wide"),
    [(512, torch.float32, True), (64, torch.float32, False), (512, torch.bfloat16, False)],
)
def test_only_float32_models_with_large_products_are_wide(width: int, dtype: torch.dtype, wide: bool) -> None:
    config = LlamaConfig(vocab_size=8, hidden_size=width, intermediate_size=8, num_hidden_layers=1)
    assert is_wide(LlamaForCausalLM(config).to(dtype)) == wide  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["score", "linear"])
def test_what_comes_out_is_float32_and_near_the_exact(head: Any) -> None:
    exact, fast = (
        LanguageNetwork(
            load_language_model("heed-tiny"), TextActions(("a", "b")), ModelOptions(head=head, precision=precision)
        )
        for precision in ("float32", "bfloat16")
    )
    for ours, theirs in zip(fast(PROMPTS), exact(PROMPTS), strict=True):
        if ours is not None and theirs is not None:
            assert ours.dtype == torch.float32
            assert not torch.equal(ours, theirs)
            torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.1)
    features, _ = fast(PROMPTS)
    features.sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in fast.parameters())
