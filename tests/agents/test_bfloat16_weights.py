"""A language model whose weights do not train, stored in bfloat16: the adapter stays float32, and it all comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heed.agents import DQN, PPO, load
from heed.envs.make import make
from heed.policies.adapters.adapters import Adapter, is_of_adapter

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
OPTIONS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "reference_coef": 0.1},
    DQN: {"learning_starts": 16, "buffer_size": 100, "batch_size": 8},
}
WORDS = {"instruction": ["go to the red ball"], "observation": ["red ball 1 ahead"]}


def new(kind: Any, **kwargs: Any) -> Any:
    return kind(
        env=make(LEVEL, n_envs=4, seed=0), seed=0, policy_kwargs={"model": "heed-tiny", **kwargs}, **OPTIONS[kind]
    )


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        (PPO, {"adapter": Adapter(rank=2), "activation_checkpointing": True}),
        (PPO, {"adapter": Adapter(method="prefix", virtual_tokens=2)}),
        (DQN, {"adapter": Adapter(rank=2)}),
        (DQN, {"train_layers": 0, "head": "linear"}),
    ],
)
def test_what_is_frozen_is_bfloat16_and_what_trains_is_not(kind: Any, kwargs: dict[str, Any], tmp_path: Path) -> None:
    agent = new(kind, weights="bfloat16", **kwargs)
    agent.learn(32)
    own = 0
    for name, weight in agent.language_policy.language_model.model.named_parameters():
        assert weight.dtype == (torch.float32 if is_of_adapter(name) else torch.bfloat16), name
        own += not is_of_adapter(name)
    assert own == 21
    assert all(weight.dtype == torch.float32 for weight in agent.policy.parameters() if weight.requires_grad)
    if kind is PPO:
        ours, theirs = (policy.network.model.get_input_embeddings() for policy in (agent.policy, agent.reference))
        assert ours.weight.data_ptr() == theirs.weight.data_ptr(), "one base for both"
    agent.save(tmp_path / "agent")
    agent.clear_cache()
    loaded: Any = load(tmp_path / "agent")
    for name, weight in agent.policy.state_dict().items():
        assert torch.equal(weight, loaded.policy.state_dict()[name]), name
        assert weight.dtype == loaded.policy.state_dict()[name].dtype
    np.testing.assert_array_equal(loaded.action_probabilities(WORDS), agent.action_probabilities(WORDS))


def test_what_is_computed_is_near_what_float32_gives() -> None:
    exact, ours = (
        new(PPO, train_layers=0, weights=weights).action_probabilities(WORDS) for weights in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(ours, exact, atol=0.05)
    assert not np.array_equal(ours, exact)


@pytest.mark.parametrize("kwargs", [{}, {"train_layers": 1}])
def test_weights_that_train_are_not_stored_so(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"small steps would be lost.*precision='bfloat16'"):
        new(PPO, weights="bfloat16", **kwargs)


def test_they_are_not_computed_with_in_float32() -> None:
    with pytest.raises(ValueError, match="leave precision out"):
        new(PPO, weights="bfloat16", precision="float32", train_layers=0)
    with pytest.raises(ValueError, match="weights is 'int4'"):
        new(PPO, weights="int4")
