"""Agents that train an adapter: the base is one, and stands in no checkpoint."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import Qwen2Config, Qwen2ForCausalLM

from heed.agents import DQN, PPO, CheckpointError, export, load
from heed.agents.persistence.saved_policy import weights_to_save
from heed.envs.make import make
from heed.policies.adapters.adapters import Adapter
from heed.policies.adapters.virtual_tokens import reader_of
from heed.policies.backbones.hidden_states import read_hidden_states
from heed.policies.heads.scoring import last_hidden_state, token_logits
from heed.policies.models.language_model import LanguageModelError
from heed.policies.models.loading import load_language_model
from tests.sampling import each_once, sampled

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
OPTIONS: dict[type[PPO | DQN], dict[str, Any]] = {
    PPO: {"n_steps": 8, "batch_size": 16, "n_epochs": 2, "reference_coef": 0.1},
    DQN: {"learning_starts": 16, "buffer_size": 200, "batch_size": 16, "target_update_interval": 16, "tau": 0.5},
}
AGENTS = [PPO, DQN]
WORDS = {"instruction": ["go to the red ball"] * 2, "observation": ["red ball 1 ahead", "wall 1 ahead"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a Qwen2 with some 2 million weights."""
    folder = tmp_path_factory.mktemp("models") / "qwen2"
    tokenizer = load_language_model("heed-tiny").tokenizer
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
    }
    Qwen2ForCausalLM(Qwen2Config(vocab_size=480, num_hidden_layers=2, **size)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trained(kind: type[PPO | DQN], model: Path | str, steps: int | None = None, **adapter: Any) -> PPO | DQN:
    """Return an agent after two updates or more."""
    steps = steps or (64 if kind is PPO else 32)
    kwargs = {"model": str(model), "adapter": Adapter(rank=2, **adapter)}
    agent = kind(env=make(LEVEL, n_envs=4, seed=0), seed=0, policy_kwargs=kwargs, **OPTIONS[kind])
    agent.learn(steps)
    return agent


def places(module: torch.nn.Module) -> set[int]:
    """Return where the weights are that do not train."""
    return {weight.data_ptr() for weight in module.parameters() if not weight.requires_grad and weight.numel() > 1000}


@pytest.mark.parametrize(("kind", "method"), each_once(AGENTS, ["prefix", "dora"]))
def test_a_checkpoint_holds_the_adapter_and_is_small(kind: Any, method: Any, base: Path, tmp_path: Path) -> None:
    agent = trained(kind, base, method=method)
    agent.save(tmp_path / "agent")
    held = (tmp_path / "agent" / "policy.safetensors").stat().st_size
    if kind is PPO:  # DQN's target network is a second adapter
        assert held < 0.05 * (base / "model.safetensors").stat().st_size
    loaded = load(tmp_path / "agent")
    before, after = agent.policy.state_dict(), loaded.policy.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    np.testing.assert_array_equal(agent.action_probabilities(WORDS), loaded.action_probabilities(WORDS))


def test_the_base_stays_as_it_was_and_is_one_in_memory(base: Path) -> None:
    agent: Any = trained(PPO, base)
    assert agent.reference is not None
    shared = places(agent.policy)
    assert len(shared) >= 2 * 7
    assert shared <= places(agent.reference)
    original = load_language_model(str(base))
    assert agent.language_policy.language_model.fingerprint() == original.fingerprint()
    moved = agent.policy.state_dict()
    started = agent.reference.state_dict()
    assert any(not torch.equal(moved[name], started[name]) for name in weights_to_save(agent.policy) if "lora_" in name)


def test_online_and_target_network_share_the_base(base: Path) -> None:
    agent: Any = trained(DQN, base)
    online, target = agent.q_net, agent.q_net_target
    assert places(online)
    assert places(online) == places(target)
    assert agent.language_policy.language_model.fingerprint() == load_language_model(str(base)).fingerprint()
    apart = [
        (own, other) for own, other in zip(online.parameters(), target.parameters(), strict=True) if own is not other
    ]
    before = [other.clone() for _, other in apart]
    agent._update_target()
    for (own, other), was in zip(apart, before, strict=True):
        torch.testing.assert_close(other, 0.5 * was + 0.5 * own)  # tau is 0.5


def test_frozen_layers_survive_the_target_networks_update() -> None:
    kwargs: dict[str, Any] = {"model": "heed-tiny", "train_layers": 1}
    agent: Any = DQN(env=make(LEVEL, n_envs=4, seed=0), seed=0, policy_kwargs=kwargs, **OPTIONS[DQN])
    agent.learn(64)
    tiny = load_language_model("heed-tiny").model
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(agent.q_net.network.model.get_parameter(name), tiny.get_parameter(name))


def test_the_base_must_be_there_and_the_same(base: Path, tmp_path: Path) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(base, moved)
    agent = trained(PPO, moved, steps=32)
    agent.save(tmp_path / "agent")
    shutil.move(moved, other)
    with pytest.raises(CheckpointError, match=r"not to be had.*base_model=FOLDER"):
        load(tmp_path / "agent")
    loaded = load(tmp_path / "agent", base_model=str(other))
    np.testing.assert_array_equal(agent.action_probabilities(WORDS), loaded.action_probabilities(WORDS))
    saved = json.loads((tmp_path / "agent" / "agent.json").read_text())
    described = {"method": "lora", "rank": 2, "alpha": 16.0, "targets": [], "virtual_tokens": 8}
    assert saved["policy"]["adapter"] == {"adapter": described}
    model = Qwen2ForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.get_parameter("model.norm.weight")[0] += 1
    model.save_pretrained(other)
    with pytest.raises(CheckpointError, match="trained on other weights"):
        load(tmp_path / "agent", base_model=str(other))


@pytest.mark.parametrize("kind", sampled(AGENTS, 1))
def test_ranks_are_lost_until_the_budget_is_met(kind: Any, tmp_path: Path) -> None:
    agent = trained(kind, "heed-tiny", steps=32 * 4, method="adalora")
    policy: Any = agent.policy
    acting = policy if kind is PPO else policy.q_net
    layers = [module for module in acting.modules() if hasattr(module, "lora_E")]
    values = torch.cat([layer.lora_E["default"].flatten() for layer in layers])
    assert len(values) == 3 * len(layers)  # half as much again as 2
    assert int((values != 0).sum()) <= 2 * len(layers)
    agent.save(tmp_path / "agent")
    loaded: Any = load(tmp_path / "agent")
    assert agent.rank_budget is not None
    assert loaded.rank_budget is not None
    before, after = agent.rank_budget.get_state(), loaded.rank_budget.get_state()
    assert before.keys() == after.keys()
    assert any(name.startswith("left.") for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", sampled(["lora", "rslora", "adalora", "dora", "ia3", "prompt", "prefix"], 4))
def test_an_exported_adapter_is_pefts_and_loads_back(method: Any, base: Path, tmp_path: Path) -> None:
    agent: Any = trained(PPO, base, steps=32, method=method)
    export(agent, tmp_path / "out")
    loaded = load(tmp_path / "out", base_model=str(base))
    np.testing.assert_array_equal(agent.action_probabilities(WORDS), loaded.action_probabilities(WORDS))
    plain = Qwen2ForCausalLM.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for what transformers has renamed
        adapted = PeftModel.from_pretrained(plain, str(tmp_path / "out")).eval()
    prompts = torch.tensor([[5, 6, 7, 8, 9]])
    network = agent.policy.network
    with torch.no_grad():
        tokens = adapted(input_ids=prompts, attention_mask=torch.ones_like(prompts)).logits[0, -1]
        read = reader_of(network.model) or read_hidden_states
        ours = token_logits(network.model, last_hidden_state(network.model, prompts, read=read))[0]
    torch.testing.assert_close(ours, tokens, atol=1e-4, rtol=1e-4)
    with pytest.raises(LanguageModelError, match="holds an adapter, not a whole"):
        load_language_model(str(tmp_path / "out"))
