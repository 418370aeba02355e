"""Every agent trains on the device with either head, in every precision, with optimizers of its own, and resumes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heed.agents import A2C, DQN, GRPO, PPO, REINFORCE
from heed.envs import LanguageVecEnv
from heed.envs.make import make
from heed.policies.networks.text_network import LanguageNetwork
from tests.gpu.device import DEVICE, ON_GPU, sized
from tests.places import PLACES, Places

OPTIONS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 4, "batch_size": 8, "n_epochs": 2},
    A2C: {"n_steps": 4},
    REINFORCE: {"n_steps": 4},
    GRPO: {"n_steps": 4, "batch_size": 8, "group_size": 2},
    DQN: {"learning_starts": 8, "buffer_size": 100, "batch_size": 8},
}
STEPS = sized(16, 128)
WORDS = {"instruction": [f"be {place}" for place in PLACES], "observation": ["you are middle"] * 3}


def places(kind: Any) -> LanguageVecEnv:
    return LanguageVecEnv([Places] * 4, seed=0, group_size=2 if kind is GRPO else 1)


def new(kind: Any, *, policy: dict[str, Any] | None = None, **arguments: Any) -> Any:
    policy_kwargs = {"max_prompt_tokens": 32, **(policy or {})}
    options = {**OPTIONS[kind], **arguments}
    return kind(env=places(kind), seed=0, device=DEVICE, policy_kwargs=policy_kwargs, **options)


def weights(agent: Any) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in agent.policy.state_dict().items()}


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    squares = [(first[name].double() - second[name].double()).square().sum() for name in first]
    return float(torch.stack(squares).sum().sqrt())


@pytest.mark.parametrize(("kind", "head"), [*itertools.product(OPTIONS, ["score", "linear"])])
def test_every_agent_trains_and_resumes(kind: Any, head: str, tmp_path: Path) -> None:
    """On a GPU sums of gradients may come in another order, so that the resumed weights are near and not the same."""
    whole = new(kind, policy={"head": head})
    assert whole.device.type == DEVICE.type
    first = weights(whole)
    whole.learn(STEPS)
    saved = weights(whole)
    assert distance(first, saved) > 0
    assert all(bool(weight.isfinite().all()) for weight in saved.values())
    whole.save(tmp_path / "saved")
    whole.learn(16, reset_num_timesteps=False)
    again = kind.load(tmp_path / "saved", env=places(kind), device=DEVICE)
    assert again.device.type == DEVICE.type
    assert distance(weights(again), saved) == 0
    again.learn(16, reset_num_timesteps=False)
    moved, apart = distance(saved, weights(whole)), distance(weights(whole), weights(again))
    assert moved > 0
    assert apart <= (0.02 * moved if ON_GPU else 0)
    here, elsewhere = (kind.load(tmp_path / "saved", device=device) for device in (DEVICE, "cpu"))
    found, expected = (agent.action_preferences(WORDS) for agent in (here, elsewhere))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_it_computes_in_bfloat16(kind: Any) -> None:
    exact, rounded = (
        new(kind, policy={"model": "heed-tiny", "precision": precision}) for precision in ("float32", "bfloat16")
    )
    pair = [agent.action_preferences(WORDS) for agent in (exact, rounded)]
    np.testing.assert_allclose(pair[1], pair[0], atol=0.05)
    if kind is PPO:  # a new Q-network's values are all the same
        assert not np.array_equal(*pair), "autocast has an effect"
    rounded.learn(STEPS)
    assert {weight.dtype for weight in rounded.policy.parameters()} == {torch.float32}
    assert all(bool(weight.isfinite().all()) for weight in rounded.policy.parameters())


@pytest.mark.skipif(not ON_GPU, reason="compiling takes a minute on a processor: tested there without its compiler")
def test_compiled_layers_compute_the_same() -> None:
    plain, compiled = new(PPO), new(PPO, policy={"compiled": True})
    np.testing.assert_allclose(compiled.action_probabilities(WORDS), plain.action_probabilities(WORDS), atol=1e-4)
    compiled.learn(STEPS)
    assert all(bool(weight.isfinite().all()) for weight in compiled.policy.parameters())


@pytest.mark.parametrize("kind", [PPO, DQN])
@pytest.mark.parametrize("way", ["fused", "foreach", "capturable"])
def test_optimizers_of_the_device_make_the_steps_of_the_plain_one(kind: Any, way: str) -> None:
    """And what was read before a step is read again after it."""
    if way == "capturable" and not ON_GPU:
        pytest.skip("only a GPU captures graphs")
    trained = []
    for on in (False, True):
        # Adam would make a whole step of a gradient that is nothing but rounding.
        agent = new(kind, policy={"optimizer_kwargs": {way: on, "eps": 1e-3}})
        first = weights(agent)
        agent.action_preferences(WORDS)
        agent.learn(16)
        trained.append(weights(agent))
    plain, special = trained
    assert distance(plain, special) <= 0.05 * distance(first, plain)
    kept = agent.action_preferences(WORDS)
    agent.clear_cache()
    np.testing.assert_allclose(agent.action_preferences(WORDS), kept, atol=1e-5)


def test_where_memory_runs_out_the_part_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it really runs out: the process is allowed part of what a whole minibatch takes."""
    sizes: dict[str, Any] = {"n_steps": sized(8, 64), "batch_size": sized(32, 1024), "n_epochs": 1}
    envs, steps = sized(4, 16), sized(32, 1024)

    def agent() -> PPO:
        # Adam would make a step of a gradient that is nothing but rounding.
        kwargs = {"model": "heed-tiny", "optimizer_class": torch.optim.SGD, "head": "linear"}
        env = make("BabyAI-GoToLocal-v0", n_envs=envs, seed=0)
        return PPO(env=env, seed=0, device=DEVICE, policy_kwargs=kwargs, learning_rate=0.05, **sizes)

    whole = agent()
    if ON_GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(DEVICE)
        before = torch.cuda.memory_reserved(DEVICE)
        whole.learn(steps)
        taken = torch.cuda.max_memory_reserved(DEVICE) - before
        torch.cuda.empty_cache()
        limit = torch.cuda.memory_reserved(DEVICE) + 0.6 * taken
        torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(DEVICE).total_memory)
    else:
        whole.learn(steps)
        _run_out(monkeypatch, tokens=400)
    try:
        halved = agent()
        with pytest.warns(UserWarning, match="Out of memory: the gradient of"):
            halved.learn(steps)
    finally:
        if ON_GPU:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert halved.micro_batches.max_tokens is not None
    first = weights(agent())
    assert distance(weights(whole), weights(halved)) <= 1e-2 * distance(first, weights(whole))


def _run_out(monkeypatch: pytest.MonkeyPatch, *, tokens: int) -> None:
    """Let memory run out where a gradient is of more tokens."""
    original = LanguageNetwork._read_at_once

    def limited(network: LanguageNetwork, batch: Any, rows: slice) -> Tensor:
        if torch.is_grad_enabled() and batch.part(rows).numel() > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(network, batch, rows)

    monkeypatch.setattr(LanguageNetwork, "_read_at_once", limited)
