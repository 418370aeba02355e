"""Two agents on the same episodes: how much better is one, how surely, and on how many episodes.

Both met the same worlds, so what makes an episode hard for both cancels. Of several runs of each, other training seeds
are part of the interval too (`resampling.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heed.evaluation.statistics.bootstrap import EPISODES, Bootstrapped, tasks_of_same_runs
from heed.evaluation.statistics.estimate import Estimate, Floats
from heed.evaluation.statistics.outcomes import require_same_episodes, runs_by_episodes
from heed.evaluation.statistics.resampling import draw_bounded_means, draw_means, stream


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One agent against another on the same episodes."""

    difference: Estimate
    """The mean of the one less that of the other."""
    better: Estimate
    """Probability of improvement: that a run of the one does better than a run of the other on an episode, ties
    counting half. 0.5 means that neither is better."""
    p_value: float | None
    """Of McNemar's test, where outcomes are successes of one run each."""
    episodes: int
    runs: tuple[int, int]
    """Of the one and of the other. Where one of them has a single run, the interval counts it as this one agent, which
    no other training seed could stand for."""

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {
            "difference": self.difference.as_json(),
            "better": self.better.as_json(),
            "p_value": self.p_value,
            "episodes": self.episodes,
            "runs": list(self.runs),
        }


def compare_paired(
    one: npt.ArrayLike, other: npt.ArrayLike, *, bounds: tuple[float, float] | None = None, seed: int = 0
) -> Comparison:
    """Compare two agents, or two methods by runs of each, on the same episodes.

    Args:
        one: outcomes (E,), or (R, E) of R runs.
        other: outcomes (E,) or (S, E), in the same order of episodes.
        bounds: the least and the largest that an outcome can be, where they are known: (0, 1) of successes.
        seed: of the draws.

    Raises:
        ValueError: if numbers of episodes differ, or as in `estimate_mean`.
    """
    a, b = (
        runs_by_episodes(one, "outcomes of the one", bounds),
        runs_by_episodes(other, "outcomes of the other", bounds),
    )
    episodes = require_same_episodes(the_one=a, the_other=b)
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    return Comparison(
        difference=_bootstrap_difference(a, b, bounds=bounds, seed=seed).estimate(
            seed=seed, bounds=_of_difference(bounds)
        ),
        better=_bootstrap_better(a, b, seed=seed).estimate(seed=seed, bounds=(0, 1)),
        p_value=mcnemar(a[0], b[0]) if binary and len(a) == len(b) == 1 else None,
        episodes=episodes,
        runs=(len(a), len(b)),
    )


def compare_over_tasks(
    one: Sequence[npt.ArrayLike],
    other: Sequence[npt.ArrayLike],
    *,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare two methods over several environments, each of which counts alike.

    Args:
        one: of each environment, outcomes (E_t,), or (R, E_t) of R runs, the same in all environments.
        other: the same of the other, environments and episodes in the same order.
        bounds: as in `compare_paired`.
        seed: of the draws.

    Raises:
        ValueError: as `compare_paired`, or if the environments are not as many, or not of the same runs.
    """
    tasks_a, tasks_b = tasks_of_same_runs(one, bounds), tasks_of_same_runs(other, bounds)
    if len(tasks_a) != len(tasks_b):
        raise ValueError(
            f"The one has outcomes of {len(tasks_a)} environments, the other of {len(tasks_b)}: they must be the same."
        )
    pairs = list(zip(tasks_a, tasks_b, strict=True))
    episodes = sum(require_same_episodes(the_one=a, the_other=b) for a, b in pairs)
    differences = [_bootstrap_difference(a, b, bounds=bounds, seed=seed, task=n) for n, (a, b) in enumerate(pairs)]
    better = [_bootstrap_better(a, b, seed=seed, task=n) for n, (a, b) in enumerate(pairs)]
    return Comparison(
        difference=Bootstrapped.mean(differences).estimate(seed=seed, bounds=_of_difference(bounds)),
        better=Bootstrapped.mean(better).estimate(seed=seed, bounds=(0, 1)),
        p_value=None,
        episodes=episodes,
        runs=(len(tasks_a[0]), len(tasks_b[0])),
    )


def estimate_difference(
    one: npt.ArrayLike,
    other: npt.ArrayLike,
    *,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Estimate:
    """Return the mean of the one less that of the other, with its interval.

    Args:
        one: as in `compare_paired`.
        other: as in `compare_paired`.
        bounds: as in `compare_paired`.
        seed: of the draws.

    Raises:
        ValueError: as `compare_paired`.
    """
    a, b = (
        runs_by_episodes(one, "outcomes of the one", bounds),
        runs_by_episodes(other, "outcomes of the other", bounds),
    )
    require_same_episodes(the_one=a, the_other=b)
    figure = _bootstrap_difference(a, b, bounds=bounds, seed=seed)
    return figure.estimate(seed=seed, bounds=_of_difference(bounds))


def mcnemar(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the mid-p value of McNemar's exact test that two agents succeed equally often, two-sided.

    Only the episodes count on which one succeeded and the other failed: were they equally good, either would have half
    of them. The mid-p value counts what was observed half, and so keeps to its level without the exact test's loss of
    power (Fagerland, Lydersen and Laake 2013, doi:10.1186/1471-2288-13-91).

    Args:
        one: (E,) successes.
        other: (E,) successes, in the same order of episodes.

    Raises:
        ValueError: if numbers of episodes differ.
    """
    a, b = (
        runs_by_episodes(one, "successes of the one", (0, 1))[0],
        runs_by_episodes(other, "successes of the other", (0, 1))[0],
    )
    require_same_episodes(the_one=a[None], the_other=b[None])
    wins, losses = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    discordant, fewer = wins + losses, min(wins, losses)
    # In whole numbers, of which Python holds any.
    below = 2 * sum(math.comb(discordant, k) for k in range(fewer)) + math.comb(discordant, fewer)
    return float(below / 2**discordant)


def _bootstrap_difference(
    one: Floats,
    other: Floats,
    *,
    bounds: tuple[float, float] | None,
    seed: int,
    task: int = 0,
) -> Bootstrapped:
    value = float(one.mean() - other.mean())
    if bounds is None:
        draws = draw_means(one.mean(axis=0) - other.mean(axis=0), seed, EPISODES, task)
    else:
        low, high = bounds
        columns = (np.stack([one.mean(axis=0), other.mean(axis=0)]) - low) / (high - low)
        means = draw_bounded_means(columns, stream(seed, EPISODES, task))
        draws = (high - low) * (means[0] - means[1])
    return Bootstrapped.of(value, draws, one, -other)


def _bootstrap_better(one: Floats, other: Floats, *, seed: int, task: int = 0) -> Bootstrapped:
    """Return how often a run of the one does better than one of the other on an episode, ties counting half."""
    by_one = np.mean([_better(one, run) for run in other], axis=0)  # (R, E), over the runs of the other
    by_other = np.mean([_better(run, other) for run in one], axis=0)  # (S, E), over the runs of the one
    value = float(by_one.mean())
    draws = draw_bounded_means(by_one.mean(axis=0, keepdims=True), stream(seed, EPISODES, task))[0]
    # To first order, other runs of either side change it as if the other side stood still. Of the episodes' part, which
    # both tables hold, the second one is rid.
    return Bootstrapped.of(value, draws, by_one, by_other - by_other.mean(axis=0))


def _better(one: Floats, other: Floats) -> Floats:
    return (np.sign(one - other) + 1) / 2


def _of_difference(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
