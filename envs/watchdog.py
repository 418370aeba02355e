"""Interrupts a call that does not come back: what keeps an environment that hangs from stopping everything.

A timer of the operating system sends SIGALRM when the time is up, and its handler raises inside the call. That ends all
that Python itself runs or waits in: loops, `time.sleep`, sockets, subprocesses, locks. It cannot end

- native code that never comes back to the interpreter (a simulator in C that loops): the handler would have to wait
  for it. Only another process can end that, see `heed.envs.ProcessLanguageVecEnv`;
- anything outside the main thread, where Python delivers no signals, or on Windows. There a call that took too long is
  noticed when it comes back, and told in a warning.

Environments that swallow every exception (`except:`) are interrupted again, each time after as long once more.
"""

from __future__ import annotations

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec, TypeVar

TIMEOUT = 60.0
"""Seconds that a step, a reset or an expert's advice may take unless it is said."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class HangError(TimeoutError):
    """A call took longer than it may."""


class _Interrupt(BaseException):
    """Raised inside the call; no `Exception`, since environments catch those for reasons of their own."""


class Watchdog:
    """Limits the time of calls, inside a `with` block, which installs the handler once for many of them.

    Whoever else uses SIGALRM finds handler and timer as before behind the block. One may stand in a call of another.
    """

    def __init__(self) -> None:
        self._watching = False
        self._deadline = self._limit = 0.0
        # The timer is not set for every call, which would be two system calls for each: one that rings too early is
        # set again for the call that is going on.
        self._rings_at = math.inf
        self._can_interrupt = False
        self._told = False
        self._before: tuple[Any, tuple[float, float], float] = (None, (0.0, 0.0), 0.0)

    def __enter__(self) -> Watchdog:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._can_interrupt = in_main_thread and hasattr(signal, "setitimer")  # which Windows has not
        if self._can_interrupt:
            handler = signal.signal(signal.SIGALRM, self._ring)
            self._before = handler, signal.setitimer(signal.ITIMER_REAL, 0), time.monotonic()
            self._rings_at = math.inf
        return self

    def __exit__(self, *_: object) -> None:
        if not self._can_interrupt:
            return
        handler, (left, interval), since = self._before
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - since), 1e-6), interval)

    def call(
        self,
        what: str,
        limit: float | None,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        """Return what the function returns.

        Args:
            what: what is called, for the error: "step".
            limit: how long it may take, in seconds; None for as long as it likes.
            function: is called.
            arguments: of the function.
            named: of the function.

        Raises:
            HangError: if it took longer.
            Exception: whatever the function raises.
        """
        if limit is None:
            return function(*arguments, **named)
        if not self._can_interrupt:
            return self._observe(what, limit, function, *arguments, **named)
        try:
            self._limit, self._deadline = limit, time.monotonic() + limit
            self._watching = True
            if self._rings_at > self._deadline:
                self._set_timer(limit)
            try:
                return function(*arguments, **named)
            finally:
                self._watching = False
        except _Interrupt as interrupt:
            self._watching = False
            raise HangError(f"{what} did not return within {limit:g} s").with_traceback(
                interrupt.__traceback__
            ) from None

    def _set_timer(self, seconds: float) -> None:
        self._rings_at = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        self._rings_at = math.inf
        if not self._watching:
            return
        left = self._deadline - time.monotonic()
        if left > 0:
            self._set_timer(left)
            return
        self._set_timer(self._limit)  # for what swallows the exception
        raise _Interrupt

    def _observe(
        self,
        what: str,
        limit: float,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        """Call where nothing can be interrupted."""
        began = time.monotonic()
        result = function(*arguments, **named)
        if time.monotonic() - began > limit and not self._told:
            self._told = True
            warnings.warn(
                f"{what} took {time.monotonic() - began:.3g} s, longer than {limit:g} s, but outside the main thread "
                "nothing can interrupt it (this is said once). Spread the environments over processes, 2 or more.",
                stacklevel=3,
            )
        return result
