# mypy: disable-error-code="arg-type"
"""Words belong to what they describe: a wrapper that changes it gets other words."""

from __future__ import annotations

from typing import Any

import gymnasium
import minigrid.wrappers as minigrid
import numpy as np
import pytest
from gymnasium import spaces, wrappers

from heed.envs import AutomaticVerbalizer, LanguageVecEnv, Verbalizer, register_verbalizer
from heed.envs.babyai.words import MiniGridVerbalizer
from heed.envs.classic.classic_control import CartPoleVerbalizer, PendulumVerbalizer
from heed.envs.classic.toy_text import FrozenLakeVerbalizer
from heed.envs.make import speaking
from heed.envs.words.changing_wrappers import observation_changer
from heed.envs.words.verbalize import _registry

GRID, POLE, PENDULUM, LAKE = "MiniGrid-Empty-5x5-v0", "CartPole-v1", "Pendulum-v1", "FrozenLake-v1"


def permuted(env: Any) -> Any:
    return wrappers.TransformAction(env, lambda action: 1 - action, env.action_space)


def reversed_numbers(env: Any) -> Any:
    return wrappers.TransformObservation(env, lambda seen: seen[::-1], env.observation_space)


class NamedActions(gymnasium.ActionWrapper[Any, Any, Any]):
    action_names = ("away", "towards")

    def action(self, action: Any) -> Any:
        return 1 - action


@pytest.mark.parametrize(
    ("env_id", "wrap", "kind"),
    [
        (GRID, minigrid.FullyObsWrapper, AutomaticVerbalizer),
        ("MiniGrid-Empty-Random-6x6-v0", lambda env: minigrid.FullyObsWrapper(env), AutomaticVerbalizer),
        ("MiniGrid-FourRooms-v0", minigrid.OneHotPartialObsWrapper, AutomaticVerbalizer),
        (GRID, minigrid.SymbolicObsWrapper, AutomaticVerbalizer),
        (GRID, minigrid.ImgObsWrapper, AutomaticVerbalizer),
        (GRID, minigrid.FlatObsWrapper, AutomaticVerbalizer),
        (GRID, minigrid.RGBImgObsWrapper, AutomaticVerbalizer),
        (GRID, minigrid.RGBImgPartialObsWrapper, AutomaticVerbalizer),
        (GRID, lambda env: minigrid.ImgObsWrapper(minigrid.RGBImgPartialObsWrapper(env)), AutomaticVerbalizer),
        (GRID, minigrid.DictObservationSpaceWrapper, AutomaticVerbalizer),
        (GRID, lambda env: minigrid.ViewSizeWrapper(env, 5), MiniGridVerbalizer),
        (GRID, minigrid.StochasticActionWrapper, MiniGridVerbalizer),
        (GRID, minigrid.PositionBonus, MiniGridVerbalizer),
        (POLE, wrappers.FlattenObservation, AutomaticVerbalizer),
        (POLE, wrappers.NormalizeObservation, AutomaticVerbalizer),
        (POLE, reversed_numbers, AutomaticVerbalizer),
        (POLE, lambda env: wrappers.FrameStackObservation(env, 3), AutomaticVerbalizer),
        (POLE, wrappers.TimeAwareObservation, AutomaticVerbalizer),
        (POLE, permuted, AutomaticVerbalizer),
        (POLE, lambda env: wrappers.StickyAction(env, 0.2), CartPoleVerbalizer),
        (POLE, wrappers.RecordEpisodeStatistics, CartPoleVerbalizer),
        (POLE, wrappers.NormalizeReward, CartPoleVerbalizer),
        (PENDULUM, lambda env: wrappers.RescaleAction(env, np.float32(0), np.float32(1)), PendulumVerbalizer),
        (PENDULUM, lambda env: wrappers.DiscretizeAction(env, 3), AutomaticVerbalizer),
        (LAKE, wrappers.FlattenObservation, AutomaticVerbalizer),
        (LAKE, wrappers.TimeAwareObservation, AutomaticVerbalizer),
        (LAKE, lambda env: wrappers.StickyAction(env, 0.2), FrozenLakeVerbalizer),
    ],
)
def test_a_wrapper_that_changes_it_gets_other_words(env_id: str, wrap: Any, kind: type[Verbalizer]) -> None:
    env: Any = speaking(wrap(gymnasium.make(env_id)))
    assert type(env.verbalizer) is kind
    venv = LanguageVecEnv([lambda: env], seed=0, max_lost=0)
    said = venv.reset()["observation"][0]
    for _ in range(3):
        venv.action_space.seed(0)
        venv.step(np.array([venv.action_space.sample()]))
    assert said
    if (
        kind is AutomaticVerbalizer and observation_changer(env.verbalizer.env) is not None
    ):  # none of it is what the innermost environment calls its numbers and actions
        assert "carrying" not in said
        assert "cart" not in said
        assert "velocity" not in said
    if isinstance(env.action_space, spaces.Discrete) and wrap in (permuted,):
        assert env.action_texts == ("action 0", "action 1")


def test_a_wrappers_own_names_are_its_words() -> None:
    env: Any = speaking(NamedActions(gymnasium.make(POLE)))
    assert env.action_texts == ("away", "towards")
    assert "cart velocity" in env.reset(seed=0)[0]["observation"]  # what is seen is what it was


def test_a_full_view_that_is_as_large_as_the_partial_one_is_not_taken_for_it() -> None:
    env = gymnasium.make("MiniGrid-Empty-8x8-v0", size=7)
    assert minigrid.FullyObsWrapper(env).observation_space == env.observation_space
    assert type(speaking(minigrid.FullyObsWrapper(env)).verbalizer) is AutomaticVerbalizer  # type: ignore[attr-defined]


def test_the_mission_stays_the_instruction() -> None:
    env = speaking(minigrid.FullyObsWrapper(gymnasium.make(GRID)))
    assert env.reset(seed=0)[0]["instruction"] == "get to the green goal square"


class Mine(AutomaticVerbalizer):
    reads_through = ("FlattenObservation",)

    def instruction(self, observation: Any) -> str:
        return "keep it up"


class OfFour(Mine):
    reads_through = ("TimeAwareObservation",)

    @classmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        return space.shape == (4,)


@pytest.mark.parametrize(
    ("kind", "wrap", "told"),
    [
        (Mine, lambda env: env, True),
        (Mine, wrappers.FlattenObservation, True),
        (Mine, wrappers.NormalizeObservation, False),
        (OfFour, lambda env: env, True),
        (OfFour, wrappers.TimeAwareObservation, False),
    ],
)
def test_a_registered_verbalizer_says_what_it_reads(kind: Any, wrap: Any, told: bool) -> None:
    register_verbalizer("CartPole-*", kind)
    try:
        env = speaking(wrap(gymnasium.make(POLE)))
    finally:
        _registry.clear()
    assert (env.reset(seed=0)[0]["instruction"] == "keep it up") == told


def test_what_an_id_stands_for_is_what_its_verbalizer_is_for() -> None:
    def flat() -> Any:
        return wrappers.FlattenObservation(gymnasium.make(POLE).unwrapped)

    gymnasium.register("Flat-v0", entry_point=flat)
    register_verbalizer("Flat-*", OfFour)
    try:
        inside, outside = gymnasium.make("Flat-v0"), wrappers.NormalizeObservation(gymnasium.make("Flat-v0"))
        told = [speaking(env).reset(seed=0)[0]["instruction"] == "keep it up" for env in (inside, outside)]
    finally:
        _registry.clear()
        del gymnasium.registry["Flat-v0"]
    assert told == [True, False]
