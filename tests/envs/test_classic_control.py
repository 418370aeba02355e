"""Classic control and LunarLander in words: they hold the numbers, sides are right, success is what it should be."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs import check_env, make_env
from heed.envs.classic.classic_control import leaning, moving, rounded, sided
from heed.envs.words.verbalize import VerbalizedEnv

IDS = ["CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1"]
needs_box2d = pytest.mark.skipif(
    importlib.util.find_spec("Box2D") is None, reason='LunarLander needs Box2D: pip install "gymnasium[box2d]"'
)
LANDERS = [pytest.param(env_id, marks=needs_box2d) for env_id in ("LunarLander-v3", "LunarLanderContinuous-v3")]
TOWARDS = {
    "left": -1,
    "right": 1,
    "down": -1,
    "up": 1,
    "clockwise": -1,
    "counter-clockwise": 1,
    "below": -1,
    "above": 1,
}


def speaking(env_id: str, **options: Any) -> VerbalizedEnv:
    env = make_env(env_id, **options)
    assert isinstance(env, VerbalizedEnv)
    return env


@pytest.mark.parametrize("env_id", [*IDS, *LANDERS])
def test_the_contract_is_kept_and_the_exact_vector_is_an_auxiliary_observation(env_id: str) -> None:
    assert [check.name for check in check_env(env_id, episodes=2) if not check.passed] == []
    env = speaking(env_id)
    plain = gymnasium.make(env_id)
    assert isinstance(env.observation_space, spaces.Dict)
    assert env.observation_space["numbers"] == plain.observation_space
    words, _ = env.reset(seed=1)
    vector, _ = plain.reset(seed=1)
    plain.action_space.seed(0)
    for _ in range(20):
        np.testing.assert_array_equal(words["numbers"], vector)  # type: ignore[typeddict-item]
        action = plain.action_space.sample()
        words, vector = env.step(action)[0], plain.step(action)[0]
    assert (env.action_texts is None) == isinstance(plain.action_space, spaces.Box)


def test_pieces() -> None:
    assert [rounded(value, 2) for value in (0.314, -2.0, 0.004, 10.0)] == ["0.31", "2", "0", "10"]
    assert rounded(100, 0) == "100"
    assert sided(-0.314, ("left of", "right of"), "the pad") == "0.31 left of the pad"
    assert sided(0.001, ("left of", "right of"), "the pad") == "at the pad"
    assert leaning(math.radians(-5), ("left", "right")) == "5 degrees left"
    assert leaning(1e-4, ("left", "right")) == "0 degrees"
    sides, steps = ("left", "right"), (0.2, 1.0)
    assert moving("going", 0.1, sides, steps) == "going right slowly at 0.1"
    assert moving("going", -0.5, sides, steps) == "going left at 0.5"
    assert moving("going", 1.5, sides, steps, " m/s") == "going right fast at 1.5 m/s"
    assert moving("going", 1e-3, sides, steps) == "not going"


def number(words: str, pattern: str) -> float:
    """Read a signed number: the pattern's groups are its size and its side, in either order; nothing found is zero."""
    found = re.search(pattern, words)
    if found is None:
        return 0.0
    one, other = found.groups()
    size, side = (one, other) if other in TOWARDS else (other, one)
    return float(size) * TOWARDS[side]


SIZE = r"(\d+(?:\.\d+)?)"


def read_cartpole(words: str) -> list[float]:
    return [
        number(words, rf"cart {SIZE} (left|right) of the middle"),
        number(words, rf"moving (left|right)(?: slowly| fast)? at {SIZE}"),
        math.radians(number(words, rf"pole leans {SIZE} degrees (left|right)")),
        math.radians(number(words, rf"falling (left|right)(?: slowly| fast)? at {SIZE}")),
    ]


def read_mountain_car(words: str) -> list[float]:
    place = number(words, rf"car {SIZE} (left|right) of the bottom") - math.pi / 6
    return [place, number(words, rf"rolling (left|right)(?: slowly| fast)? at {SIZE}")]


def read_acrobot(words: str) -> list[float]:
    tip, upper, lower = words.split("; ")
    turn = rf"turning (clockwise|counter-clockwise)(?: slowly| fast)? at {SIZE} degrees a second"
    angles = [math.radians(number(part, rf"{SIZE} degrees (clockwise|counter-clockwise)")) for part in (upper, lower)]
    height = number(tip, rf"tip {SIZE} (below|above) the line") + 1
    assert height == pytest.approx(-math.cos(angles[0]) - math.cos(sum(angles)), abs=0.01)
    cosines = [function(angle) for angle in angles for function in (math.cos, math.sin)]
    return [*cosines, *(math.radians(number(part, turn)) for part in (upper, lower))]


def read_pendulum(words: str) -> list[float]:
    angle = math.radians(-number(words, rf"pendulum {SIZE} degrees (left|right) of upright"))
    turn = rf"turning (clockwise|counter-clockwise)(?: slowly| fast)? at {SIZE} degrees a second"
    return [math.cos(angle), math.sin(angle), math.radians(number(words, turn))]


@pytest.mark.parametrize(
    ("env_id", "read", "precision"),
    [
        ("CartPole-v1", read_cartpole, [0.005, 0.005, 0.001, 0.009]),
        ("MountainCar-v0", read_mountain_car, [0.005, 0.00005]),
        ("MountainCarContinuous-v0", read_mountain_car, [0.005, 0.00005]),
        ("Acrobot-v1", read_acrobot, [0.001, 0.001, 0.001, 0.001, 0.009, 0.009]),
        ("Pendulum-v1", read_pendulum, [0.001, 0.001, 0.009]),
    ],
)
def test_the_vector_can_be_read_from_the_words(
    env_id: str, read: Callable[[str], list[float]], precision: list[float]
) -> None:
    env = speaking(env_id)
    plain = gymnasium.make(env_id)
    low, high = (np.clip(bound, -3, 3) for bound in (plain.observation_space.low, plain.observation_space.high))  # type: ignore[attr-defined]
    generator = np.random.default_rng(0)
    for _ in range(200):
        vector = generator.uniform(low, high).astype(np.float32)
        if env_id in ("Acrobot-v1", "Pendulum-v1"):
            angles = generator.uniform(-math.pi, math.pi, size=2 if len(vector) == 6 else 1)
            vector[: 2 * len(angles)] = np.stack([np.cos(angles), np.sin(angles)], axis=1).ravel()
        told = np.array(read(env._words(vector)["observation"]))
        assert (np.abs(told - vector) <= np.array(precision) + 1e-6).all()


def test_exact_words() -> None:
    cart = speaking("CartPole-v1")._words(np.array([-0.314, 0.12, math.radians(2.34), -1.07], dtype=np.float32))
    assert cart["instruction"] == "keep the pole upright on the cart"
    assert cart["observation"] == (
        "pole leans 2.3 degrees right, falling left fast at 61 degrees a second; "
        "cart 0.31 left of the middle, moving right slowly at 0.12"
    )
    still = speaking("CartPole-v1")._words(np.zeros(4, dtype=np.float32))
    assert still["observation"] == "pole leans 0 degrees, not falling; cart at the middle, not moving"
    car = speaking("MountainCar-v0")._words(np.array([0.2, -0.0321], dtype=np.float32))
    assert car["observation"] == ("car 0.72 right of the bottom, 0.3 left of the flag; rolling left fast at 0.0321")
    hanging = speaking("Acrobot-v1")._words(np.array([1, 0, 1, 0, 0, -2], dtype=np.float32))
    assert hanging["observation"] == (
        "tip 3 below the line; upper link 0 degrees, not turning; "
        "lower link bent 0 degrees, turning clockwise at 115 degrees a second"
    )
    pendulum = speaking("Pendulum-v1")._words(np.array([0, 1, 0.5], dtype=np.float32))
    assert pendulum["observation"] == (
        "pendulum 90 degrees left of upright, turning counter-clockwise slowly at 29 degrees a second"
    )


# -- are the sides those that one sees? --------------------------------------------------------------------------------


def column_of(env: VerbalizedEnv, colour: tuple[int, int, int]) -> float:
    """Return the mean column of the pixels of about a colour, from the middle of the picture, to the right positive."""
    picture: Any = env.render()
    near = (np.abs(picture.astype(int) - colour) < 30).all(axis=-1)
    return float(np.nonzero(near)[1].mean() - picture.shape[1] / 2)


@pytest.mark.parametrize("angle", [0.6, -0.6])
def test_the_pendulum_leans_to_the_side_where_it_is_drawn(angle: float) -> None:
    env = speaking("Pendulum-v1", render_mode="rgb_array")
    env.reset(seed=0)
    plain: Any = env.unwrapped
    plain.state = np.array([angle, 0.0])
    drawn = column_of(env, (204, 77, 77))
    assert abs(drawn) > 20
    side = "left" if drawn < 0 else "right"
    assert f"34.4 degrees {side} of upright" in env._words(plain._get_obs())["observation"]
    env.close()


@pytest.mark.parametrize("angle", [0.6, -0.6])
def test_the_acrobot_hangs_to_the_side_where_it_is_drawn(angle: float) -> None:
    env = speaking("Acrobot-v1", render_mode="rgb_array")
    env.reset(seed=0)
    plain: Any = env.unwrapped
    plain.state = np.array([angle, 0.0, 0.0, 0.0])
    drawn = column_of(env, (0, 204, 204))
    assert abs(drawn) > 20
    turned = "counter-clockwise" if drawn > 0 else "clockwise"  # from straight down, counter-clockwise is to the right
    assert f"upper link 34.4 degrees {turned}," in env._words(plain._get_ob())["observation"]
    env.close()


def after(env_id: str, action: int, steps: int) -> str:
    env = speaking(env_id)
    env.reset(seed=0)
    plain: Any = env.unwrapped
    plain.state = np.array([-math.pi / 6, 0.0] if "Mountain" in env_id else [0.0] * 4)
    for _ in range(steps):
        words = env.step(action)[0]
    return words["observation"]


def test_actions_do_what_they_are_called() -> None:
    for action, text in enumerate(speaking("CartPole-v1").action_texts or ()):
        side = text.removeprefix("push ")
        words = after("CartPole-v1", action, 3)
        assert f"moving {side}" in words
        assert f"falling {'left' if side == 'right' else 'right'}" in words  # the cart runs away from under the pole
    drives = {"drive left": "rolling left", "let it roll": "not rolling", "drive right": "rolling right"}
    assert speaking("MountainCar-v0").action_texts == tuple(drives)
    for action, words in enumerate(drives.values()):
        assert words in after("MountainCar-v0", action, 1)
    acrobot = speaking("Acrobot-v1").action_texts or ()
    assert [text.split()[-1] for text in acrobot] == ["clockwise", "hang", "counter-clockwise"]
    for action in (0, 2):
        assert f"degrees {acrobot[action].split()[-1]}, " in after("Acrobot-v1", action, 1).split("; ")[2]
    assert "lower link bent 0 degrees, not turning" in after("Acrobot-v1", 1, 1)


# -- success -----------------------------------------------------------------------------------------------------------


def balance(env: VerbalizedEnv) -> tuple[int, dict[str, Any]]:
    """Balance the pole with a rule on the auxiliary numbers; return the steps and the last info."""
    words, _ = env.reset(seed=0)
    steps, ended = 0, False
    while not ended:
        _, _, angle, speed = words["numbers"]  # type: ignore[typeddict-item]
        words, _, terminated, truncated, info = env.step(int(angle + 0.3 * speed > 0))
        steps, ended = steps + 1, terminated or truncated
    return steps, info


@pytest.mark.parametrize("options", [{}, {"sutton_barto_reward": True}, {"max_episode_steps": 50}], ids=str)
def test_cartpole_is_a_success_where_the_pole_stays_up_for_long_enough(options: dict[str, Any]) -> None:
    env = speaking("CartPole-v1", **options)
    steps, info = balance(env)
    assert steps == options.get("max_episode_steps", 500)
    assert info["is_success"] is True
    env.reset(seed=0)
    ended = False
    while not ended:
        _, _, ended, _, info = env.step(0)
    assert info["is_success"] is False


@pytest.mark.parametrize("env_id", ["MountainCar-v0", "MountainCarContinuous-v0"])
def test_the_mountain_is_climbed_where_the_flag_is_reached(env_id: str) -> None:
    env = speaking(env_id)
    words, _ = env.reset(seed=0)
    ended = False
    while not ended:  # drive the way it rolls
        ahead = "rolling right" in words["observation"]
        action: Any = 2 * ahead if env_id == "MountainCar-v0" else np.array([1.0 if ahead else -1.0], dtype=np.float32)
        words, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
    assert (terminated, info["is_success"]) == (True, True)
    assert "of the flag" not in words["observation"] or "right of the flag" in words["observation"]
    env.reset(seed=0)
    still: Any = 1 if env_id == "MountainCar-v0" else np.zeros(1, dtype=np.float32)
    for _ in range(env.spec.max_episode_steps or 0):  # type: ignore[union-attr]
        _, _, terminated, truncated, info = env.step(still)
    assert (terminated, truncated, info["is_success"]) == (False, True, False)


def test_acrobots_tip_is_above_the_line_where_the_episode_ends() -> None:
    env = speaking("Acrobot-v1")
    words, _ = env.reset(seed=0)
    ended = False
    while not ended:  # pump: turn the joint against the way the upper link turns
        assert "below the line" in words["observation"]
        action = 0 if words["numbers"][4] > 0 else 2  # type: ignore[typeddict-item]
        words, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
    assert (terminated, info["is_success"]) == (True, True)
    assert "below the line" not in words["observation"]


@pytest.mark.parametrize(
    ("angle", "speed", "success"),
    [(0.0, 0.0, True), (2 * math.pi, 0.1, True), (-0.1, 0.2, True), (math.pi, 0.0, False), (0.0, 5.0, False)],
)
def test_the_pendulum_is_up_where_it_stands_at_the_end(angle: float, speed: float, success: bool) -> None:
    env = speaking("Pendulum-v1", max_episode_steps=1)
    env.reset(seed=0)
    plain: Any = env.unwrapped
    plain.state = np.array([angle, speed])
    *_, truncated, info = env.step(np.zeros(1, dtype=np.float32))
    assert (truncated, info["is_success"]) == (True, success)


# -- LunarLander -------------------------------------------------------------------------------------------------------


@needs_box2d
def test_the_lander_in_words() -> None:
    env = speaking("LunarLander-v3")
    vector = np.array([-0.314, 0.92, 0.05, -0.6, 0.0873, -0.02, 1, 0], dtype=np.float32)
    words = env._words(vector)
    assert words["instruction"] == "land gently on the pad, upright on both legs"
    assert words["observation"] == (
        "lander 0.31 left of the pad, 0.92 above its height; drifting right slowly at 0.05, moving down fast at 0.6; "
        "tilted 5 degrees left, turning right slowly at 3 degrees a second; right leg on the ground"
    )


@needs_box2d
def test_the_legs_and_the_tilt_are_on_the_sides_that_they_are_called() -> None:
    env = speaking("LunarLander-v3")
    env.reset(seed=0)
    plain: Any = env.unwrapped
    # What the vector shows of legs[0] is on the right of the lander, and of legs[1] on the left.
    places = [leg.position.x - plain.lander.position.x for leg in plain.legs]
    assert places[0] > 0 > places[1]
    assert env.action_texts == ("do nothing", "push left", "fire the main engine", "push right")
    drifts = {}
    for action in range(4):
        env.reset(seed=1)
        for _ in range(10):
            words = env.step(action)[0]
        drifts[action] = words["numbers"][2:5]  # type: ignore[typeddict-item]
    assert drifts[1][0] < drifts[0][0] < drifts[3][0]
    assert drifts[2][1] > drifts[0][1]
    assert drifts[1][2] > drifts[0][2] > drifts[3][2]  # pushed to the left it turns counter-clockwise: to the left


@needs_box2d
def test_a_crash_is_no_success() -> None:
    env = speaking("LunarLander-v3")
    env.reset(seed=0)
    ended = False
    while not ended:
        *_, terminated, truncated, info = env.step(0)
        ended = terminated or truncated
    assert (terminated, info["is_success"]) == (True, False)


@needs_box2d
def test_a_landing_is_a_success() -> None:
    heuristic: Any = importlib.import_module("gymnasium.envs.box2d.lunar_lander").heuristic
    env = speaking("LunarLander-v3")
    successes = []
    for seed in range(3):
        words, _ = env.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            action = heuristic(env.unwrapped, words["numbers"])  # type: ignore[typeddict-item]
            words, reward, terminated, truncated, info = env.step(action)
            total, ended = total + reward, terminated or truncated
        assert info["is_success"] is (total >= 200)
        successes.append(info["is_success"])
    assert any(successes)
