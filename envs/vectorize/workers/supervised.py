"""One worker of a `ProcessLanguageVecEnv`, as seen by the process that asks it: started, asked, watched, restarted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from typing import Any

import numpy as np

from heed.envs.faults import LostEpisode
from heed.envs.vectorize.stacking import Observations
from heed.envs.vectorize.workers.calls import CallKey
from heed.envs.vectorize.workers.messages import NUMBERS_ONLY, RETRIED, STAY, STEP, Answer, Request, ShareArguments
from heed.envs.vectorize.workers.transport import Transport

GRACE = 1.0
"""Seconds after a call's time is up in which the worker itself may end it, before it is killed."""

STARTING = 300.0
"""Seconds in which a worker must have started, beside the time that its environments may take."""

LONGEST_WAIT = 1.0
"""Seconds after which a worker is looked at again."""


class SupervisedWorker:
    """A worker with its share of the environments; it starts at once.

    Args:
        transport: starts it, and starts it again.
        arguments: what it makes the environments with.
        indices: which environments of the vector they are.
    """

    def __init__(self, transport: Transport, arguments: ShareArguments, indices: list[int]):
        self.arguments = arguments
        self.indices = indices
        self.positions: dict[str, Any] = {"seed": arguments.seed}
        """Where its environments are, as of its last answer."""
        self.observations: Observations | None = None
        """What they gave last."""
        self.revived = False
        """Whether it was started again for its last answer."""
        self.restarts = 0
        """How often it was, for that."""
        self._transport = transport
        self._request: Request | None = None
        self._unanswered: dict[int, Request] = {}
        self._late_events: list[LostEpisode | None] = []
        self._number = 0
        self._tells_fulfilled = False
        self._failure: RuntimeError | None = None
        self._was_dead = False
        self._start()

    def _start(self) -> None:
        self.connection = self._transport.start(dataclasses.replace(self.arguments, seed=self.positions["seed"]))
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
        self._was_dead = not self.connection.alive
        with contextlib.suppress(OSError):  # the worker is gone, which `take` finds
            self.connection.send(request)

    def take(self) -> Answer | None:
        """Return what has come; None if that was no answer yet.

        Raises:
            EOFError, OSError: if the worker is gone.
        """
        answer = self.connection.receive()
        if not self._started and self._request is not None and answer.error is None:  # started again
            self._started = True
            self.connection.send(self._request)
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
        """Seconds to wait for an answer before it is looked whether the worker still does what it should."""
        return min(LONGEST_WAIT, max(0.0, self._until - time.monotonic()) + 1e-3)

    @property
    def hangs(self) -> bool:
        """Whether a call takes longer than it may, and the worker itself has not ended it."""
        return time.monotonic() > self._until

    @property
    def _until(self) -> float:
        return self.connection.deadline + GRACE if self._started else self._start_until

    def end(self, *, hangs: bool) -> tuple[CallKey | None, str]:
        """End the worker, if it has not ended by itself, with all that it has started.

        Args:
            hangs: whether it did not answer.

        Returns:
            The call that was its end, if one was, and the reason in words.
        """
        how = self.connection.end()
        call = self.connection.call
        if not hangs:
            return call, f"ProcessError: the environment's process died, {how}"
        if call is None:
            return call, "HangError: the environment's process did not start"
        arguments = self.arguments
        what, limit = ("step", arguments.step_timeout) if call[2] else ("reset", arguments.reset_timeout)
        return call, f"HangError: {what} did not return within {limit:g} s, and could not be interrupted"

    def start_again(self, call: CallKey | None, reason: str) -> bool:
        """Start the worker anew, and ask it again what it has not answered, from where its environments were.

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
