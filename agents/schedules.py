"""Numbers that change while a training goes on: a learning rate, or the weight of the entropy bonus."""

from __future__ import annotations

import math
from collections.abc import Callable

from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule


class CosineSchedule:
    """Falls (or rises) from `start` to `end` along half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983).

    It is slow at both ends, and has no restarts.

    Args:
        start: at the beginning of the training.
        end: at its end.
    """

    def __init__(self, start: float, end: float):
        self.start = start
        self.end = end

    def __call__(self, progress_remaining: float) -> float:
        """Return the number where `progress_remaining` falls from 1 to 0."""
        return self.end + (self.start - self.end) * (1 - math.cos(math.pi * progress_remaining)) / 2

    def __repr__(self) -> str:
        return f"CosineSchedule(start={self.start}, end={self.end})"


class Warmup:
    """Rises linearly from 0 to what a schedule begins with, which follows then, in the time that is left.

    Adam's first steps follow few gradients, and a pretrained model should not (Goyal et al. 2017, arXiv 1706.02677,
    section 2.2, "gradual warmup").

    Args:
        schedule: what follows.
        fraction: of the training that it takes to rise, at least 0 and below 1.

    Raises:
        ValueError: if the fraction cannot be.
    """

    def __init__(self, schedule: Callable[[float], float], fraction: float):
        if not 0 <= fraction < 1:
            raise ValueError(f"The warm-up takes {fraction} of the training, but must leave something of it.")
        self.schedule = schedule
        self.fraction = fraction

    def __call__(self, progress_remaining: float) -> float:
        """Return the number where `progress_remaining` falls from 1 to 0."""
        done = 1 - progress_remaining
        if done < self.fraction:
            return self.schedule(1.0) * done / self.fraction
        return self.schedule(progress_remaining / (1 - self.fraction))

    def __repr__(self) -> str:
        return f"Warmup({self.schedule!r}, fraction={self.fraction})"


SCHEDULES: dict[str, Callable[[float, float], Callable[[float], float]]] = {
    "constant": lambda start, end: ConstantSchedule(start),
    "linear": lambda start, end: LinearSchedule(start, end, 1.0),
    "cosine": CosineSchedule,
}
"""Schedules from one number to another by the name that the command line knows."""
