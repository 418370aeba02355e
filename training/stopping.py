"""Ending a training from outside: a signal ends it where it can be continued exactly."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from heed.agents.distributed.ranks import ALONE, Ranks

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers and `kill` send."""
STATUS_OF_SIGNALS = 128
"""Added to a signal's number, it is the exit status of a command that the signal ended, as in shells."""


INTERRUPTED = STATUS_OF_SIGNALS + signal.SIGINT
"""The status where Ctrl-C came before there was anything to be saved."""


class TrainingStopped(Exception):  # noqa: N818 - it is no error
    """The training ends between two rollouts, since a signal asked for it."""


class StopOnSignal(BaseCallback):
    """Ends the training after the running rollout and its update, when Ctrl-C or SIGTERM has come.

    There a checkpoint continues exactly: the training that is resumed is the one that nobody stopped. A second signal
    raises `KeyboardInterrupt` at once, and a third does what the system does by itself. `learn` belongs into
    `stopped_there`.

    Args:
        ranks: the processes that train together. All of them end there, whichever the signal has come to.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        super().__init__()
        self._ranks = ranks
        self.received: signal.Signals | None = None
        """The first signal that came."""
        self.at_once = False
        """Whether a second one came."""
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def status(self) -> int:
        """The exit status that tells of the signal."""
        return STATUS_OF_SIGNALS + (self.received or 0)

    def __enter__(self) -> StopOnSignal:
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stopped_there(self) -> contextlib.AbstractContextManager[None]:
        """Return the context that `learn` leaves when it is ended here."""
        return contextlib.suppress(TrainingStopped)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            self.at_once = True
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        if not self._ranks.several:  # a launcher also sends it to those that are left, when one has died
            self._tell("the training ends after this rollout, with a checkpoint. Again: at once.")

    def _tell(self, what: str) -> None:
        assert self.received is not None
        # Not through a console, which may be in the middle of a line of its own, and holds a lock.
        os.write(2, f"\n{self.received.name}: {what}\n".encode())

    def _on_rollout_start(self) -> None:
        number = self._ranks.most(self.received or 0)
        if not number:
            return
        self.received = signal.Signals(number)
        if self._ranks.several and self._ranks.is_first:
            self._tell(f"the {self._ranks.count} processes end here, with a checkpoint.")
        raise TrainingStopped

    def _on_step(self) -> bool:
        return True
