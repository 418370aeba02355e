"""Times of several ways to do the same, taken in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one measurement: the median and the quartiles over its repeats."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Summarise repeats."""
        if len(seconds) == 1:
            return cls(median=seconds[0], low=seconds[0], high=seconds[0], repeats=1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median=median, low=low, high=high, repeats=len(seconds))

    def as_json(self) -> dict[str, float]:
        """Return the numbers by name."""
        return asdict(self)

    def per_second(self, count: float) -> dict[str, float]:
        """Return how many of `count` things are done in a second."""
        return {"median": count / self.median, "low": count / self.high, "high": count / self.low}


def time_in_turn(
    ways: Mapping[str, Callable[[], object]], *, repeats: int, patience: Mapping[str, float] | None = None
) -> dict[str, Timing]:
    """Time each way `repeats` times, one after the other in turn, after one run of each that is not counted.

    Args:
        ways: what to run, by name.
        repeats: how often.
        patience: for some of the ways, the seconds after which they take no further turn. A way that has used them
            up with its first run is counted by that: in so long a run, what a first one takes more matters little.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            if patience is None or sum(seconds[name]) <= patience.get(name, float("inf")):
                seconds[name].append(seconds_of(way))
    return {name: Timing.of(times[1:] or times) for name, times in seconds.items()}


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long `work` takes, with what it left to do on a GPU."""
    wait_for_device()
    began = time.perf_counter()
    work()
    wait_for_device()
    return time.perf_counter() - began


def wait_for_device() -> None:
    """Wait until a GPU, if one is in use, has done all that it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float | None:
    """Return the x of seconds ~ size^x, by least squares over the logarithms; None for a single size."""
    if len(set(sizes)) < 2:
        return None
    logs = torch.tensor([sizes, seconds], dtype=torch.float64).log()
    across, along = logs - logs.mean(dim=1, keepdim=True)
    return float((across * along).sum() / (across * across).sum())
