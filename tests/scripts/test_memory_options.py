"""The options of `heed train` that bound memory: who takes them."""

from __future__ import annotations

from typing import Any

import pytest

from heed.agents import A2C, DQN, GRPO, PPO
from heed.envs.make import make
from heed.policies.backbones.precision import require_sensible
from heed.training.agent_arguments import agent_arguments
from heed.training.options import TrainConfig

KINDS: dict[str, Any] = {"ppo": PPO, "a2c": A2C, "grpo": GRPO, "dqn": DQN}


@pytest.mark.parametrize("agent", list(KINDS))
def test_every_agent_takes_micro_batches_and_checkpointing(agent: Any) -> None:
    config = TrainConfig(agent=agent, micro_batch_tokens=500, activation_checkpointing=True, n_envs=8).resolved()
    arguments = agent_arguments(config)
    env = make("BabyAI-GoToRedBallNoDists-v0", n_envs=8, group_size=8 if agent == "grpo" else 1)
    made = KINDS[agent](env=env, **arguments)
    assert made.micro_batches.max_tokens == 500
    assert made.hyperparameters["micro_batch_tokens"] == 500
    assert made.policy.options.activation_checkpointing


def test_a_minibatch_by_tokens() -> None:
    assert agent_arguments(TrainConfig(batch_tokens=4096).resolved())["batch_tokens"] == 4096


def test_an_adapters_base_may_be_bfloat16() -> None:
    config = TrainConfig(adapter="lora", weights="bfloat16").resolved()
    assert agent_arguments(config)["policy_kwargs"]["weights"] == "bfloat16"
    require_sensible("auto", "bfloat16", trains_own_weights=False)
