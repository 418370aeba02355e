"""What a worker is asked, what it answers, and what it makes its environments with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heed.envs.faults import LostEpisode
from heed.envs.vectorize.in_process import EnvFactory
from heed.envs.vectorize.stacking import Observations
from heed.envs.vectorize.workers.calls import CallKey
from heed.envs.vectorize.workers.registered import Registered

RESET, STEP, CALL, STAY, LOSE, CLOSE = "_reset", "step", "_call", "_stay", "_lose", "close"
"""Requests that a worker knows by name; any other is a method of `LanguageVecEnv`."""

RETRIED = (RESET, STEP, LOSE, "seed", "set_positions", "tell_fulfilled_instructions", "draw_by")
"""Requests that a worker is asked again where it died of them. Of others nobody knows what they have done."""

NUMBERS_ONLY = (RESET, "set_positions")
"""Requests before which running episodes need not be brought back."""


@dataclass(frozen=True, kw_only=True)
class ShareArguments:
    """What a worker makes its environments with: a share of those of a vector."""

    factories: Sequence[EnvFactory]
    registered: Registered
    seed: int
    first_index: int
    group_size: int
    step_timeout: float | None
    reset_timeout: float | None
    max_lost: int
    """Of all environments of all workers."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a worker is asked to do."""

    method: str
    arguments: tuple[Any, ...] = ()
    number: int = 0
    """Its answer has the same: whoever was interrupted while waiting finds that of an earlier request first."""
    positions: dict[str, Any] | None = None
    """Where to bring the environments first; None to leave them where they are."""
    numbers_only: bool = False
    """Whether only the episodes' numbers are to be taken from there, since all of them begin anew."""
    expected: Observations | None = None
    """The observations that there were."""
    tells_fulfilled: bool = False
    """Whether it is to be told, from these positions on, what steps fulfil."""
    called_off: tuple[tuple[CallKey, str], ...] = ()
    """Calls that are not to be made."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of it."""

    value: Any = None
    number: int = 0
    """Of the request; 0 of the first answer, which nobody has asked for."""
    error: Exception | None = None
    told: str = ""
    """The error's traceback."""
    events: Sequence[LostEpisode | None] = ()
    """Episodes that were lost since the last answer, and for each that came to its end None, in order."""
    positions: dict[str, Any] | None = None
    """Where the environments are; None after a step, whose answer holds what has changed."""
