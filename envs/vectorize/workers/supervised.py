"""One process of a `ProcessLanguageVecEnv`, as seen by the one that asks it: started, asked, watched, started again."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import time
from typing import Any

import numpy as np

from heed.envs.faults import LostEpisode
from heed.envs.vectorize.stacking import Observations
from heed.envs.vectorize.workers.calls import CallKey
from heed.envs.vectorize.workers.starting import start_worker, worker_context
from heed.envs.vectorize.workers.worker import (
    NUMBERS_ONLY,
    RETRIED,
    STAY,
    STEP,
    Answer,
    Request,
    ShareArguments,
    SharedCallBoard,
    serve,
)

GRACE = 1.0
"""Seconds after a call's time is up in which the process itself may end it, before it is killed."""

STARTING = 300.0
"""Seconds in which a process must have started, beside the time that its environments may take."""

LONGEST_WAIT = 1.0
"""Seconds after which a process is looked at again."""


class SupervisedProcess:
    """A process with its share of the environments; it starts at once.

    Args:
        arguments: what it makes the environments with.
        seed: of the episodes.
        indices: which environments of the vector they are.
    """

    def __init__(self, arguments: ShareArguments, seed: int, indices: list[int]):
        self.arguments = arguments
        self.indices = indices
        self.positions: dict[str, Any] = {"seed": seed}
        """Where its environments are, as of its last answer."""
        self.observations: Observations | None = None
        """What they gave last."""
        self.revived = False
        """Whether it was started again for its last answer."""
        self.restarts = 0
        """How often it was, for that."""
        self._context = worker_context()
        self._numbers = self._context.RawArray("d", 4)
        self.board = SharedCallBoard(self._numbers)
        self._request: Request | None = None
        self._unanswered: dict[int, Request] = {}
        self._late_events: list[LostEpisode | None] = []
        self._number = 0
        self._tells_fulfilled = False
        self._failure: RuntimeError | None = None
        self._was_dead = False
        self._start()

    def _start(self) -> None:
        self.board.clear()
        self.pipe, theirs = self._context.Pipe()
        arguments = (theirs, self.arguments, self.positions["seed"], self._numbers)
        self.process = start_worker(self._context, serve, arguments)
        theirs.close()
        self._started = False
        making = self.arguments.reset_timeout
        self._start_until = math.inf if making is None else time.monotonic() + STARTING + making * len(self.indices)

    def send(self, request: Request) -> None:
        """Ask for something; `take` gives the answer."""
        self._number += 1
        request = dataclasses.replace(request, number=self._number)
        self._request, self._failure = request, None
        self._unanswered[request.number] = request
        self.revived, self.restarts = False, 0
        self._was_dead = not self.process.is_alive()
        with contextlib.suppress(OSError):  # the process is dead, which `take` finds
            self.pipe.send(request)

    def take(self) -> Answer | None:
        """Return what has come; None if that was no answer yet.

        Raises:
            EOFError, OSError: if the process is dead.
        """
        answer: Answer = self.pipe.recv()
        if not self._started and self._request is not None and answer.error is None:  # started again
            self._started = True
            self.pipe.send(self._request)
            return None
        self._started = True
        request = self._unanswered.pop(answer.number, None)
        if request is not None and request.method == STEP and answer.error is None:
            self._stepped(request.arguments[0], answer.value)
        elif answer.positions is not None:
            self.positions = answer.positions
        if request is not None and request.method == "tell_fulfilled_instructions" and answer.error is None:
            self._tells_fulfilled = request.arguments[0]
        answer = dataclasses.replace(answer, events=(*self._late_events, *answer.events))
        if self._request is not None and answer.number not in (0, self._request.number):
            self._late_events = list(answer.events)  # who asked for it was interrupted, and asks for something else now
            return None
        self._late_events.clear()
        return answer if self._failure is None else dataclasses.replace(answer, error=self._failure)

    def _stepped(self, actions: list[Any], value: tuple[Any, ...]) -> None:
        """Take in where the environments are after a step."""
        _, _, dones, _, _, numbers = value
        histories = self.positions["actions"]
        for index, action in enumerate(actions):
            if dones[index]:
                histories[index] = []
            else:
                histories[index].append(action.tolist() if isinstance(action, np.ndarray) else action)
        self.positions.update(numbers)

    @property
    def patience(self) -> float:
        """Seconds to wait for an answer before it is looked whether the process still does what it should."""
        return min(LONGEST_WAIT, max(0.0, self._until - time.monotonic()) + 1e-3)

    @property
    def hangs(self) -> bool:
        """Whether a call takes longer than it may, and its own process has not ended it."""
        return time.monotonic() > self._until

    @property
    def _until(self) -> float:
        return self.board.deadline + GRACE if self._started else self._start_until

    def end(self, *, hangs: bool) -> tuple[CallKey | None, str]:
        """End the process, if it has not ended by itself, with all that it has started.

        Args:
            hangs: whether it did not answer.

        Returns:
            The call that was its end, if one was, and the reason in words.
        """
        self._kill()
        call = self.board.call
        if not hangs:
            return call, f"ProcessError: the environment's process died, {_exit(self.process.exitcode)}"
        if call is None:
            return call, "HangError: the environment's process did not start"
        arguments = self.arguments
        what, limit = ("step", arguments.step_timeout) if call[2] else ("reset", arguments.reset_timeout)
        return call, f"HangError: {what} did not return within {limit:g} s, and could not be interrupted"

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # not yet, or no longer, a group of its own
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def start_again(self, call: CallKey | None, reason: str) -> bool:
        """Start the process anew, and ask it again what it has not answered, from where its environments were.

        Args:
            call: that is not made again.
            reason: why not.

        Returns:
            False if it has not been asked for anything yet: then it is not started.
        """
        request = self._request
        if request is None:
            return False
        self.restarts += 1
        self.revived = True
        if request.method not in RETRIED and not self._was_dead and self._failure is None:
            self._failure = RuntimeError(f"{reason}. It is started again, but was not asked again.")
        called_off = request.called_off if call is None else (*request.called_off, (call, reason))
        self._request = request = dataclasses.replace(
            request,
            method=STAY if self._failure is not None else request.method,
            positions=self.positions,
            # Where nothing goes on there is nothing to play again.
            numbers_only=request.method in NUMBERS_ONLY or self.observations is None,
            expected=self.observations,
            tells_fulfilled=self._tells_fulfilled,
            called_off=called_off,
        )
        self._unanswered = {request.number: request}
        self._start()
        return True

    def close(self, until: float) -> None:
        """End the process; it may do so by itself up to a time by `time.monotonic`."""
        self.process.join(timeout=max(0.0, until - time.monotonic()))
        if self.process.is_alive():
            self._kill()
        self.pipe.close()


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"with exit status {code}"
