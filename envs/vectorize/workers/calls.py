"""Who is told what the environments of a process are doing, so that somebody outside of it knows."""

from __future__ import annotations

from typing import Protocol

from heed.envs.faults import LostEpisode

CallKey = tuple[int, int, int]
"""A call of an environment: its index, the number of its episode, and the number of the step, 0 for the reset."""


class CallBoard(Protocol):
    """Is told which environment is being called, so that somebody outside the process knows."""

    def begin(self, call: CallKey, limit: float | None) -> None:
        """Take in that a call begins, which may take so many seconds."""

    def end(self) -> None:
        """Take in that it is over."""


class LossLog(Protocol):
    """Takes in which episodes were lost, and which came to their end."""

    def note(self, lost: LostEpisode | None, cause: BaseException | None = None) -> None:
        """Take in an episode that was lost, or with None one that came to its end."""
