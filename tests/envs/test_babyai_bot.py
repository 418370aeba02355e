"""BabyAI's bot as the expert of its levels: it solves them, also after other hands, and says where it cannot."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from minigrid.core.world_object import Box
from minigrid.utils.baby_ai_bot import BabyAIBot

from heed.envs.babyai import bot as babyai_bot
from heed.envs.contract import ExpertError, expert_of
from heed.envs.make import make_env, make_plain_env

LEVELS = ("BabyAI-GoToLocal-v0", "BabyAI-PickupLoc-v0", "BabyAI-PutNextLocal-v0", "BabyAI-UnlockLocal-v0")
TOGGLE = 5


def expert(env: gymnasium.Env[Any, Any]) -> Any:
    found = expert_of(env)
    assert found is not None
    return found


def follow_advice(env: gymnasium.Env[Any, Any]) -> None:
    for _ in range(100):
        env.step(expert(env)())


@pytest.mark.parametrize("history", [0, 2])
@pytest.mark.parametrize("level", LEVELS)
def test_the_bot_solves_levels_also_after_actions_that_it_did_not_advise(level: str, history: int) -> None:
    env = make_env(level, history=history)
    advise, rng = expert(env), np.random.default_rng(0)
    for seed in range(6):
        env.reset(seed=seed)
        ended = False
        while not ended:
            action = advise()
            if seed % 2 and rng.random() < 0.3:
                action = int(rng.integers(5))  # not the toggle, which may open a box
            _, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        assert info["is_success"], seed


def test_its_advice_is_that_of_the_bot_by_itself_on_the_environment_as_minigrid_has_it() -> None:
    """Also where it is asked twice, or in some states not at all: then it has looked at them nevertheless."""
    ours, theirs = make_env("BabyAI-PutNextLocal-v0"), make_plain_env("BabyAI-PutNextLocal-v0")
    advise, rng = expert(ours), np.random.default_rng(1)
    compared = 0
    for seed in range(8):
        ours.reset(seed=seed)
        theirs.reset(seed=seed)
        bot, action, ended = BabyAIBot(theirs.unwrapped), None, False
        assert advise() == advise()
        for step in range(40):
            advice = int(bot.replan(action))
            if step % 3 != 1:
                assert advise() == advice
                compared += 1
            action = advice if rng.random() < 0.6 else int(rng.integers(5))
            ended = any([*ours.step(action)[2:4], *theirs.step(action)[2:4]])
            if ended:
                break
    assert compared > 60


def test_an_opened_box_ends_what_the_bot_knows() -> None:
    env = make_env("BabyAI-GoToLocal-v0")
    advise = expert(env)
    env.reset(seed=0)
    level: Any = env.unwrapped
    level.grid.set(*level.front_pos, Box("red"))
    advise()
    env.step(TOGGLE)
    for _ in range(2):
        with pytest.raises(ExpertError, match="A box was opened"):
            advise()
        env.step(0)
    env.reset(seed=0)
    assert advise() in range(7)  # another episode, another bot


def test_what_the_bot_does_not_know_is_one_kind_of_error(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env("BabyAI-KeyInBox-v0")
    env.reset(seed=0)
    with pytest.raises(ExpertError, match="its assertion failed"):
        follow_advice(env)
    env = make_env("BabyAI-UnlockToUnlock-v0")
    env.reset(seed=4)  # on which it searches for ever
    with pytest.raises(ExpertError, match=r"has searched \d+ times"):
        follow_advice(env)
    monkeypatch.setattr(babyai_bot, "MAX_SEARCHES", 0)
    env = make_env("BabyAI-GoToLocal-v0")
    env.reset(seed=0)
    with pytest.raises(ExpertError, match="has searched 0 times"):
        expert(env)()


def test_no_bot_is_made_unless_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(babyai_bot, "_BoundedBot", lambda env: made.append(env))
    env = make_env("BabyAI-GoToLocal-v0")
    env.reset(seed=0)
    env.step(0)
    assert made == []


def test_other_environments_have_no_expert() -> None:
    for name in ("MiniGrid-Empty-5x5-v0", "CartPole-v1"):
        assert expert_of(make_env(name)) is None
