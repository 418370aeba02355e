"""Resampling of episodes and of runs: the draws behind every interval of this package.

**Episodes** are resampled by the Bayesian bootstrap (Rubin 1981, doi:10.1214/aos/1176345338): an episode counts not 0,
1, 2 ... times but with a weight, the weights Dirichlet-distributed, so no resample loses all failures of an agent that
seldom fails. Still, 512 successes in 512 episodes would give an interval of width zero. So where outcomes have bounds,
as success has, two *pseudo-episodes* are added, spread evenly over the corners of what is possible:

- one rate: an episode that fails and one that succeeds. The draws are Beta(successes + 1, failures + 1), and the
  interval is, to the third digit, Wilson's (1927);
- two paired rates: half an episode in each cell of the two-by-two table, as Agresti and Min (2005,
  doi:10.1002/sim.1781) advise for the difference of paired proportions;
- three, as in the following score: a quarter in each of eight.

Outcomes without known bounds (returns, lengths) get no pseudo-episodes, and are studentized: the draws are of the
mean's distance in standard errors (Efron and Tibshirani 1993, chapter 12), which is right also where outcomes are
skewed.

**Runs**, trainings that differ in their seed, are resampled with replacement, as Agarwal et al. (2021, arXiv
2108.13264) do, but of three runs that alone would be far too sure of itself: resampling does not know that a variance
estimated from R runs is too small by (R - 1) / R, nor how badly it is known. So deviations are stretched, by
sqrt(R / (R - 1)) and by the factor sqrt(ν / χ²_ν) that makes a normal deviation one of Student's t. ν is R - 1, or
Welch's where several groups of runs have a part. Hesterberg (2015, doi:10.1080/00031305.2015.1089789) shows the need,
and expands the percentiles instead, which three runs do not suffice for.

The two parts are added: what other episodes would change, for these runs, and what other runs would change, on these
episodes. How far a run's own luck with its episodes carries it is part of how runs differ, so the first part is shrunk
by it; and the interval is never narrower than the first part alone (`bootstrap.py`). What coverage is reached is
measured in tests/evaluation/test_statistics_coverage.py and told in docs/evaluation-statistics.md.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from heed.evaluation.statistics.estimate import Floats

RESAMPLES = 5000
"""Draws behind an interval: its ends wander by 2 % of its half width from one seed of the draws to another."""

PSEUDO_EPISODES = 2.0
"""Weight of all pseudo-episodes together, where outcomes have bounds."""

KEPT = 2
"""Tables of weights that are kept: the figures of one evaluation share their number of episodes."""

LARGEST_TABLE = 8_000_000
"""Weights that are in memory together (64 MB)."""


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of one part of a figure's draws: the same for the same numbers, unrelated for others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def draw_bounded_means(columns: Floats, generator: np.random.Generator, *, together: bool = False) -> Floats:
    """Draw the means of paired outcomes between 0 and 1, with pseudo-episodes.

    Args:
        columns: (K, E), K outcomes of each of E episodes.
        generator: of the weights.
        together: let both pseudo-episodes have all outcomes alike, all 0 or all 1, instead of spreading them over the
            2^K corners: for the many columns that are the runs of one method.

    Returns:
        (K, resamples)
    """
    rows, counts = _distinct_rows(columns.T)  # (U, K), (U,)
    width = len(columns)
    corners = np.array(
        [[0.0] * width, [1.0] * width] if together else list(itertools.product((0.0, 1.0), repeat=width))
    )
    shapes = np.concatenate([counts.astype(float), np.full(len(corners), PSEUDO_EPISODES / len(corners))])
    weights = generator.gamma(shapes, size=(RESAMPLES, len(shapes)))  # Dirichlet, once divided by their sum
    totals = np.einsum("bu,uk->kb", weights, np.concatenate([rows, corners]))
    means: Floats = totals / weights.sum(axis=1)
    return means


def _distinct_rows(rows: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the different rows in order, and how often each is there: `np.unique` along an axis, but much faster."""
    ordered = rows[np.lexsort(rows.T)]
    begins = np.flatnonzero(np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)]))
    return ordered[begins], np.diff(np.append(begins, len(rows)))


def draw_means(values: Floats, seed: int, *key: int) -> Floats:
    """Draw the mean of outcomes without known bounds, studentized; never outside of what was seen.

    Where all are alike, so are the draws: such episodes tell nothing of how others might differ.

    Args:
        values: (E,)
        seed: of the weights, which is all that tells them apart from those of other calls with as many episodes.
        key: the part of the figure, as in `stream`.

    Returns:
        (resamples,)
    """
    mean, spread = values.mean(), values.std()
    episodes = len(values)
    if episodes == 1 or spread <= 1e-12 * max(1.0, abs(mean)):
        return np.full(RESAMPLES, mean)
    centred = np.sort(values) - mean  # the order of episodes is no part of the figure
    squares = centred**2
    parts = []
    for weights in _weights(episodes, seed, key):
        # Without BLAS, whose last digit depends on the number of its threads.
        shift = np.einsum("be,e->b", weights, centred)
        variance = np.einsum("be,e->b", weights, squares) - shift**2
        parts.append(shift / np.sqrt(np.maximum(variance, 1e-12 * spread**2)))
    distances = np.concatenate(parts)  # in standard deviations; times the root of E, in standard errors
    draws: Floats = mean - distances * spread * np.sqrt((episodes + 1) / (episodes - 1))
    return np.clip(draws, values.min(), values.max())


def _weights(episodes: int, seed: int, key: tuple[int, ...]) -> Iterator[Floats]:
    """Yield Dirichlet weights, (resamples, episodes) in all, in parts that memory holds."""
    if RESAMPLES * episodes <= LARGEST_TABLE:
        yield _kept_weights(episodes, seed, key)
        return
    generator = stream(seed, *key)
    size = max(1, LARGEST_TABLE // episodes)
    for begin in range(0, RESAMPLES, size):
        yield _new_weights(generator, min(size, RESAMPLES - begin), episodes)


@functools.lru_cache(maxsize=KEPT)
def _kept_weights(episodes: int, seed: int, key: tuple[int, ...]) -> Floats:
    return _new_weights(stream(seed, *key), RESAMPLES, episodes)


def _new_weights(generator: np.random.Generator, resamples: int, episodes: int) -> Floats:
    weights = generator.standard_exponential((resamples, episodes))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def draw_runs(runs: int, strata: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw which of R runs are taken, for each stratum by itself: (resamples, R, strata)."""
    return generator.integers(runs, size=(RESAMPLES, runs, strata))


def draw_run_weights(runs: int, pseudo: float, generator: np.random.Generator) -> Floats:
    """Draw the weights of R runs and of two pseudo-runs, which add up to 1: (resamples, R + 2).

    Args:
        runs: R
        pseudo: the weight that both pseudo-runs have together, where a run has 1.
        generator: of the draws.
    """
    weights = generator.gamma(np.array([1.0] * runs + [pseudo / 2] * 2), size=(RESAMPLES, runs + 2))
    normalised: Floats = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def correction(runs: int) -> float:
    """Return by how much deviations of a mean over resampled runs are too small: sqrt(R / (R - 1)), R at least 2."""
    return float(np.sqrt(runs / (runs - 1)))


def draw_stretches(variances: Sequence[float], degrees: Sequence[int], generator: np.random.Generator) -> Floats:
    """Draw what makes normal deviations those of Student's t: sqrt(ν / χ²_ν), (resamples,).

    Args:
        variances: of each independent part of the deviation.
        degrees: of freedom of each of them.
        generator: of the draws.
    """
    total = sum(variances)
    if total <= 0:
        return np.ones(RESAMPLES)
    # Welch (1938) and Satterthwaite (1946); of one part, its own degrees.
    together = total**2 / sum(variance**2 / own for variance, own in zip(variances, degrees, strict=True))
    draws: Floats = np.sqrt(together / generator.chisquare(together, RESAMPLES))
    return draws


def draw_run_deviations(groups: Sequence[Floats], generator: np.random.Generator) -> Floats:
    """Draw how far a sum of means over runs would be off with other runs.

    Args:
        groups: of each group of runs the scores, (R_i,), with the sign and weight of the group's mean in the sum. A
            group of one run counts as this one agent, which no other could stand for: it has no deviation.
        generator: of the draws.

    Returns:
        (resamples,)
    """
    known = [scores for scores in groups if len(scores) > 1]
    if not known:
        return np.zeros(RESAMPLES)
    deviations = np.zeros(RESAMPLES)
    for scores in known:
        taken = draw_runs(len(scores), 1, generator)[..., 0]
        deviations += correction(len(scores)) * (scores[taken].mean(axis=1) - scores.mean())
    variances = [float(scores.var(ddof=1)) / len(scores) for scores in known]
    return deviations * draw_stretches(variances, [len(scores) - 1 for scores in known], generator)
