"""The example environment passes the checker and can be trained on, as the documentation says."""

from __future__ import annotations

import numpy as np

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


def test_an_agent_learns_to_open_the_named_box() -> None:
    """It must match the instruction's words with the observation's; guessing succeeds one time in three."""
    agent = PPO(env=make(BOXES, n_envs=32, seed=0), n_steps=16, batch_size=256, ent_coef=0.0, seed=0)
    agent.learn(10_000)
    assert agent.ep_success_buffer is not None
    assert np.mean(agent.ep_success_buffer) > 0.5
