"""The one place that all metrics of a training go through, on their way to whoever writes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

from heed.training.tracking.system import SystemMetrics


@dataclass(frozen=True, kw_only=True)
class SampleEpisode:
    """An episode that the agent played to be looked at."""

    gif: bytes
    """Moving, as `heed.evaluation.explanation.recording` draws it."""
    text: str
    """What was seen and done, step by step, as plain text."""
    caption: str
    """What happens in it, in a line."""
    metrics: dict[str, float]
    """Its return, length and success."""


class EpisodeWriter(KVWriter):
    """A writer that can show episodes too."""

    @abstractmethod
    def write_episode(self, episode: SampleEpisode, step: int) -> None:
        """Write an episode that was played after `step` steps of the training."""


class Tracking(KVWriter):
    """Adds what the machine does to what the training logs, and hands both on to every writer.

    Args:
        writers: each knows one place, and nothing of the others.
        system: measures the machine.
    """

    def __init__(self, writers: Sequence[KVWriter], system: SystemMetrics):
        self._writers = tuple(writers)
        self._system = system

    def begin(self, step: int) -> None:
        """Take notice that the training begins, or goes on, after `step` steps."""
        self._system.begin(step)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Write one point of every metric; SB3 calls this.

        Args:
            key_values: metric -> value.
            key_excluded: metric -> names of the formats that leave it out.
            step: environment steps.
        """
        measured = self._system.measure(step)
        values = {**key_values, **measured}
        excluded = {**key_excluded, **dict.fromkeys(measured, ("",))}
        for writer in self._writers:
            writer.write(values, excluded, step)

    def write_episode(self, episode: SampleEpisode, step: int) -> None:
        """Show an episode wherever that can be."""
        for writer in self._writers:
            if isinstance(writer, EpisodeWriter):
                writer.write_episode(episode, step)

    def close(self) -> None:
        """Close all writers."""
        for writer in self._writers:
            writer.close()


def numbers_of(key_values: dict[str, Any]) -> dict[str, float]:
    """Return those metrics that are numbers, in the order of their names."""
    return {
        key: float(value)
        for key, value in sorted(key_values.items())
        if isinstance(value, int | float | np.number) and not isinstance(value, bool)
    }
