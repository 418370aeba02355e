"""Where the time of a training goes, phase by phase, measured from outside by wrapping what each phase calls."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any


class Stopwatch:
    """Adds up the seconds of named phases. A phase inside another is taken off the outer one.

    Args:
        wait: is called before each look at the clock, to wait for what runs beside the program, as a GPU does.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = {}
        self._wait = wait
        self._inner: list[float] = []  # for each open phase, the seconds of the phases inside it

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is done inside as phase `name`."""
        began = self._now()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = self._now() - began
            inside = self._inner.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed - inside
            if self._inner:
                self._inner[-1] += elapsed

    @contextlib.contextmanager
    def around(self, owner: Any, method: str, name: str | Callable[[], str]) -> Iterator[None]:
        """Time every call of `owner.method` as phase `name`, or as what `name()` says at the time."""
        original = getattr(owner, method)
        own = method in vars(owner)  # not where it comes from an instance's class, or from a class's parent

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name if isinstance(name, str) else name()):
                return original(*args, **kwargs)

        setattr(owner, method, timed)
        try:
            yield
        finally:
            if own:
                setattr(owner, method, original)
            else:
                delattr(owner, method)

    def _now(self) -> float:
        self._wait()
        return time.perf_counter()
