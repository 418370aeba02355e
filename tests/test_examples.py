"""The examples do what the documentation says: the environment can be trained on, an adapter is small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples.adapter_memory import measure
from examples.boxes import Boxes
from heed.agents import PPO
from heed.envs import check_env, make

BOXES = "examples.boxes:Boxes-v0"


def test_the_example_passes_every_check() -> None:
    checks = check_env(BOXES)
    assert checks
    assert [check.name for check in checks if not check.passed] == []


def test_success_is_opening_the_named_box() -> None:
    env = Boxes()
    for seed in range(30):
        words, _ = env.reset(seed=seed)
        color = words["instruction"].split()[-2]
        place = next(box.split()[-1] for box in words["observation"].split("; ") if box.startswith(color))
        _, reward, terminated, truncated, info = env.step(env.action_texts.index(f"open {place}"))
        assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)


# PPO learns to heed instructions every day, in tests/agents/test_learning.py and test_changing_actions.py.
@pytest.mark.exhaustive
def test_an_agent_learns_to_open_the_named_box() -> None:
    """It must match the instruction's words with the observation's; guessing succeeds one time in three."""
    agent = PPO(env=make(BOXES, n_envs=32, seed=0), n_steps=16, batch_size=256, ent_coef=0.0, seed=0)
    agent.learn(7_000)
    assert agent.ep_success_buffer is not None
    assert np.mean(agent.ep_success_buffer) > 0.5


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Resident memory is read from Linux's /proc.")
def test_an_adapter_is_saved_without_its_base() -> None:
    measured = measure("ppo", "lora", width=64, layers=1)
    assert measured["base"] > 8  # 32 000 tokens times 64, of four bytes
    assert measured["saved"] < 0.05 * measured["base"]
