"""Intervals, paired comparisons and aggregates against hand-worked numbers and closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from heed.evaluation.statistics import (
    Estimate,
    compare_over_tasks,
    compare_paired,
    episodes_needed,
    estimate_aggregate,
    estimate_aggregate_of_outcomes,
    estimate_difference,
    estimate_improvement,
    estimate_mean,
    estimate_mean_of_tasks,
    estimate_profile,
    estimate_success,
    independent_discordance,
    interquartile_mean,
    mcnemar,
    probability_of_improvement,
)
from heed.evaluation.statistics import resampling as resampling_module

T_OF_2, T_OF_99 = 4.3027, 1.9842
"""97.5 % points of Student's t with 2 and with 99 degrees of freedom."""
Z_975 = 1.959964
"""The standard normal's."""


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion after Wilson (1927), which is worked out without resampling."""
    rate = successes / trials
    centre = rate + Z_975**2 / (2 * trials)
    spread = Z_975 * math.sqrt(rate * (1 - rate) / trials + Z_975**2 / (4 * trials**2))
    scale = 1 + Z_975**2 / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def outcomes(successes: int, episodes: int) -> npt.NDArray[np.float64]:
    """Return so many successes, the first ones."""
    return (np.arange(episodes) < successes).astype(np.float64)


def half_width(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / 2


def test_wilsons_interval_against_published_numbers() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for successes, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("successes", "episodes"), [(81, 263), (15, 148), (450, 500), (490, 500), (1, 29), (250, 500)])
def test_the_interval_of_a_success_rate_is_wilsons(successes: int, episodes: int) -> None:
    estimate = estimate_success(outcomes(successes, episodes))
    low, high = wilson_interval(successes, episodes)
    assert estimate.value == successes / episodes
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.06 * (high - low))


@pytest.mark.parametrize("episodes", [20, 512])
def test_where_all_succeed_or_fail_the_interval_has_a_width(episodes: int) -> None:
    # Of Beta(n + 1, 1), the 2.5 % point is 0.025^(1 / (n + 1)).
    end = 0.025 ** (1 / (episodes + 1))
    best, worst = estimate_success(np.ones(episodes)), estimate_success(np.zeros(episodes))
    assert (best.value, best.high) == (1.0, 1.0)
    assert best.low == pytest.approx(end, abs=0.1 * (1 - end))
    assert (worst.value, worst.low) == (0.0, 0.0)
    assert worst.high == pytest.approx(1 - end, abs=0.1 * (1 - end))


def test_a_known_range_may_be_another_than_that_of_success() -> None:
    successes = outcomes(30, 40)
    rate, shifted = estimate_success(successes), estimate_mean(10 * successes - 5, bounds=(-5, 5))
    assert (shifted.value, shifted.low, shifted.high) == pytest.approx(
        (10 * rate.value - 5, 10 * rate.low - 5, 10 * rate.high - 5)
    )


def test_the_interval_of_many_returns_is_students() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=100)
    estimate = estimate_mean(values)
    expected = T_OF_99 * values.std(ddof=1) / 10
    assert estimate.value == pytest.approx(values.mean())
    assert half_width(estimate) == pytest.approx(expected, rel=0.06)


def test_the_interval_of_skewed_returns_reaches_further_to_their_tail() -> None:
    estimate = estimate_mean(np.random.default_rng(0).exponential(size=60))
    assert estimate.high - estimate.value > 1.2 * (estimate.value - estimate.low)


def test_returns_that_are_all_alike_tell_no_width_and_an_interval_stays_within_what_was_seen() -> None:
    alike = estimate_mean([0.7] * 30)
    assert (alike.value, alike.low, alike.high) == pytest.approx((0.7, 0.7, 0.7))
    assert estimate_mean([4.0]) == Estimate(value=4.0, low=4.0, high=4.0)
    seldom = estimate_mean([0.0] * 99 + [0.8])
    assert seldom.low == 0.0
    assert 0.008 < seldom.high < 0.8


def test_the_same_data_give_the_same_interval_to_the_last_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    successes, returns = generator.random(200) < 0.8, generator.exponential(size=200)
    first = (estimate_success(successes), estimate_mean(returns))
    order = generator.permutation(200)
    assert (estimate_success(successes[order]), estimate_mean(returns[order])) == first
    estimate_mean(generator.random(300), seed=5)  # another one between does not matter
    resampling_module._kept_weights.cache_clear()
    monkeypatch.setattr(resampling_module, "LARGEST_TABLE", 1000)  # nor how much is in memory at once
    assert estimate_mean(returns) == first[1]
    other = estimate_mean(returns, seed=1)
    assert other != first[1]
    assert (other.low, other.high) == pytest.approx((first[1].low, first[1].high), abs=0.1 * half_width(first[1]))


def test_runs_without_luck_in_their_episodes_get_students_interval() -> None:
    """Every episode of a run ends alike, so that only the three runs differ: mean ± t s / √3."""
    runs = np.repeat([[0.7], [0.8], [0.9]], 50, axis=1)
    estimate = estimate_mean(runs)
    assert estimate.value == pytest.approx(0.8)
    assert half_width(estimate) == pytest.approx(T_OF_2 * 0.1 / math.sqrt(3), rel=0.1)
    # As percentiles of resampled runs are taken elsewhere, it would be the range of the three at the most.
    assert estimate.low < 0.7
    assert estimate.high > 0.9


def test_runs_that_do_the_same_on_each_episode_are_as_sure_as_one() -> None:
    one = (np.random.default_rng(0).random(300) < 0.8).astype(float)
    single, three = estimate_success(one), estimate_success([one, one, one])
    assert (three.low, three.high) == pytest.approx((single.low, single.high), abs=0.005)


def test_more_runs_that_hardly_differ_make_the_interval_narrower() -> None:
    successes = np.random.default_rng(1).random((10, 300)) < 0.8
    widths = [half_width(estimate_success(successes[:number])) for number in (1, 3, 10)]
    assert widths[2] < widths[0]
    assert widths[2] < widths[1]


def test_environments_count_alike_however_many_episodes_they_have() -> None:
    tasks = [outcomes(10, 10), outcomes(0, 90)]
    estimate = estimate_mean_of_tasks(tasks, bounds=(0, 1))
    assert estimate.value == 0.5
    assert estimate.low < 0.5 < estimate.high
    one = estimate_success(outcomes(50, 100))
    four = estimate_mean_of_tasks([outcomes(50, 100)] * 4, bounds=(0, 1))
    assert half_width(four) == pytest.approx(half_width(one) / 2, rel=0.06)


# Paired comparisons


def paired_outcomes(both: int, only_one: int, only_other: int, neither: int) -> tuple[Any, Any]:
    counts = [both, only_one, only_other, neither]
    return np.repeat([1.0, 1.0, 0.0, 0.0], counts), np.repeat([1.0, 0.0, 1.0, 0.0], counts)


@pytest.mark.parametrize("counts", [(300, 40, 15, 145), (450, 20, 10, 20), (40, 6, 2, 2)])
def test_the_interval_of_a_paired_difference_is_agrestis_and_mins(counts: tuple[int, int, int, int]) -> None:
    one, other = paired_outcomes(*counts)
    both, wins, losses, neither = (count + 0.5 for count in counts)
    total = both + wins + losses + neither
    centre = (wins - losses) / total
    spread = 1.96 * math.sqrt(wins + losses - (wins - losses) ** 2 / total) / total
    comparison = compare_paired(one, other, bounds=(0, 1))
    assert comparison.difference.value == pytest.approx((counts[1] - counts[2]) / sum(counts))
    expected = (centre - spread, centre + spread)
    assert (comparison.difference.low, comparison.difference.high) == pytest.approx(expected, abs=0.1 * spread)
    # Ties count half.
    assert comparison.better.value == pytest.approx((1 + comparison.difference.value) / 2)
    assert (comparison.episodes, comparison.runs) == (sum(counts), (1, 1))


def test_pairing_makes_what_is_hard_for_both_cancel() -> None:
    one, other = paired_outcomes(250, 25, 0, 225)
    shuffled = np.random.default_rng(0).permutation(other)
    paired, mixed = (estimate_difference(one, b, bounds=(0, 1)) for b in (other, shuffled))
    assert paired.value == mixed.value
    assert paired.low > 0 > mixed.low


def test_agents_that_never_differ_are_not_surely_the_same() -> None:
    difference = estimate_difference(np.ones(512), np.ones(512), bounds=(0, 1))
    assert difference.low < 0 == difference.value < difference.high
    assert difference.low > -0.01
    assert difference.high < 0.01


def test_mcnemar_by_hand() -> None:
    # Of ten discordant episodes two: 2 (1 + 10) + 45 of 1024.
    assert mcnemar(*paired_outcomes(30, 8, 2, 10)) == 67 / 1024
    assert mcnemar(*paired_outcomes(30, 2, 8, 10)) == 67 / 1024
    assert mcnemar(*paired_outcomes(30, 4, 4, 10)) == 1.0
    assert mcnemar(*paired_outcomes(30, 0, 0, 10)) == 1.0
    assert mcnemar(*paired_outcomes(0, 1500, 0, 0)) < 1e-300
    assert compare_paired([1, 1, 0], [0, 1, 0]).p_value == 1 / 2
    assert compare_paired([0.5, 1, 0], [0, 1, 0]).p_value is None
    assert compare_paired([[1, 1, 0], [0, 1, 0]], [0, 1, 0]).p_value is None


def test_the_probability_of_improvement_on_episodes_is_over_all_pairs_of_runs() -> None:
    one, other = [[3.0, 1.0], [1.0, 1.0]], [[2.0, 1.0], [1.0, 2.0]]
    # First episode: 3>2, 3>1, 1<2, 1=1; second: 1=1, 1<2, 1=1, 1<2.
    assert compare_paired(one, other).better.value == pytest.approx((2.5 / 4 + 1 / 4) / 2)


def test_a_difference_is_turned_around_with_its_sides() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.random((3, 80)), generator.random((2, 80))
    there, back = estimate_difference(one, other), estimate_difference(other, one)
    assert there.value == pytest.approx(one.mean() - other.mean())
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.2 * half_width(there))


def test_a_comparison_over_environments_is_the_mean_of_theirs() -> None:
    one, other = [outcomes(8, 10), outcomes(50, 100)], [outcomes(4, 10), outcomes(40, 100)]
    comparison = compare_over_tasks(one, other, bounds=(0, 1))
    assert comparison.difference.value == pytest.approx((0.4 + 0.1) / 2)
    assert comparison.better.value == pytest.approx((0.7 + 0.55) / 2)
    assert (comparison.episodes, comparison.p_value) == (110, None)


# Planning


def test_the_number_of_episodes_by_hand() -> None:
    # 0.9 against 0.95: 0.9 · 0.05 + 0.95 · 0.1 discordant.
    assert independent_discordance(0.9, 0.05) == pytest.approx(0.14)
    expected = ((1.959964 * math.sqrt(0.14) + 0.841621 * math.sqrt(0.14 - 0.0025)) / 0.05) ** 2
    assert episodes_needed(difference=0.05, rate=0.9, power=0.8) == math.ceil(expected) == 438
    assert episodes_needed(difference=0.05, discordance=0.14) == 438
    assert episodes_needed(difference=0.1, rate=0.9) < 438 < episodes_needed(difference=0.05, rate=0.7)


# Aggregates


def trimmed_mean(values: list[float]) -> float:
    """Return the mean without a quarter at either end, in plain Python."""
    ordered = sorted(values)
    cut = int(0.25 * len(ordered))
    middle = ordered[cut : len(ordered) - cut]
    return sum(middle) / len(middle)


def test_the_interquartile_mean_by_hand_and_in_plain_python() -> None:
    scores = np.array([[8.0, 1.0, 5.0, 100.0], [2.0, 6.0, 3.0, 4.0]])
    assert interquartile_mean(scores) == (3 + 4 + 5 + 6) / 4
    assert interquartile_mean(np.array([[0.1], [0.2], [0.9]])) == pytest.approx(0.4)  # of three none is left out
    many = np.random.default_rng(0).normal(size=(7, 5, 6))
    expected = [trimmed_mean([float(value) for value in matrix.ravel()]) for matrix in many]
    assert interquartile_mean(many) == pytest.approx(expected)


def test_probability_of_improvement_by_hand() -> None:
    assert probability_of_improvement([[1.0], [2.0]], [[0.0], [2.0]]) == (1 + 0 + 1 + 0.5) / 4
    assert probability_of_improvement([[1.0, 5.0], [2.0, 5.0]], [[0.0, 5.0], [2.0, 9.0]]) == (0.625 + 0.25) / 2
    one, other = np.random.default_rng(0).integers(0, 9, size=(2, 6, 4)).astype(float)
    by_loop = [
        np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in one[:, task] for b in other[:, task]])
        for task in range(4)
    ]
    assert probability_of_improvement(one, other) == pytest.approx(np.mean(by_loop))
    assert probability_of_improvement(one, other) + probability_of_improvement(other, one) == pytest.approx(1)


def test_three_runs_that_are_all_better_do_not_make_a_method_surely_better() -> None:
    estimate = estimate_improvement([[0.9], [0.92], [0.95]], [[0.5], [0.6], [0.55]])
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert 0.3 < estimate.low < 0.6
    surer = estimate_improvement(np.linspace(0.9, 0.95, 20)[:, None], np.linspace(0.5, 0.6, 20)[:, None])
    assert 0.85 < surer.low < 0.97
    over_tasks = estimate_improvement(np.full((3, 10), 0.9), np.full((3, 10), 0.5))
    assert over_tasks.low > 0.7


def test_the_interval_of_three_scores_is_students() -> None:
    estimate = estimate_aggregate([[0.7], [0.8], [0.9]])
    assert half_width(estimate) == pytest.approx(T_OF_2 * 0.1 / math.sqrt(3), rel=0.1)
    assert estimate_aggregate([[0.7], [0.8], [0.9]], bounds=(0, 1)).high == 1


def mean_score(scores: Any) -> Any:
    return scores.mean(axis=(-2, -1))


def test_scores_of_the_same_agents_hang_together() -> None:
    scores = np.repeat(np.linspace(0.5, 0.9, 5)[:, None], 6, axis=1)  # who is good is good everywhere
    apart = estimate_aggregate(scores, mean_score)
    together = estimate_aggregate(scores, mean_score, same_agents=True)
    assert half_width(together) > 2 * half_width(apart)


def test_an_aggregate_of_outcomes_knows_of_the_episodes() -> None:
    tasks = [np.ones((3, 200)), np.ones((3, 200))]
    assert estimate_aggregate(np.ones((3, 2))).low == 1.0  # the scores alone know nothing
    estimate = estimate_aggregate_of_outcomes(tasks)
    assert estimate.value == 1.0
    assert 0.97 < estimate.low < 0.995
    single = estimate_aggregate_of_outcomes([outcomes(90, 100)], mean_score)
    expected = estimate_success(outcomes(90, 100))
    assert (single.low, single.high) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_a_profile_of_episodes_is_of_shares_above_each_threshold() -> None:
    returns = np.array([[0.0, 0.2, 0.8, 0.9], [0.0, 0.0, 0.7, 0.95]])
    profile = estimate_profile([returns], [0.0, 0.5, 0.8, 1.0])
    assert [point.value for point in profile] == [5 / 8, 4 / 8, 2 / 8, 0]
    assert all(0 <= point.low <= point.value <= point.high <= 1 for point in profile)
    assert profile[-1].high > 0.1  # eight episodes without one are no proof


# What cannot be


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: estimate_success([]), "at least one"),
        (lambda: estimate_success([0.5, 2]), "between 0 and 1"),
        (lambda: estimate_success([[1, 0], [1]]), "of the same length"),
        (lambda: estimate_mean([1.0, float("nan")]), "not finite"),
        (lambda: estimate_mean(np.zeros((2, 2, 2))), "(2, 2, 2)"),
        (lambda: estimate_mean_of_tasks([]), "at least one"),
        (lambda: estimate_mean_of_tasks([[1.0], [[1.0], [2.0]]]), "the same runs"),
        (lambda: compare_paired([1, 0], [1]), "different numbers of episodes: the one 2, the other 1"),
        (lambda: compare_over_tasks([[1]], [[1], [1]]), "environments"),
        (lambda: estimate_aggregate([[0.5, 0.5]]), "train with another seed"),
        (lambda: estimate_aggregate([0.5, 0.5]), "a matrix"),
        (lambda: probability_of_improvement([[1.0]], [[1.0, 2.0]]), "the same tasks"),
        (lambda: episodes_needed(difference=0.05), "Give either"),
        (lambda: episodes_needed(difference=0.05, rate=0.9, discordance=0.1), "Give either"),
        (lambda: episodes_needed(difference=0.2, rate=0.9), "Success rates of 0.9 and 1.1 cannot be"),
        (lambda: episodes_needed(difference=0.2, discordance=0.1), "no larger than"),
        (lambda: episodes_needed(difference=0.05, rate=0.5, power=1.0), "The power is 1"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as error:
        call()
    assert sentence in str(error.value)
