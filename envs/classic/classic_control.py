"""Gymnasium's classic control in words: CartPole, MountainCar, Acrobot, Pendulum.

    pole leans 2.3 degrees right, falling right fast at 61 degrees a second; cart 0.31 right of the middle,
    moving left slowly at 0.12

Each quantity is told twice in its phrase: its sign and size as words, which mean the same whatever the number, and the
number, rounded. The exact vector is an auxiliary observation, `numbers`.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.spaces import Space

from heed.envs.words.auxiliary import AuxiliaryObservations
from heed.envs.words.verbalize import EpisodeReturn, Verbalizer

UPRIGHT = math.radians(10)
"""Pendulum: how far from upright it may be at the end, to have been swung up."""
AT_REST = 1.0
"""Pendulum: how fast it may turn then, in radians a second."""


def rounded(value: float, decimals: int) -> str:
    """Return a number's size, its sign left out, rounded to decimals: "0.31", "2", "0"."""
    text = f"{abs(value):.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def sided(value: float, names: tuple[str, str], of: str, *, decimals: int = 2) -> str:
    """Return on which side of something a number lies: "0.31 left of the pad", "at the pad"."""
    size = rounded(value, decimals)
    return f"at {of}" if size == "0" else f"{size} {names[value > 0]} {of}"


def moving(
    verb: str,
    speed: float,
    names: tuple[str, str],
    steps: tuple[float, float],
    unit: str = "",
    *,
    decimals: int = 2,
) -> str:
    """Return a speed in words: "falling right fast at 61 degrees a second".

    Args:
        verb: what it does.
        speed: positive towards the second name.
        names: the two directions.
        steps: up to the first it is slow, beyond the second fast.
        unit: stands behind the number.
        decimals: of the number.
    """
    size = rounded(speed, decimals)
    if size == "0":
        return f"not {verb}"
    slow, fast = steps
    pace = " slowly" if abs(speed) < slow else " fast" if abs(speed) > fast else ""
    return f"{verb} {names[speed > 0]}{pace} at {size}{unit}"


def turning(verb: str, speed: float, names: tuple[str, str], steps: tuple[float, float]) -> str:
    """Return a speed in radians a second in words, as `moving` does, in degrees a second."""
    return moving(verb, math.degrees(speed), names, steps, " degrees a second", decimals=0)


def leaning(angle: float, names: tuple[str, str]) -> str:
    """Return an angle in radians in words: "2.3 degrees left"."""
    size = rounded(math.degrees(angle), 1)
    return "0 degrees" if size == "0" else f"{size} degrees {names[angle > 0]}"


class VectorVerbalizer(Verbalizer):
    """A verbalizer for an environment that shows a vector of real numbers, which becomes `numbers`.

    Attributes:
        episode: the rewards and steps of the running episode.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        self.episode = EpisodeReturn(env)
        super().__init__(self.episode)
        self._auxiliary = AuxiliaryObservations(env.observation_space)
        self._discrete = isinstance(env.action_space, spaces.Discrete)

    def spaces(self) -> dict[str, Space[Any]]:
        """Return the space of `numbers`."""
        return self._auxiliary.spaces

    def auxiliary(self, observation: Any) -> dict[str, Any]:
        """Return the exact vector."""
        return self._auxiliary(observation)


SIDES = ("left", "right")
BESIDE = ("left of", "right of")
TURNS = ("clockwise", "counter-clockwise")


class CartPoleVerbalizer(VectorVerbalizer):
    """How the pole leans and falls, and where the cart is and goes.

    Success is to have kept the pole up for as many steps as the environment's reward threshold says (475 of 500, or 195
    of 200), or as a shorter time limit allows.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        limits = (env.spec.reward_threshold, env.spec.max_episode_steps) if env.spec is not None else ()
        # With `sutton_barto_reward` the threshold may be meant for other rewards, and 0 or less.
        self._steps_needed = min((limit for limit in limits if limit is not None and limit > 0), default=None)

    def instruction(self, observation: Any) -> str:
        """Return the one task."""
        return "keep the pole upright on the cart"

    def observation(self, observation: Any) -> str:
        """Return the pole's lean and fall and the cart's place and speed."""
        place, speed, angle, falling = observation.tolist()
        return (
            f"pole leans {leaning(angle, SIDES)}, {turning('falling', falling, SIDES, (10, 50))}; "
            f"cart {sided(place, BESIDE, 'the middle')}, {moving('moving', speed, SIDES, (0.2, 1))}"
        )

    def action_texts(self) -> tuple[str, ...]:
        """Return the two pushes."""
        return ("push left", "push right")

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the pole stayed up for long enough."""
        if self._steps_needed is None:
            return not terminated
        return self.episode.steps >= self._steps_needed


class MountainCarVerbalizer(VectorVerbalizer):
    """Where the car is in the valley and how it rolls; with actions that are words or, in the continuous one, a force.

    Success is to have reached the flag: nothing else ends an episode by the environment's own rules.
    """

    BOTTOM = -math.pi / 6
    """Where the valley, sin(3x), is lowest."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        car: Any = env.unwrapped
        self._flag = float(car.goal_position)

    def instruction(self, observation: Any) -> str:
        """Return the one task."""
        return "swing to and fro until the car gets up to the flag on the right hill"

    def observation(self, observation: Any) -> str:
        """Return the car's place between the valley's bottom and the flag, and how it rolls."""
        place, speed = observation.tolist()
        return (
            f"car {sided(place - self.BOTTOM, BESIDE, 'the bottom')}, {sided(place - self._flag, BESIDE, 'the flag')}; "
            f"{moving('rolling', speed, SIDES, (0.01, 0.03), decimals=4)}"
        )

    def action_texts(self) -> tuple[str, ...] | None:
        """Return the three things that a car does; a continuous force has no words."""
        return ("drive left", "let it roll", "drive right") if self._discrete else None

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the flag was reached."""
        return terminated


class AcrobotVerbalizer(VectorVerbalizer):
    """How the two links hang and turn, and how high the tip is. Success is to have swung it over the line.

    Angles are counted counter-clockwise, the upper link's from straight down and the lower one's from the upper one's.
    """

    def instruction(self, observation: Any) -> str:
        """Return the one task."""
        return "swing the tip of the lower link above the line"

    def observation(self, observation: Any) -> str:
        """Return the two angles and their speeds, and how far the tip is below the line."""
        cos_1, sin_1, cos_2, sin_2, speed_1, speed_2 = observation.tolist()
        upper, lower = math.atan2(sin_1, cos_1), math.atan2(sin_2, cos_2)
        height = -cos_1 - math.cos(upper + lower)
        return (
            f"tip {sided(height - 1, ('below', 'above'), 'the line')}; "
            f"upper link {leaning(upper, TURNS)}, {turning('turning', speed_1, TURNS, (30, 120))}; "
            f"lower link bent {leaning(lower, TURNS)}, {turning('turning', speed_2, TURNS, (60, 240))}"
        )

    def action_texts(self) -> tuple[str, ...]:
        """Return the three ways to turn the joint between the links."""
        return ("turn the joint clockwise", "let the joint hang", "turn the joint counter-clockwise")

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the tip got above the line: nothing else ends an episode by the environment's own rules."""
        return terminated


class PendulumVerbalizer(VectorVerbalizer):
    """How the pendulum stands and turns. Success is that it stands upright and nearly still when the time is over."""

    def instruction(self, observation: Any) -> str:
        """Return the one task."""
        return "swing the pendulum up and keep it upright"

    def observation(self, observation: Any) -> str:
        """Return how far it is from upright, and how it turns."""
        cos, sin, speed = observation.tolist()
        lean = leaning(math.atan2(sin, cos), ("right", "left"))  # counter-clockwise from the top is to the left
        return f"pendulum {lean} of upright, {turning('turning', speed, TURNS, (60, 240))}"

    def action_texts(self) -> None:
        """Return None: a torque has no words."""
        return

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether it stands upright (`UPRIGHT`) and nearly still (`AT_REST`)."""
        angle, speed = self.env.unwrapped.state  # type: ignore[attr-defined]
        from_upright = math.remainder(float(angle), 2 * math.pi)
        return abs(from_upright) <= UPRIGHT and abs(float(speed)) <= AT_REST
