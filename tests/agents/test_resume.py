"""A training that is saved and resumed is the one that was never interrupted, to the last bit: agents × options.

Pairs of the options of `heed train` are in `tests/interactions`, several processes in `test_ranks.py`, and runs that
are stopped and resumed by `heed train` in `tests/scripts`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize

from heed.agents import A2C, DQN, GRPO, PPO, REINFORCE, QLearning, load
from heed.agents.exploration import (
    STRATEGIES,
    UCB,
    Boltzmann,
    CountBonus,
    EpsilonGreedy,
    IntrinsicRewardVecEnv,
    RandomNetworkDistillation,
    Thompson,
)
from heed.agents.imitation.cloning import Cloning, clone
from heed.agents.rollouts.scaled_rewards import ScaledRewardsVecEnv
from heed.agents.schedules import CosineSchedule, Warmup
from heed.envs import History, LanguageVecEnv
from heed.envs.make import make
from heed.policies.adapters.adapters import Adapter
from heed.policies.adapters.parameter_groups import LearningRates
from tests.agents.test_imitation import PRESSES
from tests.agents.test_optimizers import OPTIMIZERS
from tests.agents.test_scaled_rewards import Wages
from tests.buttons import Buttons
from tests.doors import Doors
from tests.places import Places
from tests.small_encoders import save_encoder

SMALL: dict[type[Any], dict[str, Any]] = {
    PPO: {"n_steps": 8, "batch_size": 8, "n_epochs": 1},
    A2C: {"n_steps": 8},
    REINFORCE: {"n_steps": 8},
    GRPO: {"n_steps": 3, "batch_size": 8, "n_epochs": 1, "group_size": 2},
    DQN: {
        "learning_starts": 8,
        "buffer_size": 200,
        "batch_size": 8,
        "train_freq": 4,
        "gradient_steps": 1,
        "target_update_interval": 8,
    },
    QLearning: {},
}
TINY: dict[str, Any] = {"model": "heed-tiny"}
"""A causal model; what names none has heed-words."""
ENCODER = "an encoder"
"""In place of the path of one."""
POLICY_GRADIENTS = (PPO, A2C, REINFORCE, GRPO)
WORDS = {"instruction": ["be left", "be right"], "observation": ["you are middle", "you are left"]}


def of(env: Callable[[], Any], n_envs: int = 2) -> Callable[..., Any]:
    """Return what makes `n_envs` of these environments, with a seed."""
    return lambda seed, group_size: LanguageVecEnv([env] * n_envs, seed=seed, group_size=group_size)


def level(env_id: str, n_envs: int = 2) -> Callable[..., Any]:
    return lambda seed, group_size: make(env_id, n_envs=n_envs, seed=seed, group_size=group_size)


def around(wrap: Callable[[Any], Any], env: Callable[..., Any]) -> Callable[..., Any]:
    return lambda seed, group_size: wrap(env(seed, group_size))


PLACES, FOUR_PLACES = of(Places), of(Places, n_envs=4)


@dataclass(frozen=True)
class Training:
    """What is trained, saved and resumed; whatever it is, the one that goes on and the one that is loaded are alike."""

    agent: type[Any]
    options: dict[str, Any] = field(default_factory=dict)
    """Of the agent, besides those in `SMALL`."""
    policy: dict[str, Any] = field(default_factory=dict)
    """Its `policy_kwargs`."""
    env: Callable[..., Any] = PLACES
    """Makes the environments, of a seed and a size of groups."""
    steps: int = 16
    """Up to the checkpoint, and again from there."""
    begin: Callable[[Any], Any] | None = None
    """What comes before the checkpoint, if not just `steps`."""
    half: Callable[[Any], Any] = lambda agent: None
    """Looks at the agent when it was saved and when it was loaded: both have the same to tell."""
    end: Callable[[Any], Any] = lambda agent: None
    """Looks at both after more steps."""

    def envs(self, seed: int) -> Any:
        return self.env(seed, SMALL[self.agent].get("group_size", 1))

    def new(self, encoder: str) -> Any:
        options = {**SMALL[self.agent], **self.options}
        if self.agent is not QLearning:
            model = {"model": encoder} if self.policy.get("model") == ENCODER else {}
            options["policy_kwargs"] = {"max_prompt_tokens": 64, **self.policy, **model}
        return self.agent(env=self.envs(seed=0), seed=0, **options)


# -- what is looked at besides ---------------------------------------------------------------------------------


class Stop(BaseCallback):
    """Ends a training in the middle of a rollout."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def _on_step(self) -> bool:
        return self.num_timesteps < self.steps


def parts_of_groups(agent: Any) -> list[int]:
    """Of GRPO: the checkpoint holds episodes that wait for others of their group, and such as are running."""
    ended = [len(episode.rewards) for group in agent.groups._ended.values() for episode in group]
    running = [len(episode.rewards) for episode in agent.groups._running]
    assert ended
    assert sum(running) > 0
    return ended + running


def until_a_part_waits(agent: Any) -> None:
    agent.learn(12)
    while not agent.groups._ended:
        agent.learn(12, reset_num_timesteps=False)


def within_episodes(agent: Any) -> list[int]:
    """Of DQN: transitions wait for the steps that are to follow."""
    waiting = [len(stream.waiting) for stream in agent.replay_buffer._streams]
    assert any(waiting)
    return waiting


def relabelled(agent: Any) -> int:
    assert agent.replay_buffer.size > agent.num_timesteps, "something was relabelled"
    return int(agent.replay_buffer.size)


def normalization(agent: Any) -> tuple[Any, ...]:
    env = agent.get_env()
    assert agent.get_vec_normalize_env() is env
    assert env.ret_rms.var > 1_000
    return env.ret_rms.var, env.ret_rms.count, env.returns.tolist()


def scale(agent: Any) -> float:
    found = float(agent.get_env().scale)
    assert found > 50
    return found


def exploration(agent: Any) -> tuple[Any, ...]:
    """Return what is known of how the agent explores, and what it does with that."""
    told: list[Any] = [agent.exploration.as_json()]
    if isinstance(agent, DQN):
        assert (agent.explorer.ensemble is None) == isinstance(agent.exploration, EpsilonGreedy | Boltzmann)
        if agent.explorer.ensemble is not None:
            told += [{name: tensor.tolist() for name, tensor in agent.explorer.ensemble.get_state().items()}]
        probabilities = agent.action_probabilities(WORDS)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
        assert agent.predict(WORDS)[0].shape == (2,)
        told += [probabilities.tolist()]
    return tuple(told)


def table(agent: Any) -> tuple[Any, ...]:
    return (*exploration(agent), list(agent.table.states), agent.table.values.tolist(), agent.table.heads.tolist())


def optimizer(given: dict[str, Any], agent: Any) -> tuple[Any, ...]:
    """Return which optimizer it is, and how it is set."""
    for name, value in given.get("optimizer_kwargs", {}).items():
        assert agent.policy_kwargs["optimizer_kwargs"][name] == value
        assert type(agent.policy_kwargs["optimizer_kwargs"][name]) in (type(value), float)
    (group,) = agent.policy.optimizer.param_groups
    return type(agent.policy.optimizer), {name: setting for name, setting in group.items() if name != "params"}


def action_numbers(agent: Any) -> Any:
    """Of actions that change: which text each number in a prompt stands for."""
    return agent.language_policy.encoder.action_texts.texts


def with_another_seed(agent: Any) -> None:
    agent.learn(30)
    agent.set_random_seed(7)
    agent.learn(30, reset_num_timesteps=False)


def cloned(agent: Any) -> None:
    clone(agent, PRESSES, Cloning(epochs=2, batch_size=9))


def cloned_and_trained(agent: Any) -> None:
    cloned(agent)
    agent.learn(16)


# -- the matrix ------------------------------------------------------------------------------------------------

BABYAI = level("BabyAI-GoToRedBallNoDists-v0")
CLIFF = level("CliffWalking-v1", n_envs=3)
NORMALIZED = around(functools.partial(VecNormalize, norm_obs=False, gamma=0.9), of(Wages))
GROUPS_OF_PLACES: dict[str, Any] = {"env": FOUR_PLACES, "begin": until_a_part_waits, "half": parts_of_groups}
PARTS: dict[str, dict[str, Any]] = {
    "all frozen": {"train_layers": 0, "head": "linear"},
    "a frozen layer": {"train_layers": 1},
    "frozen embeddings": {"freeze_embeddings": True},
}
WARM: dict[str, Any] = {"value_warmup_steps": 16, "reference_coef": 0.1, "learning_rate": 1e-3}
HINDSIGHT: dict[str, Any] = {"hindsight": 1, "priority_exponent": 0.5, "train_freq": 8}

TRAININGS: dict[str, Training] = {
    # What is trained, in which environments.
    "ppo": Training(PPO, env=BABYAI),
    "dqn": Training(DQN, env=BABYAI),
    **{
        f"{kind.__name__.lower()}, {head} head, reference": Training(
            kind,
            {"reference_coef": 0.1},
            {"head": head},
            **(GROUPS_OF_PLACES if kind is GRPO else {}),
        )
        for kind in POLICY_GRADIENTS
        for head in ("score", "linear")
    },
    **{
        f"{kind.__name__.lower()}, stopped in a rollout": Training(
            kind, {"n_steps": 8} if kind is GRPO else {}, begin=lambda agent: agent.learn(1000, callback=Stop(20))
        )
        for kind in (PPO, GRPO, DQN)
    },
    **{
        f"{kind.__name__.lower()}, normalized rewards": Training(kind, env=NORMALIZED, steps=24, half=normalization)
        for kind in SMALL
    },
    "ppo, scaled rewards": Training(
        PPO, env=around(functools.partial(ScaledRewardsVecEnv, gamma=0.5), of(Wages)), half=scale
    ),
    **{
        f"{kind.__name__.lower()}, changing actions and numbers": Training(
            kind, env=of(functools.partial(Doors, numbers=True)), half=action_numbers
        )
        for kind in (PPO, DQN)
    },
    # Schedules, and what comes before a training.
    "ppo, schedules": Training(
        PPO, {"learning_rate": Warmup(LinearSchedule(1e-2, 1e-3, 1.0), 0.6), "ent_coef": CosineSchedule(1.0, 0.0)}
    ),
    "dqn, rates of each part": Training(
        DQN,
        {"learning_rate": CosineSchedule(1e-2, 1e-3)},
        {"head": "linear", "learning_rates": LearningRates(heads=3.0, value=5.0, layer_decay=0.5)},
    ),
    "ppo, a clone": Training(PPO, WARM, env=of(Buttons), begin=cloned),
    "ppo, a clone after its warm-up": Training(PPO, WARM, env=of(Buttons), begin=cloned_and_trained),
    # DQN's transitions, and how values are explored.
    "dqn, priorities, slow target": Training(
        DQN, {"priority_exponent": 0.6, "n_steps": 3, "tau": 0.05, "target_update_interval": 2}, half=within_episodes
    ),
    "dqn, linear, dueling": Training(DQN, {"n_steps": 5}, {"head": "linear", "dueling": True}),
    "dqn, not dueling, not double": Training(DQN, {"double": False, "n_steps": 1}, {"dueling": False}),
    "dqn, hindsight, history": Training(
        DQN,
        HINDSIGHT,
        {**TINY, "max_prompt_tokens": 128},
        env=of(lambda: History(Places(), length=2)),
        steps=30,
        half=within_episodes,
        end=relabelled,
    ),
    **{
        f"dqn, {name}": Training(DQN, {"exploration": strategy(), "n_steps": 2}, end=exploration)
        for name, strategy in STRATEGIES.items()
    },
    **{
        f"q-learning, {strategy.name}": Training(QLearning, {"exploration": strategy}, env=CLIFF, steps=60, end=table)
        for strategy in (EpsilonGreedy(), Boltzmann(), UCB(), Thompson(heads=3, mask_probability=0.5))
    },
    "q-learning, thompson, another seed": Training(
        QLearning, {"exploration": Thompson()}, env=CLIFF, steps=60, begin=with_another_seed, end=table
    ),
    **{
        f"q-learning, {type(bonus()).__name__}": Training(
            QLearning,
            env=lambda seed, group_size, bonus=bonus: IntrinsicRewardVecEnv(CLIFF(seed, 1), bonus(), coefficient=0.5),
            steps=60,
            end=table,
        )
        for bonus in (CountBonus, functools.partial(RandomNetworkDistillation, seed=3))
    },
    # What trains of a language model, and with which optimizer.
    **{
        f"{kind.__name__.lower()}, {name}": Training(kind, policy=policy)
        for kind in (PPO, DQN)
        for name, policy in PARTS.items()
    },
    "ppo, heed-tiny": Training(PPO, policy=TINY, env=BABYAI),
    "dqn, heed-tiny": Training(DQN, policy=TINY, env=BABYAI),
    "ppo, heed-tiny, a frozen layer": Training(PPO, policy={**TINY, "train_layers": 1}),
    "dqn, heed-tiny, lora on bfloat16": Training(
        DQN, policy={**TINY, "weights": "bfloat16", "adapter": Adapter(rank=2)}
    ),
    "ppo, lora, reference": Training(PPO, {"reference_coef": 0.1}, {"adapter": Adapter(rank=2)}),
    "dqn, lora, slow target": Training(DQN, {"tau": 0.5}, {"adapter": Adapter(rank=2)}),
    "ppo, lora in the top layer, reference": Training(
        PPO, {"reference_coef": 0.1}, {"train_layers": 1, "adapter": Adapter(rank=2)}
    ),
    "dqn, lora in the top layer": Training(DQN, policy={"train_layers": 1, "adapter": Adapter(rank=2)}),
    "ppo, adalora": Training(PPO, policy={"adapter": Adapter(rank=2, method="adalora")}),
    "ppo, virtual tokens": Training(PPO, policy={**TINY, "adapter": Adapter(method="prefix", virtual_tokens=2)}),
    "dqn, virtual tokens": Training(DQN, policy={**TINY, "adapter": Adapter(method="prompt", virtual_tokens=2)}),
    "ppo, lora on bfloat16": Training(PPO, policy={"weights": "bfloat16", "adapter": Adapter(rank=2)}),
    "dqn, bfloat16": Training(DQN, policy={"weights": "bfloat16", "train_layers": 0, "head": "linear"}),
    **{
        f"ppo, {name}": Training(PPO, policy=given, half=functools.partial(optimizer, given))
        for name, given in OPTIMIZERS.items()
    },
    **{
        f"dqn, {name}": Training(DQN, policy=OPTIMIZERS[name], half=functools.partial(optimizer, OPTIMIZERS[name]))
        for name in ("fused Adam", "one of our own")
    },
    "ppo, an encoder": Training(PPO, policy={"model": ENCODER}),
    "ppo, segments": Training(PPO, policy={"model": ENCODER, "head": "linear", "train_layers": 0}),
    **{
        f"{kind.__name__.lower()}, {name}, changing actions and numbers": Training(
            kind,
            policy={"model": model, "train_layers": 0},
            env=of(functools.partial(Doors, numbers=True)),
            half=action_numbers,
        )
        for kind, name, model in ((PPO, "segments", ENCODER), (DQN, "segments", ENCODER), (PPO, "use", "use"))
    },
}


def weights(agent: Any) -> dict[str, Any]:
    """Return copies of all weights: of the policy with its target network, of a reference, or a table."""
    if isinstance(agent, QLearning):
        return {"table": torch.tensor(agent.table.values)}
    return {
        f"{number}.{name}": tensor.clone()
        for number, policy in enumerate(agent._policies())
        for name, tensor in policy.state_dict().items()
    }


def content(folder: Path) -> dict[str, Any]:
    """Return all that a checkpoint holds, but how many seconds episodes took."""
    held: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    del held["manifest.json"]
    held["agent.json"] = json.loads(held["agent.json"])
    for episode in held["agent.json"]["episodes"][0]:
        del episode["t"]
    return held


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_encoder("minilm", tmp_path_factory.mktemp("encoders") / "minilm"))


REPEATED = {
    "a2c, linear head, reference",
    "reinforce, linear head, reference",
    "grpo, linear head, reference",
    "a2c, normalized rewards",
    "reinforce, normalized rewards",
    "ppo, a clone",
    "dqn, not dueling, not double",
    "dqn, boltzmann",
    "ppo, frozen embeddings",
    "dqn, all frozen",
    "dqn, a frozen layer",
    "dqn, virtual tokens",
    "ppo, foreach Adam",
    "ppo, fused AdamW",
    "dqn, fused Adam",
}
"""Trainings of which the suite has one that is nearly the same: with another agent, or another choice of an option."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive if name in REPEATED else ()) for name in TRAININGS]
)
def test_a_resumed_training_is_the_uninterrupted_one(name: str, encoder: str, tmp_path: Path) -> None:
    training = TRAININGS[name]
    whole = training.new(encoder)
    (training.begin or (lambda agent: agent.learn(training.steps)))(whole)
    told = training.half(whole)
    saved = weights(whole)
    whole.save(tmp_path / "half")
    assert {path.suffix for path in (tmp_path / "half").iterdir() if path.is_file()} == {".json", ".safetensors"}
    whole.learn(training.steps, reset_num_timesteps=False)

    # Seeds and random states come from the checkpoint.
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    resumed: Any = load(tmp_path / "half", env=training.envs(seed=12345))
    assert type(resumed) is training.agent
    assert training.half(resumed) == told
    resumed.learn(training.steps, reset_num_timesteps=False)

    assert resumed.num_timesteps == whole.num_timesteps
    assert training.end(resumed) == training.end(whole)
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():
        assert torch.equal(tensor, found[key]), key
    assert any(key not in saved or not torch.equal(tensor, saved[key]) for key, tensor in expected.items()), (
        "it learned"
    )
    assert whole.get_env_state() == resumed.get_env_state()
    for agent, folder in ((whole, "whole"), (resumed, "resumed")):
        agent.save(tmp_path / folder)
    ours, theirs = content(tmp_path / "whole"), content(tmp_path / "resumed")
    assert ours.keys() == theirs.keys()
    for file, held in ours.items():
        assert held == theirs[file], f"{file} is not what it is without a pause"
