"""Words for environments that do not speak: the automatic ones, and who chooses the verbalizer."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs import verbalize
from heed.envs.babyai import MiniGridVerbalizer
from heed.envs.make import make_env
from heed.envs.verbalize import (
    AutomaticVerbalizer,
    VerbalizedEnv,
    Verbalizer,
    register_verbalizer,
    verbalizer_for,
)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbalize, "_registry", {})


@pytest.mark.parametrize(
    ("space", "value", "words"),
    [
        (spaces.Discrete(5), np.int64(3), "3"),
        (spaces.Box(-1, 1, (3,)), np.array([0.12345, -0.0, 1], dtype=np.float32), "0.123 0 1"),
        (spaces.Box(-1, 1, (2, 2)), np.eye(2, dtype=np.float32), "1 0 0 1"),
        (spaces.MultiDiscrete([3, 9]), np.array([2, 8]), "2 8"),
        (spaces.MultiBinary(2), np.array([1, 0]), "1 0"),
        (spaces.Text(20), "a note", "a note"),
        (spaces.Dict(speed=spaces.Box(0, 9, (1,)), gear=spaces.Discrete(6)), {"speed": np.ones(1), "gear": 2}, None),
        (spaces.Tuple([spaces.Discrete(3), spaces.Discrete(3)]), (1, 2), "1; 2"),
        (spaces.Sequence(spaces.Discrete(3)), (1, 2), "(1, 2)"),
    ],
)
def test_any_space_is_put_into_words(space: spaces.Space[Any], value: Any, words: str | None) -> None:
    if isinstance(space, spaces.Dict):
        assert sorted(describe(space, value).split("; ")) == ["gear 2", "speed 1"]
    else:
        assert describe(space, value) == words


def play(env: gymnasium.Env[Any, Any], actions: Iterator[Any]) -> tuple[float, bool, bool, dict[str, Any]]:
    """Play an episode; return the return, the two ends and the last step's info."""
    env.reset(seed=0)
    total = 0.0
    for action in actions:
        words, reward, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(words)
        total += float(reward)
        if terminated or truncated:
            return total, terminated, truncated, info
        assert "is_success" not in info
    raise AssertionError("the episode did not end")


def forever(action: Any) -> Iterator[Any]:
    while True:
        yield action


def test_cartpole() -> None:
    env = make_env("CartPole-v1")
    words, _ = env.reset(seed=0)
    assert words["instruction"] == "collect as much reward as you can"
    assert words["observation"] == "0.0137 -0.023 -0.0459 -0.0483"
    assert env.get_wrapper_attr("action_texts") == ("action 0", "action 1")


def test_dropped_pole_is_no_success() -> None:
    # Its last step is rewarded too, so the reward of an end by its own rules says nothing here.
    total, terminated, _, info = play(make_env("CartPole-v1"), forever(0))
    assert terminated
    assert total < 20
    assert info["is_success"] is False


def test_reached_reward_threshold_is_success() -> None:
    env = make_env("CartPole-v1", max_episode_steps=500)
    balancing = env.unwrapped

    def balance() -> Iterator[int]:
        while True:
            _, _, angle, speed = balancing.state  # type: ignore[attr-defined]
            yield int(angle + 0.3 * speed > 0)

    total, terminated, truncated, info = play(env, balance())
    assert (total, terminated, truncated) == (500.0, False, True)
    assert info["is_success"] is True
    # The count starts anew with each episode.
    assert play(env, forever(0))[3]["is_success"] is False


def test_box_actions_need_no_texts() -> None:
    env = make_env("Pendulum-v1")
    assert env.get_wrapper_attr("action_texts") is None
    assert isinstance(env.action_space, spaces.Box)
    _, terminated, truncated, info = play(env, forever(np.zeros(1, dtype=np.float32)))
    assert (terminated, truncated, info["is_success"]) == (False, True, False)


class Told(gymnasium.Env[Any, Any]):
    """Ends at once, with what it was told to say."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def __init__(self, reward: float, terminated: bool, info: dict[str, Any]):
        self._end = (reward, terminated, info)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        reward, terminated, info = self._end
        return 1, reward, terminated, not terminated, dict(info)

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "FIRE"]


@pytest.mark.parametrize(
    ("reward", "terminated", "info", "success"),
    [
        (1.0, True, {}, True),
        (0.0, True, {}, False),
        (1.0, False, {}, False),  # cut off by a limit
        (1.0, True, {"is_success": False}, False),  # the environment knows better
        (0.0, False, {"is_success": np.True_}, True),
    ],
)
def test_success(reward: float, terminated: bool, info: dict[str, Any], success: bool) -> None:
    env = VerbalizedEnv(AutomaticVerbalizer(Told(reward, terminated, info)))
    env.reset()
    assert env.step(0)[4]["is_success"] is success


def test_action_meanings_become_action_texts() -> None:
    assert AutomaticVerbalizer(Told(0, True, {})).action_texts() == ("noop", "fire")


class Named(AutomaticVerbalizer):
    """A verbalizer that a user has written."""

    resets = 0

    def on_reset(self) -> None:
        self.resets += 1

    def action_texts(self) -> tuple[str, ...]:
        return ("push left", "push right")


class OtherNamed(Named):
    pass


def chosen(env_id: str) -> type[Verbalizer]:
    return type(verbalizer_for(gymnasium.make(env_id), env_id))


def test_registered_verbalizer_is_used() -> None:
    register_verbalizer("CartPole-*", Named)
    env = make_env("CartPole-v1")
    assert env.get_wrapper_attr("action_texts") == ("push left", "push right")
    assert isinstance(env, VerbalizedEnv)
    assert isinstance(env.verbalizer, Named)
    env.reset()
    env.reset()
    assert env.verbalizer.resets == 2
    assert chosen("Pendulum-v1") is AutomaticVerbalizer


def test_last_registered_verbalizer_wins() -> None:
    register_verbalizer("CartPole-*", Named)
    register_verbalizer("Cart*", OtherNamed)
    assert chosen("CartPole-v1") is OtherNamed
    register_verbalizer("CartPole-*", Named)
    assert chosen("CartPole-v1") is Named


def test_users_verbalizers_go_before_heeds_own(monkeypatch: pytest.MonkeyPatch) -> None:
    babyai = "BabyAI-GoToLocal-v0"
    assert chosen(babyai) is MiniGridVerbalizer
    plugged = EntryPoint(name="BabyAI-*", value="importlib:import_module", group=verbalize.ENTRY_POINT_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Named if self is plugged else MiniGridVerbalizer)
    monkeypatch.setattr(verbalize, "entry_points", lambda group: [plugged] if "heed" in group else [])
    assert chosen(babyai) is Named
    assert chosen("MiniGrid-Empty-5x5-v0") is MiniGridVerbalizer
    register_verbalizer("BabyAI-*", OtherNamed)
    assert chosen(babyai) is OtherNamed


def test_id_with_a_module_finds_the_same_verbalizer() -> None:
    env = make_env("minigrid:BabyAI-GoToLocal-v0")
    assert isinstance(env, VerbalizedEnv)
    assert isinstance(env.verbalizer, MiniGridVerbalizer)
