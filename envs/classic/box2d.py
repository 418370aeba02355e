"""Gymnasium's LunarLander in words; `pip install "gymnasium[box2d]"` brings what simulates it.

lander 0.31 left of the pad, 0.92 high; drifting right slowly at 0.05, falling at 0.4; tilted 5 degrees left,
turning right slowly at 3 degrees a second; both legs in the air
"""

from __future__ import annotations

from typing import Any

from heed.envs.classic.classic_control import BESIDE, SIDES, VectorVerbalizer, leaning, moving, sided, turning

_TILTS = ("right", "left")
"""Angles are counted counter-clockwise: a positive one tilts the lander to the left."""
LEGS = {
    (False, False): "both legs in the air",
    (True, False): "right leg on the ground",  # the first one that Box2D hangs on is on the right
    (False, True): "left leg on the ground",
    (True, True): "both legs on the ground",
}


class LunarLanderVerbalizer(VectorVerbalizer):
    """Where the lander is seen from the pad, how it moves and tilts, and which legs stand on the ground.

    Success is a return of at least the environment's threshold, 200: landed on the pad, without much fuel. Without a
    threshold it is to have come to rest.
    """

    def instruction(self, observation: Any) -> str:
        """Return the one task."""
        return "land gently on the pad, upright on both legs"

    def observation(self, observation: Any) -> str:
        """Return the lander's place, speed and tilt, and its legs."""
        right, high, drift, climb, angle, spin, first_leg, second_leg = observation.tolist()
        return (
            f"lander {sided(right, BESIDE, 'the pad')}, {sided(high, ('below', 'above'), 'its height')}; "
            f"{moving('drifting', drift, SIDES, (0.1, 0.4))}, "
            f"{moving('moving', climb, ('down', 'up'), (0.1, 0.5))}; "
            f"tilted {leaning(angle, _TILTS)}, {turning('turning', self._radians(spin), _TILTS, (5, 20))}; "
            f"{LEGS[first_leg > 0.5, second_leg > 0.5]}"
        )

    def action_texts(self) -> tuple[str, ...] | None:
        """Return the four things that its engines do; those of the continuous lander have no words."""
        return ("do nothing", "push left", "fire the main engine", "push right") if self._discrete else None

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the return reached the threshold."""
        threshold = self.env.spec.reward_threshold if self.env.spec is not None else None
        return terminated and reward > 0 if threshold is None else self.episode.value >= threshold

    @staticmethod
    def _radians(spin: float) -> float:
        """Return the angular velocity in radians a second: the environment shows 20 times that of a frame of 1/50 s."""
        return spin * 50 / 20
