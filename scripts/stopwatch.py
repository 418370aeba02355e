"""Where the time of a training goes, phase by phase, measured from outside by wrapping what each phase calls."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any


class Stopwatch:
    """Adds up the seconds of named phases. A phase inside another is taken off the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []  # for each open phase, the seconds of the phases inside it

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is done inside as phase `name`."""
        began = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - began
            inside = self._inner.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed - inside
            if self._inner:
                self._inner[-1] += elapsed

    @contextlib.contextmanager
    def around(self, owner: Any, method: str, name: str | Callable[[], str]) -> Iterator[None]:
        """Time every call of `owner.method` as phase `name`, or as what `name()` says at the time."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name if isinstance(name, str) else name()):
                return original(*args, **kwargs)

        setattr(owner, method, timed)
        try:
            yield
        finally:
            setattr(owner, method, original)
