"""Means over episodes and over runs with 95 % bootstrap intervals. How they are drawn stands in `resampling.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heed.evaluation.statistics.estimate import Estimate, Floats
from heed.evaluation.statistics.outcomes import SUCCESS, runs_by_episodes
from heed.evaluation.statistics.resampling import draw_bounded_means, draw_means, draw_run_deviations, stream

EPISODES, RUNS = 0, 1
"""The two parts of a figure's draws, told apart in their seeds."""


@dataclass(frozen=True, kw_only=True)
class Bootstrapped:
    """A figure with what its interval is made of; several can be averaged before the interval is taken."""

    value: float
    draws: Floats
    """(resamples,): what the figure might be on other episodes, of these runs."""
    runs: tuple[Floats, ...]
    """Of each group of runs its part in the figure by run, (R_i,): the figure changes as the sum of their means
    does."""
    variance: float
    """Of the figure over episodes, of these runs."""
    own: float
    """What of that variance is the single runs' own, on which they differ episode by episode."""

    @classmethod
    def of(cls, value: float, draws: Floats, *groups: Floats) -> Bootstrapped:
        """Return a figure that changes as the sum of the groups' means does.

        Args:
            value: of the figure.
            draws: (resamples,), over episodes.
            groups: (R_i, E), the part of each run and episode.
        """
        episodes = groups[0].shape[1]
        variance = own = 0.0
        if episodes > 1:
            by_episode = np.sum([group.mean(axis=0) for group in groups], axis=0)
            variance = float(by_episode.var(ddof=1)) / episodes
            own = sum(_own_variance(group) for group in groups)
        return cls(
            value=value, draws=draws, runs=tuple(group.mean(axis=1) for group in groups), variance=variance, own=own
        )

    @classmethod
    def mean(cls, figures: Sequence[Bootstrapped]) -> Bootstrapped:
        """Return the mean of figures of the same groups of runs, as those of several environments.

        Their draws must be independent: made with other keys of `stream`.
        """
        return cls(
            value=float(np.mean([figure.value for figure in figures])),
            draws=np.mean([figure.draws for figure in figures], axis=0),
            runs=tuple(np.mean(parts, axis=0) for parts in zip(*(figure.runs for figure in figures), strict=True)),
            variance=sum(figure.variance for figure in figures) / len(figures) ** 2,
            own=sum(figure.own for figure in figures) / len(figures) ** 2,
        )

    @property
    def kept(self) -> float:
        """By how much deviations over episodes are shrunk where those over runs are added.

        What is a run's own is in the deviations over runs already: runs differ by it.
        """
        return math.sqrt(max(0.0, 1 - self.own / self.variance)) if self.variance > 0 else 1.0

    def estimate(self, *, seed: int, bounds: tuple[float, float] | None = None) -> Estimate:
        """Return the figure with its interval: over episodes, and over runs where groups have several."""
        if all(len(scores) == 1 for scores in self.runs):
            return Estimate.from_draws(self.value, self.draws, bounds)
        return over_both(self, draw_run_deviations(self.runs, stream(seed, RUNS)), bounds)


def over_both(figure: Bootstrapped, deviations: Floats, bounds: tuple[float, float] | None) -> Estimate:
    """Return a figure with its interval over episodes and runs, which is at least as wide as the one over episodes.

    Args:
        figure: with its draws over episodes.
        deviations: (resamples,) of the figure over runs.
        bounds: of the figure.
    """
    centre = figure.draws.mean()
    over_episodes = Estimate.from_draws(figure.value, figure.draws, bounds)
    both = Estimate.from_draws(figure.value, centre + figure.kept * (figure.draws - centre) + deviations, bounds)
    return Estimate(value=figure.value, low=min(over_episodes.low, both.low), high=max(over_episodes.high, both.high))


def _own_variance(group: Floats) -> float:
    """Return the variance of a group's mean that is from what runs and episodes have together: (R, E), 0 of one run."""
    runs, episodes = group.shape
    if runs == 1:
        return 0.0
    rest = group - group.mean(axis=0) - group.mean(axis=1, keepdims=True) + group.mean()
    return float((rest**2).sum() / ((runs - 1) * (episodes - 1)) / (runs * episodes))


def bootstrap_mean(runs: Floats, *, bounds: tuple[float, float] | None, seed: int, task: int = 0) -> Bootstrapped:
    """Return the mean over runs and episodes with its draws.

    Args:
        runs: (R, E)
        bounds: of an outcome, if they are known.
        seed: of the draws.
        task: the number of the environment among those that are averaged.
    """
    if bounds is None:
        draws = draw_means(runs.mean(axis=0), seed, EPISODES, task)
    else:
        low, high = bounds
        columns = (runs.mean(axis=0, keepdims=True) - low) / (high - low)
        draws = low + (high - low) * draw_bounded_means(columns, stream(seed, EPISODES, task))[0]
    return Bootstrapped.of(float(runs.mean()), draws, runs)


def estimate_mean(
    outcomes: npt.ArrayLike, *, bounds: tuple[float, float] | None = None, seed: int = 0, what: str = "outcomes"
) -> Estimate:
    """Return the mean of outcomes with its 95 % bootstrap interval.

    Args:
        outcomes: (E,) of one agent's episodes: the interval says how much the mean would differ on other episodes. Or
            (R, E) of R runs of one method on the same E episodes: the interval also says how much it would differ for
            other training seeds.
        bounds: the least and the largest that an outcome can be, where they are known. Then the interval is honest also
            where all outcomes are alike; without them it is one number there.
        seed: of the draws; the same outcomes get the same interval.
        what: the outcomes are, for errors.

    Raises:
        ValueError: if the outcomes have another shape, are not finite, or outside of their bounds.
    """
    runs = runs_by_episodes(outcomes, what, bounds)
    return bootstrap_mean(runs, bounds=bounds, seed=seed).estimate(seed=seed, bounds=bounds)


def estimate_success(successes: npt.ArrayLike, *, seed: int = 0) -> Estimate:
    """Return the success rate with its 95 % bootstrap interval: `estimate_mean` between 0 and 1."""
    return estimate_mean(successes, bounds=SUCCESS, seed=seed, what="successes")


def estimate_mean_of_tasks(
    tasks: Sequence[npt.ArrayLike], *, bounds: tuple[float, float] | None = None, seed: int = 0
) -> Estimate:
    """Return the mean over environments, each counting alike, of the means of their outcomes.

    Args:
        tasks: of each environment (E_t,) of one agent, or (R, E_t) of R runs: the same in all environments.
        bounds: of an outcome, as in `estimate_mean`.
        seed: of the draws.

    Raises:
        ValueError: if there are none, numbers of runs differ, or as in `estimate_mean`.
    """
    matrices = tasks_of_same_runs(tasks, bounds)
    figures = [bootstrap_mean(runs, bounds=bounds, seed=seed, task=number) for number, runs in enumerate(matrices)]
    return Bootstrapped.mean(figures).estimate(seed=seed, bounds=bounds)


def tasks_of_same_runs(tasks: Sequence[npt.ArrayLike], bounds: tuple[float, float] | None = None) -> list[Floats]:
    """Return the outcomes of each environment as (R, E_t).

    Raises:
        ValueError: if there are none, or numbers of runs differ, or as `runs_by_episodes`.
    """
    matrices = [
        runs_by_episodes(task, f"outcomes of environment {number}", bounds) for number, task in enumerate(tasks)
    ]
    if len({len(runs) for runs in matrices}) != 1:
        numbers = [len(runs) for runs in matrices]
        raise ValueError(
            f"Every environment needs the outcomes of the same runs, at least one, but they have {numbers}."
        )
    return matrices
