"""An environment that writes everything down: each prompt tells its level, its episode and its step.

So whoever reads what a training has stored can tell whether it belongs together. There are ids with every combination
of what an environment may have: `Ledger-A-v0`, `Ledger-B-changing-v0`, `Ledger-A-numbers-v0`,
`Ledger-B-changing-image-v0`.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs import ChangingActions, language_space

THINGS = ("red cup", "blue cup", "red hat", "blue hat")
STEPS = 5
STEP_COST = -0.125
LEVELS = ("A", "B")
ACTIONS = ("", "-changing")
SENSES = ("", "-numbers", "-image")

_SEEN = re.compile(r"level (\w) episode (\d+) step (\d+)")


def instruction_to_take(thing: str) -> str:
    return f"take the {thing}"


def name_of(level: str, *, changing: bool = False, auxiliary: str = "") -> str:
    """Return the id of a ledger, with the module that registers it."""
    return f"tests.ledger:Ledger-{level}{'-changing' if changing else ''}{auxiliary}-v0"


@dataclass(frozen=True)
class Place:
    """What one state says of itself."""

    level: str
    episode: int
    step: int


def places_in(words: str) -> list[Place]:
    """Return what a prompt, or an observation, says of itself: of a transcript all its states, the oldest first."""
    return [Place(level, int(episode), int(step)) for level, episode, step in _SEEN.findall(words)]


class Ledger(gymnasium.Env[Any, Any]):
    """Take the thing that the instruction names, within five steps; taking another one fulfils another instruction."""

    def __init__(self, level: str, *, changing: bool, auxiliary: str) -> None:
        others: dict[str, spaces.Space[Any]] = {}
        if auxiliary == "-numbers":
            others["numbers"] = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        elif auxiliary == "-image":
            others["image"] = spaces.Box(0, 255, (4, 5, 3), np.uint8)
        self.observation_space = language_space(changing_actions=changing, **others)
        self.action_space: spaces.Discrete = ChangingActions(len(THINGS)) if changing else spaces.Discrete(len(THINGS))
        if not changing:
            self.action_texts = tuple(map(instruction_to_take, THINGS))
        self._level, self._changing, self._auxiliary = level, changing, auxiliary
        self._named, self._episode, self._steps = 0, 0, 0
        self._listed: list[int] = list(range(len(THINGS)))
        self._taken: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._named, self._episode = int(self.np_random.integers(len(THINGS))), int(self.np_random.integers(10**6))
        self._steps, self._taken = 0, []
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        self._taken.append(self._listed[int(action)])
        success = self._taken[-1] == self._named
        truncated = not success and self._steps == STEPS
        reward = 1.0 if success else STEP_COST
        return self._observe(), reward, success, truncated, {"is_success": success} if success or truncated else {}

    def expert_action(self) -> int:
        return self._listed.index(self._named)

    def possible_instructions(self) -> tuple[str, ...]:
        return tuple(instruction_to_take(thing) for number, thing in enumerate(THINGS) if number != self._named)

    def impossible_instructions(self) -> tuple[str, ...]:
        return tuple(instruction_to_take(f"green {thing}") for thing in ("cup", "hat"))

    def fulfilled_instructions(self) -> dict[str, float]:
        """Tell what the newest step took for the first time; each thing would have paid 1."""
        if not self._taken or self._taken[-1] in self._taken[:-1]:
            return {}
        return {instruction_to_take(THINGS[self._taken[-1]]): 1.0}

    def _observe(self) -> dict[str, Any]:
        words = f"level {self._level} episode {self._episode} step {self._steps}"
        observation: dict[str, Any] = {"instruction": instruction_to_take(THINGS[self._named]), "observation": words}
        if self._changing:
            others = [number for number in range(len(THINGS)) if number != self._named]
            kept = others[: int(self.np_random.integers(1, len(THINGS)))]
            self._listed = [int(number) for number in self.np_random.permutation([self._named, *kept])]
            observation["actions"] = tuple(instruction_to_take(THINGS[number]) for number in self._listed)
        if self._auxiliary == "-numbers":
            observation["numbers"] = np.array([self._episode, self._steps, 0.5], dtype=np.float32)
        elif self._auxiliary == "-image":
            observation["image"] = np.full((4, 5, 3), self._episode % 256, dtype=np.uint8)
        return observation


for _level, _actions, _auxiliary in itertools.product(LEVELS, ACTIONS, SENSES):
    gymnasium.register(
        f"Ledger-{_level}{_actions}{_auxiliary}-v0",
        entry_point=Ledger,  # type: ignore[arg-type]
        kwargs={"level": _level, "changing": bool(_actions), "auxiliary": _auxiliary},
    )
