"""An environment that keeps the contract, and ways to break it, for the tests of the checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs.checks import Check, Reader, check_env
from heed.envs.contract import language_space


class Walk(gymnasium.Env[Any, Any]):
    """Keeps the contract: walk to the instructed end of a corridor. The tests break one rule of it at a time."""

    def __init__(self) -> None:
        self.observation_space: Any = language_space()
        self.action_space: Any = spaces.Discrete(2)
        self.action_texts: Any = ("left", "right")
        self.place = 0
        self.closed = False
        self.clock = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.target = 3 if self.np_random.integers(2) else -3
        self.place = int(self.np_random.integers(-1, 2))
        return self.perceive(), {}

    def step(self, action: Any) -> Any:
        self.place += 1 if action else -1
        ended = abs(self.place) >= 3
        return self.perceive(), float(self.place == self.target), ended, False, self.tell()

    def perceive(self) -> Any:
        return {"instruction": f"go to {self.target}", "observation": f"you are at {self.place}"}

    def tell(self) -> dict[str, Any]:
        return {"is_success": self.place == self.target}

    def close(self) -> None:
        self.closed = True


def changed(**attributes: Any) -> type[Walk]:
    """`Walk` with other methods, or with other attributes set after its own."""
    methods = {name: value for name, value in attributes.items() if callable(value)}
    values = {name: value for name, value in attributes.items() if not callable(value)}

    def init(self: Walk) -> None:
        Walk.__init__(self)
        for name, value in values.items():
            setattr(self, name, value)

    return type("Broken", (Walk,), {"__init__": init, **methods})


def step_with(**parts: Any) -> Any:
    """A `step` that returns something else in place of one of its five values."""

    def step(self: Walk, action: Any) -> Any:
        names = ("observation", "reward", "terminated", "truncated", "info")
        result = dict(zip(names, Walk.step(self, action), strict=True))
        return tuple({**result, **parts}.values())

    return step


def faults(env: str | Callable[[], gymnasium.Env[Any, Any]], **options: Any) -> list[Check]:
    checks = check_env(env, **options)
    assert all(check.detail and bool(check.fix) != check.passed for check in checks)
    return [check for check in checks if not check.passed]


def checked(env: Any, **options: Any) -> dict[str, Check]:
    return {check.name: check for check in check_env(env, **options)}


def reader(**changes: Any) -> Reader:
    """One token for each letter, without case, and no digits."""
    letters = " abcdefghijklmnopqrstuvwxyz-,':"

    def tokens(text: str) -> list[int]:
        return [letters.index(letter) for letter in text.lower() if letter in letters]

    parts: dict[str, Any] = {
        "name": "letters",
        "action_tokens": tokens,
        "text": lambda ids: "".join(letters[index] for index in ids),
        "prompt_tokens": lambda instruction, observation: tokens(f"{instruction} {observation}"),
        "max_prompt_tokens": 99,
        "unread_keys": lambda space: [key for key in space.spaces if key == "smell"],
    }
    return Reader(**{**parts, **changes})
