"""Intervals hold the truth as often as they claim, and comparisons find what is promised: simulated evaluations.

A share of N evaluations that is 0.95 comes out within 3 sqrt(0.95 · 0.05 / N) of it, but for one case in a thousand.
The simulations are those of `examples.coverage`, which prints the tables of the documentation.
"""

from __future__ import annotations

import math

import pytest

from examples import coverage
from heed.evaluation.statistics import estimate_success
from heed.evaluation.statistics import resampling as resampling_module
from tests.sampling import each_once


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let intervals be taken from fewer draws, which suffices on average over evaluations."""
    monkeypatch.setattr(resampling_module, "RESAMPLES", 600)
    resampling_module._kept_weights.cache_clear()


def tolerance(evaluations: int, claimed: float = 0.95) -> float:
    return 3 * math.sqrt(claimed * (1 - claimed) / evaluations)


@pytest.mark.parametrize(("rate", "episodes"), each_once([0.5, 0.9, 0.98], [100, 500]))
def test_of_success_rates(rate: float, episodes: int) -> None:
    # Successes are whole numbers: whether the interval of the outermost that should count just holds the rate or just
    # does not is worth its chance, 0.015 or so on either side.
    assert coverage.success(rate, episodes, 1500) == pytest.approx(0.95, abs=tolerance(1500) + 0.015)


def test_of_success_rates_over_all_that_can_be_counted() -> None:
    """Without simulation: the chance of each number of successes, times whether its interval holds the rate."""
    episodes = 60
    intervals = [estimate_success([1] * k + [0] * (episodes - k)) for k in range(episodes + 1)]
    covered = []
    for step in range(1, 200):
        rate = step / 200
        chances = [math.comb(episodes, k) * rate**k * (1 - rate) ** (episodes - k) for k in range(episodes + 1)]
        covered.append(sum(c for c, one in zip(chances, intervals, strict=True) if one.contains(rate)))
    # Coverage jumps with the rate, since of 60 episodes only 61 things can be told.
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.012)
    assert min(covered) > 0.86


@pytest.mark.usefixtures("few_resamples")
def test_percentiles_would_not_hold_what_they_claim() -> None:
    assert coverage.success(0.98, 100, 1000, plain=True) < 0.95 - 3 * tolerance(1000)
    assert coverage.several_runs(0.9, 3, 0.4, 300, plain=True) < 0.95 - 3 * tolerance(300)


@pytest.mark.parametrize(("kind", "episodes"), [("exponential", 100), ("babyai 0.9", 100), ("babyai 0.5", 200)])
@pytest.mark.usefixtures("few_resamples")
def test_of_returns(kind: str, episodes: int) -> None:
    assert coverage.returns(kind, episodes, 600) == pytest.approx(0.95, abs=tolerance(600))


@pytest.mark.parametrize("shared", [0.0, 0.7])
@pytest.mark.usefixtures("few_resamples")
def test_of_paired_differences(shared: float) -> None:
    assert coverage.difference(0.95, 0.9, shared, 500, 600) == pytest.approx(0.95, abs=tolerance(600))


@pytest.mark.usefixtures("few_resamples")
def test_of_several_runs_and_episodes() -> None:
    """Where runs differ by more than luck in their episodes; where they do not, the interval is rather too wide."""
    for runs in (3, 5):
        assert coverage.several_runs(0.9, runs, 0.4, 250) == pytest.approx(0.95, abs=tolerance(250))
    assert coverage.several_runs(0.9, 3, 0.0, 200) > 0.95 - tolerance(200)


@pytest.mark.usefixtures("few_resamples")
def test_of_differences_of_methods() -> None:
    covered, _ = coverage.methods((0.95, 0.9), 5, 0.4, 200, episodes=200)
    assert covered == pytest.approx(0.95, abs=tolerance(200))


@pytest.mark.usefixtures("few_resamples")
def test_of_the_interquartile_mean_and_the_probability_of_improvement() -> None:
    middle, better = coverage.aggregates(3, 3, 200)
    assert middle > 0.95 - tolerance(200)
    assert better > 0.95 - tolerance(200)
    middle, better = coverage.aggregates(3, 3, 200, plain=True)
    assert middle < 0.95 - tolerance(200)
    assert better < 0.95 - tolerance(200)


@pytest.mark.parametrize(("blank", "expert", "score"), [(0.25, 1.0, 0.95), (0.25, 0.95, 0.0), (0.8, 1.0, 0.1)])
@pytest.mark.usefixtures("few_resamples")
def test_of_the_following_score(blank: float, expert: float, score: float) -> None:
    covered, scored, _ = coverage.following(blank, expert, score, 200, 200)
    assert scored == 1
    assert covered > 0.95 - tolerance(200)


@pytest.mark.usefixtures("few_resamples")
def test_of_the_following_score_where_there_is_hardly_one() -> None:
    covered, scored, _ = coverage.following(0.8, 0.9, 0.5, 200, 200)
    assert 0.3 < scored < 1
    assert covered > 0.95 - tolerance(int(200 * scored))


@pytest.mark.usefixtures("few_resamples")
def test_of_the_following_score_of_several_runs() -> None:
    covered, _, _ = coverage.following(0.25, 1.0, 0.9, 200, 150, runs=3, run_spread=0.4)
    assert covered > 0.95 - tolerance(150)


@pytest.mark.parametrize("rate", [0.5, 0.9])
@pytest.mark.usefixtures("few_resamples")
def test_a_difference_of_0_05_is_found_with_the_promised_episodes(rate: float) -> None:
    _, found = coverage.power(rate, 1.0, 500)
    assert found == pytest.approx(0.8, abs=tolerance(500, 0.8))
    _, with_half = coverage.power(rate, 1.0, 300, of_episodes=0.5)
    assert with_half < 0.65


@pytest.mark.parametrize("section", sorted(coverage.SECTIONS))
@pytest.mark.usefixtures("few_resamples")
def test_every_table_of_the_documentation_can_be_printed(section: str) -> None:
    heading, rows = coverage.SECTIONS[section]
    assert len(next(rows(10))) == len(heading)
