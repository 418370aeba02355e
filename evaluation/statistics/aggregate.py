"""Methods by several runs over several tasks: interquartile mean, performance profiles, probability of improvement.

After Agarwal et al. (2021, "Deep RL at the edge of the statistical precipice", arXiv 2108.13264) and their library
rliable.

A *score* is what one run reaches in one task, the success rate in an environment say; a matrix of scores has a row for
each run and a column for each task.

What differs from rliable:
- their intervals are percentiles of a bootstrap that resamples runs, stratified by task. Of three runs those are far
  too narrow, and of none is it known that all did alike by chance. Here deviations are stretched as `resampling.py`
  says;
- runs may be resampled with all their scores (`same_agents`): where one training is evaluated in every task, its scores
  hang together;
- the probability of improvement gets pseudo-runs, without which three runs against three others that are all better
  would be certain;
- where the episodes behind the scores are known, they are resampled too (`estimate_aggregate_of_outcomes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from heed.evaluation.statistics.bootstrap import EPISODES, RUNS, Bootstrapped, over_both, tasks_of_same_runs
from heed.evaluation.statistics.estimate import Estimate, Floats
from heed.evaluation.statistics.outcomes import SUCCESS
from heed.evaluation.statistics.resampling import (
    correction,
    draw_bounded_means,
    draw_run_weights,
    draw_runs,
    draw_stretches,
    stream,
)

Statistic = Callable[[Floats], Floats]
"""From scores (..., R, T) to one figure for each matrix, (...)."""

PSEUDO_RUNS = 0.5
"""Weight of the pseudo-runs of each method in a probability of improvement: half of it above all others, half below."""


def interquartile_mean(scores: Floats) -> Floats:
    """Return the mean of the middle half of all scores: a quarter of them, rounded down, is left out at either end.

    As robust as a median and nearly as precise as a mean, it is what rliable recommends.

    Args:
        scores: (..., R, T)
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    middle: Floats = flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)
    return middle


def probability_of_improvement(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return how likely a run of the one has a higher score than a run of the other in a task, ties counting half.

    This is Mann and Whitney's U over the number of pairs, averaged over tasks.

    Args:
        one: (R, T)
        other: (S, T)

    Raises:
        ValueError: if these are no matrices of finite numbers, or of other numbers of tasks.
    """
    return float(_wins(*_same_tasks(one, other)).mean())


def estimate_aggregate(
    scores: npt.ArrayLike,
    statistic: Statistic = interquartile_mean,
    *,
    same_agents: bool = False,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Estimate:
    """Return a statistic of scores with its 95 % bootstrap interval over runs.

    Args:
        scores: (R, T), at least two runs.
        statistic: `interquartile_mean`, or one of yours.
        same_agents: whether a row is one agent in all tasks. Otherwise every score is a training of its own, and runs
            are resampled within each task.
        bounds: what the statistic cannot be below and above.
        seed: of the draws.

    Raises:
        ValueError: if the scores are no matrix of finite numbers, or of one run only.
    """
    matrix = _matrix(scores, least_runs=2)
    value = float(statistic(matrix))
    deviations = _deviations(matrix, statistic, same_agents=same_agents, generator=stream(seed, RUNS))
    return Estimate.from_draws(value, value + deviations, bounds)


def estimate_aggregate_of_outcomes(
    tasks: Sequence[npt.ArrayLike],
    statistic: Statistic = interquartile_mean,
    *,
    bounds: tuple[float, float] = SUCCESS,
    statistic_bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Estimate:
    """Return a statistic of the scores of runs with its 95 % bootstrap interval over episodes and runs.

    Of a single run the interval is over episodes only.

    A run is one agent in all tasks, and its score in a task the mean of its episodes' outcomes.

    Args:
        tasks: of each, the outcomes (R, E_t), all runs on the same episodes.
        statistic: as in `estimate_aggregate`.
        bounds: of an outcome.
        statistic_bounds: what the statistic cannot be below and above; the interval is cut there.
        seed: of the draws.

    Raises:
        ValueError: if tasks have different numbers of runs, or outcomes are not within the bounds.
    """
    matrices = tasks_of_same_runs(tasks, bounds)
    scores = np.stack([runs.mean(axis=1) for runs in matrices], axis=1)  # (R, T)
    low, high = bounds
    drawn = [
        low
        + (high - low) * draw_bounded_means((runs - low) / (high - low), stream(seed, EPISODES, task), together=True)
        for task, runs in enumerate(matrices)
    ]  # each (R, resamples)
    value = float(statistic(scores))
    draws = statistic(np.stack(drawn, axis=-1).transpose(1, 0, 2))
    if len(scores) == 1:
        return Estimate.from_draws(value, draws, statistic_bounds)
    # How much of the deviations over episodes is single runs' own, is taken from the mean.
    means = Bootstrapped.mean([Bootstrapped.of(0.0, draws, runs) for runs in matrices])
    figure = Bootstrapped(value=value, draws=draws, runs=means.runs, variance=means.variance, own=means.own)
    deviations = _deviations(scores, statistic, same_agents=True, generator=stream(seed, RUNS))
    return over_both(figure, deviations, statistic_bounds)


def estimate_profile(tasks: Sequence[npt.ArrayLike], thresholds: Sequence[float], *, seed: int = 0) -> list[Estimate]:
    """Return the share of runs and episodes whose outcome is above each threshold: a profile of single episodes.

    Tasks count alike; intervals are of one threshold each.

    Args:
        tasks: of each, the outcomes (R, E_t), the returns say, all runs on the same episodes.
        thresholds: (N,)
        seed: of the draws.

    Returns:
        N estimates.

    Raises:
        ValueError: if tasks have different numbers of runs, or outcomes are not finite.
    """
    matrices = tasks_of_same_runs(tasks)
    profile = []
    for threshold in thresholds:
        figures = []
        for task, runs in enumerate(matrices):
            above = (runs > threshold).astype(np.float64)
            draws = draw_bounded_means(above.mean(axis=0, keepdims=True), stream(seed, EPISODES, task))[0]
            figures.append(Bootstrapped.of(float(above.mean()), draws, above))
        profile.append(Bootstrapped.mean(figures).estimate(seed=seed, bounds=SUCCESS))
    return profile


def estimate_improvement(
    one: npt.ArrayLike, other: npt.ArrayLike, *, same_agents: bool = False, seed: int = 0
) -> Estimate:
    """Return the probability of improvement over runs with its 95 % bootstrap interval.

    Runs are weighted by the Bayesian bootstrap, with a quarter of a pseudo-run above all others and a quarter below on
    either side, shared among the tasks where runs are of one task each. Weights of few runs vary too little for a mean
    over many tasks; there, deviations are stretched by sqrt((R + 1) / (R - 1)), R being the fewer runs.

    Args:
        one: (R, T), at least two runs.
        other: (S, T), at least two runs.
        same_agents: as in `estimate_aggregate`.
        seed: of the draws.

    Raises:
        ValueError: as `probability_of_improvement`, or if a method has one run only.
    """
    a, b = _same_tasks(one, other, least_runs=2)
    wins = _wins(a, b)  # (R, S, T)
    value = float(wins.mean())
    runs_a, runs_b, tasks = wins.shape
    # The last two of either side: above all others, below all others, and even with one another's like.
    table = np.full((runs_a + 2, runs_b + 2, tasks), 0.5)
    table[:runs_a, :runs_b] = wins
    table[runs_a], table[runs_a + 1] = 1, 0
    table[:runs_a, runs_b], table[:runs_a, runs_b + 1] = 0, 1
    table[runs_a, runs_b] = table[runs_a + 1, runs_b + 1] = 0.5
    generator = stream(seed, RUNS)
    strata = 1 if same_agents else tasks
    parts = []
    for tables in [table.mean(axis=-1)] if same_agents else np.moveaxis(table, -1, 0):
        weights_a, weights_b = (draw_run_weights(runs, PSEUDO_RUNS / strata, generator) for runs in (runs_a, runs_b))
        parts.append(np.einsum("br,rs,bs->b", weights_a, tables, weights_b))
    draws = np.mean(parts, axis=0)
    if strata > 1:
        fewer = min(runs_a, runs_b)
        draws = value + np.sqrt((fewer + 1) / (fewer - 1)) * (draws - value)
    return Estimate.from_draws(value, draws, (0, 1))


def _deviations(scores: Floats, statistic: Statistic, *, same_agents: bool, generator: np.random.Generator) -> Floats:
    """Draw how far a statistic would be off with other runs, (resamples,)."""
    runs, tasks = scores.shape
    strata = 1 if same_agents else tasks
    taken = draw_runs(runs, strata, generator)
    resampled = np.take_along_axis(scores[None], np.broadcast_to(taken, (*taken.shape[:2], tasks)), axis=1)
    by_stratum = scores.mean(axis=1, keepdims=True) if same_agents else scores
    variances = by_stratum.var(axis=0, ddof=1)
    stretches = draw_stretches([float(one) for one in variances], [runs - 1] * strata, generator)
    deviations: Floats = correction(runs) * (statistic(resampled) - statistic(scores)) * stretches
    return deviations


def _wins(one: Floats, other: Floats) -> Floats:
    """Return 1 where a run of the one is better than one of the other, 0.5 where even: (R, S, T)."""
    wins: Floats = (np.sign(one[:, None] - other[None]) + 1) / 2
    return wins


def _same_tasks(one: npt.ArrayLike, other: npt.ArrayLike, least_runs: int = 1) -> tuple[Floats, Floats]:
    a, b = _matrix(one, least_runs), _matrix(other, least_runs)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"The one has scores in {a.shape[1]} tasks, the other in {b.shape[1]}: they must be the same tasks."
        )
    return a, b


def _matrix(scores: npt.ArrayLike, least_runs: int = 1) -> Floats:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0 or not np.isfinite(matrix).all():
        raise ValueError(
            "Scores must be a matrix of finite numbers, a row for each run and a column for each task, but have "
            f"the shape {matrix.shape}."
        )
    if len(matrix) < least_runs:
        raise ValueError(
            f"There is {len(matrix)} run, but an interval over runs needs at least {least_runs}: train with "
            "another seed."
        )
    return matrix
