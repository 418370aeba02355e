"""What vectors of environments refuse: times, actions, and episodes that do not come back as they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from heed.envs.contract import ChangingActions
from heed.envs.faults import FaultError
from heed.envs.vectorize.stacking import Observations


def check_timeouts(step_timeout: float | None, reset_timeout: float | None) -> None:
    """Refuse times that cannot be.

    Raises:
        ValueError: if one is not positive.
    """
    for name, seconds in (("step_timeout", step_timeout), ("reset_timeout", reset_timeout)):
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name} is {seconds}, but must be positive, or None for no limit.")


def require_action(space: spaces.Space[Any], observations: Observations, index: int, action: Any) -> None:
    """Refuse the number of an action that there is not: a fault of who acts, not of the environment.

    Raises:
        ValueError: naming it.
    """
    if not isinstance(space, spaces.Discrete):
        return
    changing = isinstance(space, ChangingActions) and observations
    most = len(observations["actions"][index]) if changing else int(space.n)
    if not space.start <= action < space.start + most:
        raise ValueError(f"Unknown action: {action}, for environment {index}, which has {most} actions now.")


def require_words(observation: Mapping[str, Any], expected: Observations, index: int) -> None:
    """Refuse an episode that was played again and has other words: a fault of its environment.

    Raises:
        FaultError: naming what differs.
    """
    for key in ("instruction", "observation", "actions"):
        if key in expected and observation[key] != expected[key][index]:
            raise FaultError(f"played again, its {key} came out differently: the episode does not follow from its seed")
