"""Scores on the device are those of the processor, for each kind of model and each way to score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heed.agents import PPO
from heed.envs import LanguageVecEnv
from heed.policies.heads.scoring import ActionScorer, ScoringMethod, make_scorer, naive_scores
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.prompts.layout import PADDING
from tests.gpu.device import DEVICE
from tests.places import PLACES, Places
from tests.small_encoders import save_encoder
from tests.small_models import BUILDERS, ENCODER_DECODERS, VOCABULARY, WITHOUT_SDPA

ACTIONS = [[7, 8], [7, 9, 11], [12], [13, 8, 7, 9]]
FAMILIES = {**BUILDERS, **ENCODER_DECODERS}


def prompts() -> Tensor:
    rows = torch.randint(0, VOCABULARY, (4, 21), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate([21, 3, 1, 12]):
        rows[row, length:] = PADDING
    return rows


def model_of(family: str, device: Any) -> Any:
    torch.manual_seed(0)
    scale = {"initializer_factor": 1.0} if family in ENCODER_DECODERS else {"initializer_range": 0.3}
    attention = "eager" if family in WITHOUT_SDPA else "sdpa"
    return FAMILIES[family](attn_implementation=attention, **scale).float().train(False).to(device)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_score_is_the_processors(family: str) -> None:
    """In float32, without the ten bits of TF32, which would be 1000 times as far off."""
    tries = Tries([ActionTrie.build(ACTIONS)])
    with torch.no_grad():
        expected = naive_scores(model_of(family, "cpu").double(), prompts(), ACTIONS, "sum").float()
        model = model_of(family, DEVICE)
        chosen = make_scorer(model, tries, "sum")
        assert "naive" not in chosen.methods, "a way of ours is exact on this device too"
        _, found = chosen(model, prompts().to(DEVICE), tries)
    assert found.device.type == DEVICE.type
    torch.testing.assert_close(found.cpu(), expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("way", ["packed", "cached"])
def test_gradients_are_the_processors(way: ScoringMethod) -> None:
    tries = Tries([ActionTrie.build(ACTIONS)])
    gradients = []
    for device in (torch.device("cpu"), DEVICE):
        model = model_of("llama", device)
        _, scores = ActionScorer((way,), "mean")(model, prompts().to(device), tries)
        scores[:, 1].sum().backward()
        gradients.append([weight.grad.cpu() for weight in model.parameters() if weight.grad is not None])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3 * float(expected.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"head": "linear", "train_layers": 0}], ids=["pairs", "segments"])
def test_an_encoder_reads_on_the_device(options: dict[str, Any], tmp_path: Path) -> None:
    folder = save_encoder("bert", tmp_path / "encoder")
    words = {"instruction": [f"be {place}" for place in PLACES], "observation": ["you are middle; a wall ahead"] * 3}
    found = []
    for device in ("cpu", DEVICE):
        env = LanguageVecEnv([Places] * 2, seed=0)
        kwargs = {"model": str(folder), "max_prompt_tokens": 64, **options}
        agent = PPO(env=env, n_steps=4, batch_size=8, n_epochs=1, seed=0, device=device, policy_kwargs=kwargs)
        found.append(agent.action_probabilities(words))
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
    agent.learn(8)
    assert all(bool(weight.isfinite().all()) for weight in agent.policy.parameters())
