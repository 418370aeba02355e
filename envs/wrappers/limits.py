"""Limits of an episode, in steps and in seconds. They truncate, so that learners bootstrap there, and never terminate.

Gymnasium's `TimeLimit` says `truncated` also where an episode ends by its own rules on the last allowed step, and knows
nothing of `info["is_success"]`; the contract wants both.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import gymnasium

from heed.envs.contract import speaks_language


class EpisodeLimit(gymnasium.Wrapper[Any, Any, Any, Any], ABC):
    """Truncates an episode that goes on beyond a limit.

    Args:
        env: an environment. Around one that speaks, an episode that was cut has not succeeded unless the environment
            says so on that step; of any other its verbalizer, which goes around this, decides.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self._speaks = speaks_language(env)

    @abstractmethod
    def begin(self) -> None:
        """Measure anew."""

    @abstractmethod
    def cut(self) -> dict[str, Any] | None:
        """Return what `info` is to say where the limit is reached with the step that was done now, else None."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        result = self.env.reset(seed=seed, options=options)
        self.begin()
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act; at the limit, end the episode if it has not ended by itself."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        told = self.cut()
        if told is None or terminated or truncated:
            return observation, reward, bool(terminated), bool(truncated and not terminated), info
        success = {"is_success": False} if self._speaks else {}
        return observation, reward, False, True, {**success, **info, **told}


class StepLimit(EpisodeLimit):
    """Truncates an episode after a number of steps; `info["step_limit"]` is that number then.

    Args:
        env: as in `EpisodeLimit`.
        steps: how many, at least 1.

    Raises:
        ValueError: if there are fewer.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], steps: int):
        if steps < 1:
            raise ValueError(f"An episode's limit must be at least 1 step, but is {steps}.")
        super().__init__(env)
        self.steps = steps
        self._done = 0

    def begin(self) -> None:
        """Count from 0."""
        self._done = 0

    def cut(self) -> dict[str, Any] | None:
        """Count the step."""
        self._done += 1
        return {"step_limit": self.steps} if self._done >= self.steps else None


class EpisodeTimeLimit(EpisodeLimit):
    """Truncates an episode with the first step that ends after so many seconds of wall time.

    `info["time_limit"]` is then how many seconds the episode took. A step that hangs is not interrupted. Where such a
    limit cuts depends on the machine and what else it does: the same seed and actions give no longer the same episode,
    and a training that is resumed goes on exactly only if no episode was cut. Prefer a `StepLimit` where one will do.

    Args:
        env: as in `EpisodeLimit`.
        seconds: how long an episode may take, from the end of its reset on; more than 0.
        clock: gives seconds; the time of day may be set back, so it is not the default.

    Raises:
        ValueError: if `seconds` is not positive.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], seconds: float, *, clock: Callable[[], float] = time.monotonic):
        if not seconds > 0:
            raise ValueError(f"An episode's time must be more than 0 seconds, but is {seconds}.")
        super().__init__(env)
        self.seconds = seconds
        self._clock = clock
        self._began = 0.0

    def begin(self) -> None:
        """Look at the clock."""
        self._began = self._clock()

    def cut(self) -> dict[str, Any] | None:
        """Look at the clock again."""
        taken = self._clock() - self._began
        return {"time_limit": taken} if taken > self.seconds else None
