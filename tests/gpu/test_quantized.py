"""Base weights of 8 and 4 bits under an adapter: bitsandbytes has them on a GPU only, where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2ForCausalLM

from heed.agents import DQN, PPO
from heed.envs import LanguageVecEnv
from heed.policies import Adapter, load_language_model
from tests.gpu.device import DEVICE, ON_GPU
from tests.places import Places
from tools.benchmark.large import configuration

pytestmark = [
    pytest.mark.skipif(not ON_GPU, reason="weights of few bits need a GPU"),
    pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"),
    pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    Qwen2ForCausalLM(configuration("tiny")).save_pretrained(path)
    load_language_model("heed-tiny").tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
@pytest.mark.parametrize("kind", [PPO, DQN])
def test_an_adapter_trains_over_rounded_weights_and_resumes(
    kind: Any, quantize: str, folder: Path, tmp_path: Path
) -> None:
    policy_kwargs = {"model": str(folder), "quantize": quantize, "adapter": Adapter(method="lora", rank=4)}
    options: dict[str, Any] = {"n_steps": 4, "batch_size": 8} if kind is PPO else {"learning_starts": 4}
    agent = kind(
        env=LanguageVecEnv([Places] * 2, seed=0), seed=0, device=DEVICE, policy_kwargs=policy_kwargs, **options
    )
    trained = [weight for weight in agent.policy.parameters() if weight.requires_grad]
    before = [weight.detach().clone() for weight in trained]
    agent.learn(16)
    assert any(not torch.equal(weight, old) for weight, old in zip(trained, before, strict=True))
    agent.save(tmp_path / "agent")
    again = kind.load(tmp_path / "agent", env=LanguageVecEnv([Places] * 2, seed=0), device=DEVICE)
    again.learn(16, reset_num_timesteps=False)
    assert all(bool(weight.isfinite().all()) for weight in again.policy.parameters() if weight.requires_grad)
