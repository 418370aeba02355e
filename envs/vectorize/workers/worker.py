"""What runs in each process of a `ProcessLanguageVecEnv`: a `LanguageVecEnv` that answers requests.

Its episodes are lost and begun there; the process that asks keeps the counts, from the events that come with each
answer. And it can see, in memory that both share, which call of which environment is going on: so it knows whose fault
it is when an answer does not come.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from traceback import format_exc
from typing import Any

from heed.envs.faults import LostEpisode, TooManyLostEpisodesError
from heed.envs.vectorize.in_process import EnvFactory, LanguageVecEnv
from heed.envs.vectorize.stacking import Observations
from heed.envs.vectorize.workers.calls import CallKey
from heed.envs.vectorize.workers.likeness import Likeness
from heed.envs.vectorize.workers.registered import Registered

_INDEX, _EPISODE, _STEP, _DEADLINE = range(4)
NOBODY = -1.0


class SharedCallBoard:
    """Tells another process which environment is being called, and until when it may take.

    Args:
        numbers: four doubles in shared memory. The deadline is written last, and taken back first, so whoever reads one
            that is over finds the call that it belongs to.
    """

    def __init__(self, numbers: Any):
        self._numbers = numbers
        self.clear()

    def begin(self, call: CallKey, limit: float | None) -> None:
        """Take in that a call begins, which may take so many seconds."""
        numbers = self._numbers
        numbers[_EPISODE], numbers[_STEP] = call[1], call[2]
        numbers[_INDEX] = call[0]
        # The clock of this kind is the same in all processes of a machine.
        numbers[_DEADLINE] = math.inf if limit is None else time.monotonic() + limit

    def end(self) -> None:
        """Take in that it is over."""
        self._numbers[_DEADLINE] = math.inf
        self._numbers[_INDEX] = NOBODY

    clear = end

    @property
    def call(self) -> CallKey | None:
        """The call that is going on, or was when the process ended."""
        if self._numbers[_INDEX] == NOBODY:
            return None
        return int(self._numbers[_INDEX]), int(self._numbers[_EPISODE]), int(self._numbers[_STEP])

    @property
    def deadline(self) -> float:
        """When the call is to be over, by `time.monotonic`."""
        return float(self._numbers[_DEADLINE])


class Events:
    """Notes losses and ends of episodes until they are sent.

    Args:
        limit: episodes that may be lost here in a row, so that no reset is tried for ever.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._in_a_row = 0
        self._noted: list[LostEpisode | None] = []

    def note(self, lost: LostEpisode | None, cause: BaseException | None = None) -> None:
        """Take in an episode that was lost, or with None one that came to its end.

        Raises:
            TooManyLostEpisodesError: if that is one too many; who asks finds its own words for it.
        """
        self._noted.append(lost)
        self._in_a_row = 0 if lost is None else self._in_a_row + 1
        if self._in_a_row > self._limit:
            told = "" if lost is None else f": environment {lost.env}, seed {lost.seed}, {lost.reason}"
            raise TooManyLostEpisodesError(f"A process lost {self._in_a_row} episodes in a row{told}.") from cause

    def taken(self) -> list[LostEpisode | None]:
        """Return what was noted since."""
        noted, self._noted = self._noted, []
        return noted


@dataclass(frozen=True, kw_only=True)
class ShareArguments:
    """What a process makes its environments with."""

    factories: Sequence[EnvFactory]
    registered: Registered
    first_index: int
    group_size: int
    step_timeout: float | None
    reset_timeout: float | None
    max_lost: int
    """Of all environments of all processes."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a process is asked to do."""

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


RESET, STEP, CALL, STAY, LOSE = "_reset", "step", "_call", "_stay", "_lose"
"""Requests that are no method of `LanguageVecEnv`."""

RETRIED = (RESET, STEP, LOSE, "seed", "set_positions", "tell_fulfilled_instructions", "draw_by")
"""Requests that a process is asked again where it died of them. Of others nobody knows what they have done."""

NUMBERS_ONLY = (RESET, "set_positions")
"""Requests before which running episodes need not be brought back."""


def serve(pipe: Connection, arguments: ShareArguments, seed: int, numbers: Any) -> None:
    """Run one process: answer to each request, until there is nobody to ask."""
    # In a group of its own, it is ended together with what the environments have started, and Ctrl-C, which a terminal
    # sends to a whole group, is left to who asks.
    os.setpgrp()
    arguments.registered.register()
    try:
        share = LanguageVecEnv(
            arguments.factories,
            seed=seed,
            first_index=arguments.first_index,
            group_size=arguments.group_size,
            step_timeout=arguments.step_timeout,
            reset_timeout=arguments.reset_timeout,
            max_lost=arguments.max_lost,
        )
    except Exception as error:  # who asks raises it, whatever it is
        _send(pipe, _failed(error))
        return
    events = Events(arguments.max_lost)
    share.log_losses_to(events)
    share.board = SharedCallBoard(numbers)
    made = [Likeness.of(env.env.env) for env in share.envs]  # type: ignore[attr-defined] # within Monitor and Detached
    pipe.send(Answer(value=(share.observation_space, share.action_space, made), positions=share.get_positions()))
    # Who asks may have gone.
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while True:
            request: Request = pipe.recv()
            try:
                value = _answer(share, request)
                positions = None if request.method == STEP else share.get_positions()
                answer = Answer(value=value, events=events.taken(), positions=positions)
            except Exception as error:
                answer = _failed(error, events=events.taken(), positions=share.get_positions())
            _send(pipe, dataclasses.replace(answer, number=request.number))
            if request.method == "close":
                return


def _answer(share: LanguageVecEnv, request: Request) -> Any:
    """Do what is asked for."""
    share.called_off = dict(request.called_off)
    if request.positions is not None:
        if request.tells_fulfilled:
            share.tell_fulfilled_instructions()
        share.set_numbers(request.positions)
        if not request.numbers_only:
            share.set_positions(request.positions, request.expected)
    if request.method == STAY:
        return None
    if request.method == STEP:
        share.step_async(*request.arguments)
        return *share.step_wait(), share.reset_infos, share.get_numbers()
    if request.method == RESET:
        return share.reset(), share.reset_infos
    if request.method == LOSE:
        faults, untold = request.arguments
        return share.lose_running(faults, untold=untold), share.reset_infos
    if request.method == CALL:
        name, args, kwargs = request.arguments
        return getattr(share, name)(*args, **kwargs)
    return getattr(share, request.method)(*request.arguments)


def _failed(
    error: Exception, events: Sequence[LostEpisode | None] = (), positions: dict[str, Any] | None = None
) -> Answer:
    """Return an answer that says what was raised, as the other side will be able to rebuild it."""
    told = format_exc()
    try:
        type(error)(*error.args)
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return Answer(error=error, told=told, events=events, positions=positions)


def _send(pipe: Connection, answer: Answer) -> None:
    try:
        pipe.send(answer)
    except (EOFError, ConnectionError):
        raise
    except Exception as error:  # the answer, or its error, cannot be sent
        unsent = answer.error or error
        told = RuntimeError(f"{type(unsent).__name__}: {unsent}")
        pipe.send(dataclasses.replace(answer, value=None, error=told, told=answer.told or format_exc()))
