"""Where memory runs out, the gradient is gathered in smaller parts, and comes out the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heed.agents import A2C, DQN, PPO
from heed.agents.imitation.cloning import Cloning, clone
from heed.agents.rollouts.micro_batches import MicroBatches, Rows
from heed.envs.demonstrations.demonstrate import demonstrate
from heed.envs.demonstrations.demonstrations import Demonstration
from heed.envs.make import make, make_env
from heed.policies.caches.batching import Inputs
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.out_of_memory import DoesNotFitError

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
OPTIONS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 8, "batch_size": 32, "n_epochs": 1},
    A2C: {"n_steps": 8},
    DQN: {"learning_starts": 16, "buffer_size": 200, "batch_size": 16, "gradient_steps": 1, "priority_exponent": 0.5},
}


def new(kind: Any, **arguments: Any) -> Any:
    kwargs = {"model": "heed-tiny", "head": "linear", **arguments.pop("policy_kwargs", {})}
    options = {**OPTIONS[kind], "learning_rate": 0.05, **arguments}
    kwargs["optimizer_class"] = torch.optim.SGD  # Adam would make a step of a gradient that is nothing but rounding
    return kind(env=make(LEVEL, n_envs=4, seed=0), seed=0, policy_kwargs=kwargs, **options)


def weights(agent: Any) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in agent.policy.state_dict().items()}


class Memory:
    """Runs out where a gradient, or without one a chunk, is of more than so many tokens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, gradient: int = 10**9, reading: int = 10**9):
        self.gradient, self.reading = gradient, reading
        self.fits: list[int] = []
        self.failed = 0
        original = LanguageNetwork._read_at_once

        def limited(network: LanguageNetwork, batch: Any, rows: slice) -> Tensor:
            prompts = batch.part(rows)
            learns = torch.is_grad_enabled()
            if prompts.numel() > (self.gradient if learns else self.reading):
                self.failed += 1
                # Something of the graph is there already when memory runs out, as on a GPU.
                next(iter(network.parameters())).sum()
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if learns:
                self.fits.append(prompts.numel())
            return original(network, batch, rows)

        monkeypatch.setattr(LanguageNetwork, "_read_at_once", limited)


@pytest.mark.parametrize("kind", [PPO, pytest.param(A2C, marks=pytest.mark.exhaustive), DQN])
def test_training_goes_on_in_smaller_parts_to_the_same_weights(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = new(kind)
    whole.learn(32)
    most = 40 if kind is DQN else 200
    memory = Memory(monkeypatch, gradient=most)
    halved = new(kind)
    with pytest.warns(UserWarning, match=r"Out of memory: the gradient of \d+ tokens .* parts of \d+ tokens"):
        halved.learn(32)
    used = halved.micro_batches.max_tokens
    assert used is not None
    assert memory.failed > 0
    assert max(memory.fits) <= most
    assert halved.hyperparameters["micro_batch_tokens"] is None, "what was asked for stays"
    assert halved.logger.name_to_value["train/micro_batch_tokens"] == used
    failed = memory.failed
    smaller = new(kind, micro_batch_tokens=used)
    smaller.learn(32)
    assert memory.failed == failed, "what is used fits from the beginning"
    for name, weight in weights(smaller).items():
        assert torch.equal(weight, halved.policy.state_dict()[name]), name
        torch.testing.assert_close(weight, whole.policy.state_dict()[name], atol=1e-5, rtol=1e-4)
    first = new(kind).policy.state_dict()
    assert any(not torch.equal(weight, first[name]) for name, weight in weights(smaller).items())


def test_each_halving_is_told_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, gradient=100)
    agent = new(PPO)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agent.learn(64)
    assert len(caught) == memory.failed
    assert len({str(warning.message) for warning in caught}) == len(caught) > 1


def test_a_single_prompt_that_does_not_fit_ends_it_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(monkeypatch, gradient=3)
    agent = new(PPO)
    with (
        pytest.warns(UserWarning, match="Out of memory"),
        pytest.raises(DoesNotFitError, match=r"gradient of a single prompt of \d+ tokens.*--activation-checkpointing"),
    ):
        agent.learn(32)


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_prompts_are_read_in_smaller_chunks_where_nothing_is_learned(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"instruction": ["go to the red ball"] * 6, "observation": [f"red ball {n} ahead" for n in range(6)]}
    agent = new(kind)
    expected = agent.action_probabilities(words)
    agent.clear_cache()
    memory = Memory(monkeypatch, reading=30)
    with pytest.warns(UserWarning, match=r"\d+ tokens \(\d different prompts\) could not be read at once"):
        found = agent.action_probabilities(words)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    failed = memory.failed
    agent.clear_cache()
    agent.action_probabilities(words)
    assert memory.failed == failed, "the size that fits is remembered"
    memory.reading = 2
    agent.clear_cache()
    with pytest.raises(DoesNotFitError, match="read a single prompt"):
        agent.action_probabilities(words)


def test_a_clone_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = demonstrate(lambda: make_env(LEVEL), range(4))
    episodes: list[Demonstration] = [outcome.demonstration for outcome in outcomes]
    settings = Cloning(epochs=1, batch_size=16, validation=0.0)
    whole = new(PPO)
    clone(whole, episodes, settings)
    Memory(monkeypatch, gradient=200)
    halved = new(PPO)
    with pytest.warns(UserWarning, match="Out of memory"):
        clone(halved, episodes, settings)
    smaller = new(PPO, micro_batch_tokens=halved.micro_batches.max_tokens)
    clone(smaller, episodes, settings)
    for name, weight in weights(smaller).items():
        assert torch.equal(weight, halved.policy.state_dict()[name]), name
        torch.testing.assert_close(weight, whole.policy.state_dict()[name], atol=1e-5, rtol=1e-4)


def test_the_reference_leaves_splitting_to_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it reads lies beside the graph of the policy: smaller parts of the minibatch help, smaller chunks little."""
    agent = new(PPO, reference_coef=0.1)
    agent.reference.network.memory = None
    memory = Memory(monkeypatch)
    agent.collect_rollouts(*_rollout(agent))
    memory.reading = 200
    agent.set_logger(_silent())
    with pytest.warns(UserWarning, match="the gradient of"):
        agent.train()
    assert agent.reference.network.chunk_tokens is None
    assert agent.micro_batches.max_tokens is not None


def test_other_errors_pass() -> None:
    def compute(parts: Iterator[Rows]) -> None:
        next(parts)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        MicroBatches(None).accumulate(lambda: Inputs.of(torch.zeros(2, 3)), compute)


def test_a_part_smaller_than_what_was_asked_for_is_halved() -> None:
    """Parts of 1000 tokens were asked for, but a minibatch has 12 (4 prompts of 3): 500 would change nothing."""
    sizes: list[int] = []
    prompts = torch.arange(12).reshape(4, 3)

    def compute(parts: Iterator[Rows]) -> str:
        for rows in parts:
            sizes.append(len(prompts[rows]))
            if sizes[-1] > 2:
                raise torch.OutOfMemoryError
        return "done"

    batches = MicroBatches(1000)
    with pytest.warns(UserWarning, match=r"12 tokens \(4 different prompts\).*parts of 6 tokens"):
        assert batches.accumulate(lambda: Inputs.of(prompts), compute) == "done"
    assert (sizes, batches.max_tokens) == ([4, 2, 2], 6)


def _silent() -> Any:
    from stable_baselines3.common.logger import Logger

    return Logger(folder=None, output_formats=[])


def _rollout(agent: Any) -> tuple[Any, ...]:
    total, callback = agent._setup_learn(32)
    callback.on_training_start(locals(), globals())
    return agent.env, callback, agent.rollout_buffer, agent.n_steps
