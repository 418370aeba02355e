"""Do intervals hold what they claim? Simulated evaluations: docs/evaluation-statistics.md, to be run again.

    python -m examples.coverage success returns difference runs methods aggregates following
    python -m examples.coverage power seeds

Each section prints a table. Of each line's evaluations, the first sections count those whose 95 % interval holds the
truth, the last two those whose interval of a difference does not hold 0. Every interval's draws have a seed of their
own: drawn alike, all would be off to the same side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from heed.evaluation.statistics import (
    Estimate,
    Successes,
    episodes_needed,
    estimate_aggregate,
    estimate_difference,
    estimate_improvement,
    estimate_mean,
    estimate_success,
    following_score,
    independent_discordance,
    interquartile_mean,
    probability_of_improvement,
)
from heed.evaluation.statistics import resampling as resampling_module

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

NORMAL = NormalDist()


class Memory:
    """Intervals of successes by how many episodes are of which kind, on which alone they depend."""

    def __init__(self, estimate: Callable[..., Estimate]):
        self._estimate = estimate
        self._known: dict[tuple[int, ...], Estimate] = {}

    def of(self, *columns: Bools) -> Estimate:
        """Return the interval of paired successes, each (E,)."""
        kinds = sum(column.astype(int) << place for place, column in enumerate(columns))
        return self.of_counts(np.bincount(np.asarray(kinds), minlength=2 ** len(columns)))

    def of_counts(self, counts: npt.NDArray[np.int64]) -> Estimate:
        """Return the interval where so many episodes are of each kind.

        Of two agents, the kinds are: neither succeeds, the one, the other, both.
        """
        key = tuple(int(count) for count in counts)
        if key not in self._known:
            kinds = np.repeat(np.arange(len(counts)), counts)
            places = range(len(counts).bit_length() - 1)
            columns = ((kinds >> place) & 1 for place in places)
            self._known[key] = self._estimate(*columns, seed=len(self._known))
        return self._known[key]


def difference_of_successes(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64], *, seed: int) -> Estimate:
    """Return the interval of the difference of two agents' success rates."""
    return estimate_difference(one, other, bounds=(0, 1), seed=seed)


def generator_of(*numbers: float) -> np.random.Generator:
    """Return the generator of a line's simulations: another one for other numbers."""
    return np.random.default_rng([round(1000 * number) for number in numbers])


def percentile_of_successes(successes: npt.NDArray[np.int64], *, seed: int) -> Estimate:
    """Return the plain bootstrap's percentiles: what is not done here, and why."""
    rate = float(successes.mean())
    draws = np.random.default_rng(seed).binomial(len(successes), rate, size=resampling_module.RESAMPLES) / len(
        successes
    )
    return Estimate.from_draws(rate, draws)


def success(rate: float, episodes: int, evaluations: int, *, plain: bool = False) -> float:
    """Return the coverage of a success rate's interval.

    Args:
        rate: the true one.
        episodes: of an evaluation.
        evaluations: that are simulated.
        plain: the percentile bootstrap's coverage instead.
    """
    generator = generator_of(rate, episodes)
    interval = Memory(percentile_of_successes if plain else estimate_success)
    return float(np.mean([interval.of(generator.random(episodes) < rate).contains(rate) for _ in range(evaluations)]))


def returns(kind: str, episodes: int, evaluations: int) -> float:
    """Return the coverage of a mean return's interval.

    Args:
        kind: "exponential"; or "babyai" with the success rate behind it, as "babyai 0.9": 0 for a failure, and less
            than 1 by how long a success took.
        episodes: of an evaluation.
        evaluations: that are simulated.
    """
    generator = generator_of(episodes, *map(ord, kind))
    hits = 0
    for number in range(evaluations):
        if kind == "exponential":
            values, truth = generator.exponential(size=episodes), 1.0
        else:
            rate = float(kind.split()[1])
            lengths = np.minimum(generator.geometric(0.1, size=episodes), 64)
            values = (generator.random(episodes) < rate) * (1 - 0.9 * lengths / 64)
            truth = rate * (1 - 0.9 * (1 - 0.9**64) / 0.1 / 64)
        hits += estimate_mean(values, seed=number).contains(truth)
    return hits / evaluations


def alike(rates: tuple[float, ...], shared: float, episodes: int, generator: np.random.Generator) -> Iterator[Bools]:
    """Yield successes with these rates on the same episodes, of which a share is as hard for all as for one."""
    common, is_shared = generator.random(episodes), generator.random(episodes) < shared
    for rate in rates:
        yield np.where(is_shared, common, generator.random(episodes)) < rate


def difference(one: float, other: float, shared: float, episodes: int, evaluations: int) -> float:
    """Return the coverage of the interval of a paired difference of success rates.

    Args:
        one: success rate.
        other: success rate.
        shared: the share of episodes that are as hard for both.
        episodes: of an evaluation.
        evaluations: that are simulated.
    """
    generator = generator_of(one, other, shared, episodes)
    interval = Memory(difference_of_successes)
    hits = sum(
        interval.of(*alike((one, other), shared, episodes, generator)).contains(one - other) for _ in range(evaluations)
    )
    return hits / evaluations


def power(rate: float, share: float, evaluations: int, *, of_episodes: float = 1.0) -> tuple[int, float]:
    """Return how many episodes are promised to find a difference of 0.05 with power 0.8, and how often they do.

    Args:
        rate: success rate of the worse agent.
        share: discordance over what it would be, were episodes not hard for both.
        evaluations: that are simulated.
        of_episodes: play this part of the promised episodes only.
    """
    discordance = share * independent_discordance(rate, 0.05)
    episodes = episodes_needed(difference=0.05, discordance=discordance)
    generator = generator_of(rate, share, of_episodes)
    interval = Memory(difference_of_successes)
    wins, losses = (discordance + 0.05) / 2, (discordance - 0.05) / 2
    chances = [1 - rate - wins, wins, losses, rate - losses]  # neither, the one, the other, both
    counts = generator.multinomial(int(of_episodes * episodes), chances, size=evaluations)
    return episodes, float(np.mean([interval.of_counts(count).low > 0 for count in counts]))


def run_successes(
    rates: tuple[float, ...], runs: int, episodes: int, generator: np.random.Generator, *, run_spread: float
) -> list[Bools]:
    """Return successes of methods on the same episodes, each (runs, episodes).

    Runs are better and worse, episodes harder and easier. A run succeeds where the sum of three normal numbers, the
    run's, the episode's and one of their own, is above a threshold that makes the method's rate what it is.

    Args:
        rates: of the methods, over training seeds and episodes.
        runs: of each.
        episodes: that all play.
        generator: of all of it.
        run_spread: the standard deviation of the runs' numbers, where that of the others is 1.
    """
    ease = generator.normal(size=(1, episodes))
    successes = []
    for rate in rates:
        threshold = NORMAL.inv_cdf(rate) * np.sqrt(2 + run_spread**2)
        strength = run_spread * generator.normal(size=(runs, 1)) + ease
        successes.append(threshold + strength + generator.normal(size=(runs, episodes)) > 0)
    return successes


def several_runs(
    rate: float, runs: int, run_spread: float, evaluations: int, *, episodes: int = 512, plain: bool = False
) -> float:
    """Return the coverage of the interval of a method's success rate, of which there are some runs.

    Args:
        rate: of the method, over training seeds.
        runs: of an evaluation.
        run_spread: how much runs differ, as in `run_successes`.
        evaluations: that are simulated.
        episodes: of each run.
        plain: the coverage of percentiles of resampled runs instead.
    """
    generator = generator_of(rate, runs, run_spread, episodes)
    hits = 0
    for number in range(evaluations):
        (successes,) = run_successes((rate,), runs, episodes, generator, run_spread=run_spread)
        if plain:
            taken = generator.integers(runs, size=(resampling_module.RESAMPLES, runs))
            estimate = Estimate.from_draws(float(successes.mean()), successes.mean(axis=1)[taken].mean(axis=1))
        else:
            estimate = estimate_success(successes, seed=number)
        hits += estimate.contains(rate)
    return hits / evaluations


def methods(
    rates: tuple[float, float], runs: int, run_spread: float, evaluations: int, *, episodes: int = 512
) -> tuple[float, float]:
    """Return the coverage of the interval of the difference of two methods, and how often it does not hold 0.

    Args:
        rates: of the methods, over training seeds.
        runs: of each.
        run_spread: how much runs differ, as in `run_successes`.
        evaluations: that are simulated.
        episodes: of each run.
    """
    generator = generator_of(*rates, runs, run_spread, episodes)
    hits = found = 0
    for number in range(evaluations):
        both = run_successes(rates, runs, episodes, generator, run_spread=run_spread)
        estimate = estimate_difference(*both, bounds=(0, 1), seed=number)
        hits += estimate.contains(rates[0] - rates[1])
        found += not estimate.contains(0)
    return hits / evaluations, found / evaluations


def aggregates(runs: int, tasks: int, evaluations: int, *, plain: bool = False) -> tuple[float, float]:
    """Return the coverage of the intervals of the interquartile mean and of the probability of improvement.

    Scores are normal in each task, with other means in other tasks; the one method is better by one standard deviation.

    Args:
        runs: of each method.
        tasks: of which each run is of one.
        evaluations: that are simulated.
        plain: the coverage of percentiles of resampled runs instead.
    """
    generator = generator_of(runs, tasks)
    means = np.linspace(0, 1, tasks)
    many = np.sort((np.random.default_rng(1).normal(size=(100_000, 1)) + means).ravel())
    middle = float(many[len(many) // 4 : -len(many) // 4].mean())
    better = NORMAL.cdf(1 / np.sqrt(2))
    hits = np.zeros(2)
    for number in range(evaluations):
        one, other = generator.normal(size=(2, runs, tasks)) + means + np.array([0, -1])[:, None, None]
        if plain:
            taken = generator.integers(runs, size=(2, resampling_module.RESAMPLES, runs, tasks))
            drawn, against = (np.take_along_axis(s[None], t, axis=1) for s, t in zip((one, other), taken, strict=True))
            wins = (np.sign(drawn[:, :, None] - against[:, None]).mean(axis=(1, 2, 3)) + 1) / 2
            estimates = (
                Estimate.from_draws(float(interquartile_mean(one)), interquartile_mean(drawn)),
                Estimate.from_draws(probability_of_improvement(one, other), wins),
            )
        else:
            estimates = (estimate_aggregate(one, seed=number), estimate_improvement(one, other, seed=number))
        hits += [estimate.contains(truth) for estimate, truth in zip(estimates, (middle, better), strict=True)]
    return float(hits[0]) / evaluations, float(hits[1]) / evaluations


def following(
    blank: float,
    expert: float,
    score: float,
    episodes: int,
    evaluations: int,
    *,
    runs: int = 1,
    run_spread: float = 0.0,
) -> tuple[float, float, float]:
    """Return the coverage of a following score's interval, the share of evaluations that have one, and its half width.

    Args:
        blank: success rate with a blank instruction.
        expert: success rate of the expert.
        score: the true one.
        episodes: of an evaluation.
        evaluations: that are simulated.
        runs: of the method; of one, half of the episodes are as hard for all three.
        run_spread: how much runs differ, as in `run_successes`.
    """
    generator = generator_of(blank, expert, score, episodes, runs, run_spread)
    true = blank + score * (expert - blank)
    hits, half_widths = 0, []
    for number in range(evaluations):
        if runs == 1:
            with_it, without, expertly = alike((true, blank, expert), 0.5, episodes, generator)
        else:
            with_it, without = run_successes((true, blank), runs, episodes, generator, run_spread=run_spread)
            expertly = generator.random(episodes) < expert
        successes = Successes(true=with_it, blank=without, expert=expertly)
        estimate = following_score(successes, seed=number).score
        if estimate is not None:
            half_widths.append((estimate.high - estimate.low) / 2)
            hits += estimate.contains(score)
    scored = len(half_widths)
    return hits / max(1, scored), scored / evaluations, float(np.median(half_widths)) if half_widths else 0.0


def main() -> None:
    """Print the tables of the sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=sorted(SECTIONS))
    parser.add_argument("--evaluations", type=int, default=2000, help="simulated evaluations for each figure")
    parser.add_argument(
        "--resamples", type=int, default=1000, help="draws behind each interval; an evaluation takes 5000"
    )
    arguments = parser.parse_args()
    resampling_module.RESAMPLES = arguments.resamples
    for section in arguments.sections:
        heading, rows = SECTIONS[section]
        print("| " + " | ".join(heading) + " |\n" + "|---" * len(heading) + "|")
        for row in rows(arguments.evaluations):
            print(
                "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row) + " |",
                flush=True,
            )
        print()


Rows = Callable[[int], Iterator[tuple[str | int | float, ...]]]


def _success(evaluations: int) -> Iterator[tuple[str | int | float, ...]]:
    for episodes in (100, 512):
        for rate in (0.5, 0.9, 0.98, 0.995):
            values = (success(rate, episodes, evaluations, plain=plain) for plain in (False, True))
            yield (episodes, str(rate), *values)


def _returns(evaluations: int) -> Iterator[tuple[str | int | float, ...]]:
    for kind in ("babyai 0.5", "babyai 0.9", "babyai 0.98", "exponential"):
        yield (kind, *(returns(kind, episodes, evaluations) for episodes in (100, 512)))


def _difference(evaluations: int) -> Iterator[tuple[str | int | float, ...]]:
    for one, other, shared in ((0.5, 0.5, 0.0), (0.95, 0.9, 0.0), (0.95, 0.9, 0.7), (0.99, 0.98, 0.5)):
        values = (difference(one, other, shared, episodes, evaluations) for episodes in (100, 512))
        yield (f"{one} and {other}", str(shared), *values)


def _runs(evaluations: int) -> Iterator[tuple[str | int | float, ...]]:
    for runs in (3, 5, 10):
        for rate, spread in ((0.9, 0.0), (0.9, 0.1), (0.9, 0.4), (0.98, 0.4)):
            values = (several_runs(rate, runs, spread, evaluations // 2, plain=plain) for plain in (False, True))
            yield (runs, str(rate), f"{spread_of_rates(rate, spread):.3f}", *values)


def _methods(evaluations: int) -> Iterator[tuple[str | int | float, ...]]:
    for runs in (3, 5, 10):
        for spread in (0.1, 0.4):
            coverage, _ = methods((0.95, 0.9), runs, spread, evaluations // 2)
            yield (runs, f"{spread_of_rates(0.95, spread):.3f} and {spread_of_rates(0.9, spread):.3f}", coverage)


def _aggregates(evaluations: int) -> Iterator[tuple[str | int | float, ...]]:
    for runs in (3, 5, 10):
        for tasks in (1, 5):
            ours, plain = (aggregates(runs, tasks, evaluations // 2, plain=plain) for plain in (False, True))
            yield (runs, tasks, ours[0], plain[0], ours[1], plain[1])


def _following(evaluations: int) -> Iterator[tuple[str | int | float, ...]]:
    cases = ((0.25, 1.0, 0.95), (0.8, 1.0, 0.1), (0.25, 0.95, 0.0), (0.9, 1.0, 0.5), (0.97, 1.0, 0.5), (0.8, 0.9, 0.5))
    for blank, expert, score in cases:
        yield (1, str(blank), "-", str(expert), str(score), *following(blank, expert, score, 512, evaluations // 2))
    for blank, expert, score, spread in ((0.25, 1.0, 0.9, 0.1), (0.25, 1.0, 0.9, 0.4), (0.6, 1.0, 0.3, 0.2)):
        values = following(blank, expert, score, 512, evaluations // 2, runs=3, run_spread=spread)
        yield (3, str(blank), f"{spread_of_rates(blank, spread):.3f}", str(expert), str(score), *values)


def _power(evaluations: int) -> Iterator[tuple[str | int | float, ...]]:
    for rate in (0.5, 0.7, 0.8, 0.9, 0.94):
        for share in (1.0, 0.5):
            if share * independent_discordance(rate, 0.05) > 0.055:
                episodes, found = power(rate, share, evaluations)
                _, by_half = power(rate, share, evaluations, of_episodes=0.5)
                yield (
                    f"{rate} and {rate + 0.05:.2f}",
                    f"{share * independent_discordance(rate, 0.05):.3f}",
                    episodes,
                    found,
                    by_half,
                )


def _seeds(evaluations: int) -> Iterator[tuple[str | int | float, ...]]:
    for spread in (0.0, 0.1, 0.2, 0.4):
        spreads = f"{spread_of_rates(0.95, spread):.3f} and {spread_of_rates(0.9, spread):.3f}"
        yield (spreads, *(methods((0.95, 0.9), runs, spread, evaluations // 5)[1] for runs in (3, 5, 10, 20)))


def spread_of_rates(rate: float, run_spread: float) -> float:
    """Return the standard deviation of success rates between runs, as `run_successes` makes them."""
    threshold = NORMAL.inv_cdf(rate) * np.sqrt(2 + run_spread**2)
    strengths = run_spread * np.random.default_rng(0).normal(size=20_000)
    return float(np.std([NORMAL.cdf(float(value)) for value in (threshold + strengths) / np.sqrt(2)]))


SECTIONS: dict[str, tuple[tuple[str, ...], Rows]] = {
    "success": (("episodes", "true rate", "coverage", "of the percentile bootstrap"), _success),
    "returns": (("returns", "100 episodes", "512 episodes"), _returns),
    "difference": (("true rates", "hard for both", "100 episodes", "512 episodes"), _difference),
    "runs": (("runs", "true rate", "spread between runs", "coverage", "of percentiles of resampled runs"), _runs),
    "methods": (("runs of each", "spread between runs", "coverage"), _methods),
    "aggregates": (
        ("runs", "tasks", "interquartile mean", "of percentiles", "probability of improvement", "of percentiles"),
        _aggregates,
    ),
    "following": (
        ("runs", "blank", "spread of it", "expert", "F", "coverage", "evaluations with a score", "F known within"),
        _following,
    ),
    "power": (("true rates", "discordant", "episodes", "found", "found with half of them"), _power),
    "seeds": (("spread between runs", "3 runs of each", "5", "10", "20"), _seeds),
}
"""Of each section the heading and what makes its rows."""


if __name__ == "__main__":
    main()
