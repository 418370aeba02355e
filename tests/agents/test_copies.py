"""How often weights are in memory: once for a policy, what trains once more for a target network or a reference."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3 import PPO as SB3PPO
from torch import Tensor, nn

from heed.agents import A2C, DQN, GRPO, PPO, REINFORCE, load
from heed.envs import LanguageVecEnv
from heed.policies import LanguageActorCriticPolicy, LanguageModel, LanguageQPolicy, load_language_model
from heed.policies.adapters.adapters import Adapter
from heed.policies.caches.weights_watch import WeightsWatch
from heed.policies.prompts.prompt import PromptVecEnv
from tests.places import Places
from tests.sampling import each_once, sampled
from tests.small_encoders import save_encoder

ROLLOUT: dict[str, Any] = {"n_steps": 4}
BATCHES: dict[str, Any] = {**ROLLOUT, "batch_size": 8, "n_epochs": 1}
AGENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": (PPO, BATCHES),
    "ppo with a reference": (PPO, {**BATCHES, "reference_coef": 0.1}),
    "a2c with a reference": (A2C, {**ROLLOUT, "reference_coef": 0.1}),
    "reinforce": (REINFORCE, ROLLOUT),
    "grpo with a reference": (GRPO, {**BATCHES, "group_size": 2, "reference_coef": 0.1}),
    "dqn": (DQN, {"learning_starts": 4, "buffer_size": 32, "batch_size": 4, "gradient_steps": 1}),
}
PARTS: dict[str, dict[str, Any]] = {
    "full": {},
    "one layer": {"train_layers": 1},
    "nothing": {"train_layers": 0},
    "all but embeddings": {"freeze_embeddings": True},
    "lora": {"adapter": Adapter(rank=2)},
    "lora in bfloat16": {"adapter": Adapter(rank=2), "weights": "bfloat16"},
    "checkpointed": {"activation_checkpointing": True},
}
CASES: list[tuple[str, str, str, str]] = [
    *((kind, "heed-tiny", "full", "score") for kind in AGENTS if kind not in ("ppo with a reference", "dqn")),
    *((kind, "heed-tiny", part, "score") for part in PARTS for kind in ("ppo with a reference", "dqn")),
    *((kind, "heed-tiny", "full", "linear") for kind in ("a2c with a reference", "dqn")),
    ("dqn", "bert", "full", "score"),
    ("ppo with a reference", "bert", "one layer", "linear"),
    *((kind, "bert", "nothing", "linear") for kind in ("grpo with a reference", "dqn")),  # which reads segments
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder("bert", tmp_path_factory.mktemp("encoders") / "bert")


@pytest.fixture(autouse=True)
def only_new_objects() -> Iterator[None]:
    """Leave out of all counts, and of the garbage collector's work, what was there before the test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Return the sizes of what memory tensors have, by its address."""
    found = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def alive() -> dict[int, int]:
    gc.collect()
    return storages(one for one in gc.get_objects() if issubclass(type(one), Tensor))


def weights(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def noted() -> list[Tensor]:
    """Return what watches have noted of weights, some KiB each."""
    watches = [one for one in gc.get_objects() if type(one) is WeightsWatch]
    return [tensor for watch in watches for tensor in (*watch._samples, *watch._sums)]


def assert_no_more(agent: Any, *given: LanguageModel) -> None:
    """Assert that an agent holds one model beside those given, and what trains twice where it has two networks."""
    policy = agent.policy
    acting, other = (policy.q_net, policy.q_net_target) if isinstance(agent, DQN) else (policy, agent.reference)
    model = acting.network.model
    whole = sum(storages(model.parameters()).values())
    trains = sum(storages(weight for weight in model.parameters() if weight.requires_grad).values())
    models = [one.network.model.parameters() for one in (acting, other) if one is not None]
    assert sum(storages(itertools.chain(*models)).values()) == whole + (0 if other is None else trains)
    agent.clear_cache()
    policy.optimizer.zero_grad(set_to_none=True)
    optimizer = [one for state in policy.optimizer.state.values() for one in state.values() if torch.is_tensor(one)]
    used = storages([*weights(policy), *([] if other is None else weights(other)), *optimizer, *noted()])
    used |= storages(weight for one in given for weight in weights(one.model))
    more = {address: size for address, size in alive().items() if address not in used}
    assert sum(more.values()) < 0.02 * whole + 2**11, sorted(more.values())


@pytest.mark.parametrize(("kind", "model", "part", "head"), sampled(CASES, 5))
def test_weights_are_in_memory_once(kind: str, model: str, part: str, head: str, bert: Path, tmp_path: Path) -> None:
    make, options = AGENTS[kind]
    name = str(bert) if model == "bert" else model
    envs = LanguageVecEnv([Places] * 2, seed=0, group_size=options.get("group_size", 1))
    kwargs = {"model": name, "head": head, "max_prompt_tokens": 48, **PARTS[part]}
    agent = make(env=envs, seed=0, policy_kwargs=kwargs, **options)
    assert_no_more(agent)
    agent.learn(8)
    assert_no_more(agent)
    agent.save(tmp_path / "agent")
    assert_no_more(agent)
    del agent
    agent = load(tmp_path / "agent", env=envs)
    assert_no_more(agent)
    agent.learn(8, reset_num_timesteps=False)
    assert_no_more(agent)


@pytest.mark.parametrize(
    ("kind", "part"), each_once(["ppo with a reference", "dqn"], ["full", "one layer", "lora", "lora in bfloat16"])
)
def test_a_model_that_is_given_is_not_trained_and_not_kept(kind: str, part: str) -> None:
    make, options = AGENTS[kind]
    given = load_language_model()
    was = {name: weight.detach().numpy().copy() for name, weight in given.model.named_parameters()}
    # What does not train is shared with the model that was given.
    agents: list[Any] = []
    for _ in range(2):
        envs = LanguageVecEnv([Places] * 2, seed=0)
        agent = make(env=envs, seed=0, policy_kwargs={"model": given, **PARTS[part]}, **options)
        if not agents:
            assert_no_more(agent, given)
        agents.append(agent.learn(8))
    assert {name: weight.requires_grad for name, weight in given.model.named_parameters()} == dict.fromkeys(was, True)
    for name, weight in given.model.named_parameters():
        np.testing.assert_array_equal(weight.detach().numpy(), was[name])
    first, second = (
        storages(weight for weight in agent.policy.parameters() if weight.requires_grad) for agent in agents
    )
    assert not first.keys() & second.keys()
    assert not first.keys() & storages(given.model.parameters()).keys()
    for agent in agents:
        assert agent.policy_kwargs["model"] is agent.policy.language_model is not given


def test_what_was_given_away_is_taken_once() -> None:
    given = load_language_model().give_away()
    first, second = given.for_training(), given.for_training()
    assert first is given
    assert second.model is not given.model
    assert isinstance(second, LanguageModel)


@pytest.mark.parametrize(
    ("make", "policy", "part"),
    each_once([(SB3PPO, LanguageActorCriticPolicy), (SB3DQN, LanguageQPolicy)], ["full", "one layer", "lora"]),
)
def test_plain_sb3_trains_what_is_to_train_and_nothing_else(make: Any, policy: Any, part: str) -> None:
    given = load_language_model()
    was = {name: weight.detach().numpy().copy() for name, weight in given.model.named_parameters()}
    envs = PromptVecEnv(LanguageVecEnv([Places] * 2, seed=0), given.encoder(max_tokens=32))
    sizes: dict[str, Any] = {"n_steps": 4, "batch_size": 8}
    if make is SB3DQN:
        sizes = {"learning_starts": 4, "buffer_size": 32, "batch_size": 4, "target_update_interval": 4}
    kwargs = {"model": given, **PARTS[part]}
    agent = make(policy, envs, policy_kwargs=kwargs, device="cpu", seed=0, learning_rate=1e-2, **sizes)
    networks = [agent.policy.network] if make is SB3PPO else [agent.q_net.network, agent.q_net_target.network]
    before = [[weight.detach().clone() for weight in one.model.parameters()] for one in networks]
    agent.learn(24)
    for network, weights_before in zip(networks, before, strict=True):
        moved = [not torch.equal(w, b) for w, b in zip(network.model.parameters(), weights_before, strict=True)]
        assert any(moved)
        assert not any(m for m, w in zip(moved, network.model.parameters(), strict=True) if not w.requires_grad)
    for name, weight in given.model.named_parameters():
        np.testing.assert_array_equal(weight.detach().numpy(), was[name])
