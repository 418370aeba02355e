"""Environments that break, in a way and at a step that follow from the episode's seed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs.contract import ChangingActions, language_space
from heed.envs.wrappers.mixture import Level, Mixture

LONG = 1000.0
"""Seconds that a hanging step would take."""


class Broken(gymnasium.Env[Any, Any]):
    """Say the word that is asked for, four times; in some episodes something breaks.

    Args:
        kind: what breaks.
        seeds: of the episodes in which it does.
        step: in which it does; 0 is the reset.
        place: a folder where environments of different processes meet, for that kind.
    """

    action_texts: Any = ("yes", "no")
    length = 4

    def __init__(self, kind: str, seeds: frozenset[int], step: int = 2, place: str = ""):
        self._place = place
        numbers = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self._changing = kind == "actions"
        self.observation_space = language_space(changing_actions=self._changing, numbers=numbers)
        self.action_space: spaces.Space[Any] = ChangingActions(2) if self._changing else spaces.Discrete(2)
        if self._changing:
            self.action_texts = None
        self._kind, self._seeds, self._breaks_in = kind, seeds, step
        self._seed = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        assert seed is not None
        self._seed, self._step = seed, 0
        self._right = int(self.np_random.integers(2))
        observation = self._perceive()
        if self._breaks:
            self._break(observation)
        return observation, {}

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._step += 1
        observation, reward = self._perceive(), float(action == self._right)
        over = self._step == self.length
        if self._breaks:
            broken = self._break(observation)
            return observation, reward if broken is None else broken, over, False, {"is_success": bool(reward)}
        return observation, reward, over, False, {"is_success": bool(reward)}

    @property
    def _breaks(self) -> bool:
        return self._seed in self._seeds and self._step == self._breaks_in

    def _perceive(self) -> dict[str, Any]:
        words = {
            "instruction": f"say {('yes', 'no')[self._right]}",
            "observation": f"step {self._step} of {self._seed}",
        }
        listed = {"actions": ("yes", "no")} if self._changing else {}
        return {**words, **listed, "numbers": np.full(2, self._step, dtype=np.float32)}

    def _break(self, observation: dict[str, Any]) -> Any:
        match self._kind:
            case "raise":
                raise ValueError("it broke")
            case "sleep":
                time.sleep(LONG)
            case "loop":
                while True:  # as some retry for ever
                    with contextlib.suppress(Exception):
                        time.sleep(0.001)
            case "native":  # as a loop in C, which Python's signals cannot end
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
                time.sleep(LONG)
            case "meet":  # nothing breaks, if the other process is at work at the same time
                Path(self._place, str(os.getpid())).touch()
                while len(os.listdir(self._place)) < 2:
                    time.sleep(0.001)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "nan":
                return float("nan")
            case "infinite":
                return float("inf")
            case "no number":
                return "much"
            case "no key":
                del observation["observation"]
            case "no text":
                observation["observation"] = None
            case "shape":
                observation["numbers"] = np.zeros(3, dtype=np.float32)
            case "not finite":
                observation["numbers"] = np.array([0, np.nan], dtype=np.float32)
            case "type":
                observation["numbers"] = np.array(["1", "2"])
            case "actions":
                observation["actions"] = ("yes", "yes")
            case "space":
                self.observation_space = language_space()
            case "action space":
                self.action_space = spaces.Discrete(3)
            case "texts":
                self.action_texts = ("yes", "perhaps")
        return None


RAISES, HANGS = 0.01, 0.001


def planned(seed: int, raises: float = RAISES, hangs: float = HANGS) -> tuple[int, int, str]:
    """Return an episode's length if nothing breaks, the step in which something does or 0, and what."""
    generator = np.random.default_rng(seed)
    length = int(generator.integers(4, 9))
    for step in range(1, length + 1):
        drawn = generator.random()
        if drawn < raises + hangs:
            return length, step, "raise" if drawn < raises else "hang"
    return length, 0, ""


class Injected(gymnasium.Env[Any, Any]):
    """Say the word that is asked for; some steps raise, some hang, as planned by the episode's seed."""

    action_texts = ("yes", "no")

    def __init__(self, raises: float = RAISES, hangs: float = HANGS):
        self.observation_space, self.action_space = language_space(), spaces.Discrete(2)
        self._rates = raises, hangs

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        assert seed is not None
        self._length, self._breaks_in, self._kind = planned(seed, *self._rates)
        self._right, self._step = int(self.np_random.integers(2)), 0
        return self._perceive(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        if self._step == self._breaks_in:
            if self._kind == "hang":
                while True:
                    time.sleep(LONG)
            raise ZeroDivisionError("injected")
        success = action == self._right
        over = self._step == self._length
        return self._perceive(), float(success), over, False, {"is_success": success}

    def _perceive(self) -> dict[str, Any]:
        return {"instruction": f"say {self.action_texts[self._right]}", "observation": f"{self._step}"}


class Stumbling(gymnasium.Env[Any, Any]):
    """Some resets raise, and some steps, as the episode's seed has it; whether it succeeds hangs on the level.

    Args:
        succeeds: how often.
    """

    action_texts = ("yes", "no")

    def __init__(self, succeeds: float):
        self.observation_space, self.action_space = language_space(), spaces.Discrete(2)
        self._succeeds = succeeds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self.np_random.random() < 0.3:
            raise RuntimeError("the reset failed")
        self._left = int(self.np_random.integers(1, 4))
        return self._perceive(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        if self.np_random.random() < 0.1:
            raise RuntimeError("the step failed")
        success = bool(self.np_random.random() < self._succeeds)
        return self._perceive(), float(success), self._left == 0, False, {"is_success": success}

    def _perceive(self) -> dict[str, Any]:
        return {"instruction": "say yes", "observation": f"{self._left} of {self._succeeds}"}


def stumbling_levels() -> Mixture:
    """Return a mixture of an easy and a hard level; which of them an episode is shows in its observations."""
    return Mixture([Stumbling(0.9), Stumbling(0.1)], [Level(env_id="easy"), Level(env_id="hard")])


gymnasium.register("Injected-v0", entry_point="tests.faulty:Injected", kwargs={"raises": 0.02, "hangs": 0.0})
