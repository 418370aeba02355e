"""Whatever optimizer trains an agent: prompts are read with its weights; and which ones cannot be saved."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heed.agents import A2C, DQN, GRPO, PPO, CheckpointError, load
from heed.agents.persistence.as_json import argument_from_json, argument_to_json
from heed.agents.persistence.checkpoint import as_json_text, read_json
from heed.envs import LanguageVecEnv
from heed.policies.adapters.adapters import Adapter
from tests.places import Places

WORDS = {"instruction": ["be left", "be right"], "observation": ["you are middle", "you are left"]}
OPTIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": (PPO, {"n_steps": 8, "batch_size": 8, "n_epochs": 1}),
    "a2c": (A2C, {"n_steps": 8}),
    "grpo": (GRPO, {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "group_size": 2}),
    "dqn": (DQN, {"learning_starts": 4, "buffer_size": 64, "batch_size": 8, "gradient_steps": 1}),
}


class PastTheCount(torch.optim.Optimizer):
    """Momentum of our own, whose writes are in no tensor's version."""

    def __init__(self, weights: Any, lr: float, momentum: float = 0.5, marks: Any = ()):
        super().__init__(weights, {"lr": lr, "momentum": momentum, "marks": marks})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # takes none
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    state = self.state[weight]
                    state["steps"] = state.get("steps", 0) + 1
                    moved = state.setdefault("moved", torch.zeros_like(weight))
                    moved.mul_(group["momentum"]).add_(weight.grad)
                    values = weight.numpy()
                    values -= group["lr"] * moved.numpy()


class KeepsAList(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # takes none
        for group in self.param_groups:
            for weight in group["params"]:
                self.state[weight]["before"] = [weight.detach().clone()]


class KeepsATable(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # takes none
        for group in self.param_groups:
            for weight in group["params"]:
                self.state[weight]["table"] = torch.zeros(7, 7)


class KeepsMore(torch.optim.SGD):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "turns": 3}


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "fused Adam": {"optimizer_kwargs": {"fused": True, "betas": (0.8, 0.99)}},
    "foreach Adam": {"optimizer_kwargs": {"foreach": True, "betas": [0.8, 0.99], "amsgrad": True}},
    "fused AdamW": {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"fused": True, "weight_decay": 0.1}},
    "fused SGD": {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {"fused": True, "momentum": np.float64(0.5)}},
    "Adafactor": {"optimizer_class": torch.optim.Adafactor, "optimizer_kwargs": {"eps": (None, 1e-3)}},
    "one of our own": {"optimizer_class": PastTheCount, "optimizer_kwargs": {"momentum": 0.3, "marks": (1, None)}},
}


def trained(kind: str, steps: int = 16, **policy: Any) -> Any:
    make, options = OPTIONS[kind]
    envs = LanguageVecEnv([Places] * 2, seed=0, group_size=options.get("group_size", 1))
    policy = {"model": "heed-tiny", **policy}  # whose choices are less certain before any training
    return make(env=envs, seed=0, learning_rate=0.01, policy_kwargs=policy, **options).learn(steps)


def weights(agent: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [*(("ppo", name) for name in OPTIMIZERS), *(("dqn", name) for name in ("fused Adam", "one of our own"))],
)
def test_prompts_are_read_with_its_weights(kind: str, optimizer: str) -> None:
    agent = trained(kind, **OPTIMIZERS[optimizer])
    before = agent.action_preferences(WORDS)
    agent.learn(16, reset_num_timesteps=False)
    after = agent.action_preferences(WORDS)
    agent.clear_cache()
    np.testing.assert_allclose(after, agent.action_preferences(WORDS), atol=1e-6)
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("kind", ["a2c", "grpo"])
@pytest.mark.parametrize(
    "policy", [{"train_layers": 1}, {"adapter": Adapter(rank=2)}, {"train_layers": 0}], ids=["layers", "lora", "heads"]
)
def test_the_rest_of_the_agents_and_what_trains_of_them(kind: str, policy: dict[str, Any], tmp_path: Path) -> None:
    given = {**policy, "optimizer_kwargs": {"fused": True}}
    if policy.get("train_layers") == 0:
        given["head"] = "linear"
    agent = trained(kind, **given)
    before = agent.action_probabilities(WORDS)
    agent.learn(16, reset_num_timesteps=False)
    after = agent.action_probabilities(WORDS)
    agent.clear_cache()
    np.testing.assert_allclose(after, agent.action_probabilities(WORDS), atol=1e-6)
    assert np.abs(after - before).max() > 1e-4
    agent.save(tmp_path / "agent")
    np.testing.assert_allclose(after, load(tmp_path / "agent").action_probabilities(WORDS), atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "error", "match"),
    [
        ({"optimizer_class": functools.partial(torch.optim.SGD)}, TypeError, "must be a subclass of torch.optim"),
        ({"optimizer_class": torch.optim.LBFGS}, ValueError, "LBFGS cannot train a policy .* 'closure'"),
        ({"optimizer_class": torch.optim.SparseAdam}, ValueError, "does not support dense gradients"),
        ({"optimizer_class": KeepsAList}, TypeError, "cannot hold the state of .*KeepsAList.*'before'"),
        ({"optimizer_class": KeepsATable}, TypeError, r"cannot hold the state of .*KeepsATable.*\(7, 7\)"),
        ({"optimizer_class": KeepsMore}, TypeError, "cannot hold the state of .*KeepsMore.*'turns'"),
        ({"optimizer_kwargs": {"beta": 0.9}}, ValueError, "unexpected keyword argument 'beta'"),
        ({"optimizer_kwargs": {"betas": (0.9, 2.0)}}, ValueError, "Invalid beta parameter"),
        ({"optimizer_kwargs": {"capturable": True}}, ValueError, "capturable"),
        ({"optimizer_kwargs": {"lr": 1e-3}}, ValueError, "learning_rate sets it"),
        ({"optimizer_kwargs": [1]}, TypeError, "must be a dictionary"),
        ({"optimizer_kwargs": {"eps": torch.ones(2)}}, TypeError, r"optimizer_kwargs\['eps'\]=tensor"),
        ({"optimizer_kwargs": {"eps": float("inf")}}, ValueError, "JSON"),
    ],
)
def test_what_cannot_train_or_be_saved_is_refused_at_once(policy: Any, error: type[Exception], match: str) -> None:
    envs = LanguageVecEnv([Places], seed=0)
    for make in (PPO, DQN):
        with pytest.raises(error, match=match):
            make(env=envs, policy_kwargs=dict(policy), device="cpu")
    envs.close()


def test_a_class_that_the_program_does_not_know_is_told(tmp_path: Path) -> None:
    class Gone(PastTheCount):
        pass

    agent = trained("ppo", steps=16, optimizer_class=Gone)
    agent.save(tmp_path / "agent")
    name = read_json(tmp_path / "agent" / "agent.json")["policy"]["optimizer_class"]["optimizer_class"]
    assert name.endswith("<locals>.Gone")
    assert type(load(tmp_path / "agent").policy.optimizer) is Gone
    Gone.__qualname__ = "Other"
    with pytest.raises(CheckpointError, match=r"Gone', which this program does not know: import the module"):
        load(tmp_path / "agent")


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        (),
        {"a": {"b": [1, (2.5, None), "x", {"c": True}]}, "dict": {}, "warmup": [0.1]},
        [{"list": [1]}, ({"adapter": 2},)],
        torch.optim.NAdam,
        PastTheCount,
        {"kinds": [torch.optim.SGD]},
        Adapter(rank=3),
    ],
    ids=str,
)
def test_arguments_come_back_as_they_were(value: Any) -> None:
    again = argument_from_json(json.loads(as_json_text(argument_to_json("argument", value))))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("value", [{1: 2}, {"a": {2: 3}}, [object()], {"a": print}, {"s": {1, 2}}])
def test_what_json_cannot_hold_is_told(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be saved without pickle"):
        argument_to_json("argument", value)
