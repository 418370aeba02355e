"""The checks where actions change from state to state."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import pytest
from gymnasium import spaces

from heed.envs.checks import check_env
from heed.envs.contract import ChangingActions, language_space
from tests.envs.walk import faults, reader


class Doors(gymnasium.Env[Any, Any]):
    """Actions that change: a corridor of rooms, each with other doors; one of them is the one to take."""

    def __init__(self) -> None:
        self.observation_space: Any = language_space(changing_actions=True)
        self.action_space: Any = ChangingActions(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.color = ("red", "blue", "green")[self.np_random.integers(3)]
        self.rooms = 3
        return self.perceive(), {}

    def doors(self) -> tuple[str, ...]:
        return ("red door", "blue door", "green door")[: self.rooms] if self.rooms > 1 else (f"{self.color} door",)

    def perceive(self) -> Any:
        return {"instruction": f"take {self.color}", "observation": f"{self.rooms} rooms left", "actions": self.doors()}

    def step(self, action: Any) -> Any:
        self.check(action)
        taken = self.doors()[min(int(action), len(self.doors()) - 1)]
        self.rooms -= 1
        ended = self.rooms == 0
        success = ended and taken.startswith(self.color)
        return self.perceive() if self.rooms else self.last(), float(success), ended, False, {"is_success": success}

    def last(self) -> Any:
        return {"instruction": f"take {self.color}", "observation": "outside", "actions": ("wait",)}

    def check(self, action: Any) -> None:
        if action >= len(self.doors()):
            raise ValueError("no such door")


def test_changing_actions_pass() -> None:
    checks = {check.name: check for check in check_env(Doors, reader=reader())}
    assert [check for check in checks.values() if not check.passed] == []
    assert checks["actions"].detail == "ChangingActions(3): each observation lists its own"
    assert checks["actions change"].detail.endswith("of 1 to 3 actions")
    assert checks["actions change"].outcome == "pass"
    assert checks["action texts differ as tokens"].detail.startswith("4 texts of")


@pytest.mark.parametrize(
    ("attributes", "name", "detail"),
    [
        ({"doors": lambda self: ("red door", "red door")}, "reset and step", "share the text 'red door'"),
        ({"doors": lambda self: ["red door"]}, "reset and step", "must be a tuple of strings"),
        ({"doors": lambda self: ()}, "reset and step", "lists 0 actions"),
        ({"doors": lambda self: tuple("abcd")}, "reset and step", "lists 4 actions"),
        ({"action_space": spaces.Discrete(3)}, "actions", "where observations do list `actions`"),
        ({"observation_space": language_space()}, "actions", "where observations do not list `actions`"),
        (
            {"doors": lambda self: ("red door", "blue door"), "check": lambda self, action: None},
            "actions change",
            r"step\(2\) was taken, but the observation listed only 2 actions, 0 to 1",
        ),
    ],
)
def test_fault_of_changing_actions_is_found(attributes: Any, name: str, detail: str) -> None:
    class Broken(Doors):
        def __init__(self) -> None:
            super().__init__()
            for key in ("action_space", "observation_space"):
                setattr(self, key, attributes.get(key, getattr(self, key)))

    for key, value in attributes.items():
        if callable(value):
            setattr(Broken, key, value)
    (fault,) = [check for check in faults(Broken) if check.name != "Gymnasium's own check"]
    assert fault.name == name
    assert re.search(detail, fault.detail)


def test_same_list_for_the_same_seed() -> None:
    class Unsteady(Doors):
        resets = 0

        def reset(self, **options: Any) -> Any:
            type(self).resets += 1
            return super().reset(**options)

        def doors(self) -> tuple[str, ...]:
            return tuple(f"door {number} of reset {self.resets}" for number in range(3))

    (fault,) = [check for check in faults(Unsteady) if check.name != "Gymnasium's own check"]
    assert fault.name == "same seed, same episode"
    assert "door 0 of reset" in fault.detail
