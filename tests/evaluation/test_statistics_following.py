"""The following score of reference agents, by hand and simulated, and figures from rows of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from heed.evaluation.statistics import (
    Successes,
    estimate_mean,
    estimate_success,
    following_of,
    following_score,
    match_runs,
    mean_following,
    summarise_runs,
)

EPISODES = 512


def successes(rate: float, seed: int, episodes: int = EPISODES) -> Any:
    return np.random.default_rng(seed).random(episodes) < rate


def first(number: int, episodes: int = 100) -> list[int]:
    """Return success in the first episodes."""
    return [1] * number + [0] * (episodes - number)


@pytest.mark.parametrize(
    ("true", "blank", "expected"),
    [
        (0.8, 0.8, 0),  # never reads, and visits everything
        (0.25, 0.25, 0),  # acts at random
        (1.0, 0.25, 1),  # the expert, which does not know what to do without an instruction
    ],
)
def test_reference_agents_have_the_scores_that_they_must(true: float, blank: float, expected: float) -> None:
    held = 0
    for seed in range(20):
        played = Successes(
            true=successes(true, 2 * seed), blank=successes(blank, 2 * seed + 1), expert=np.ones(EPISODES)
        )
        score = following_score(played).score
        assert score is not None
        assert score.high - score.low < 0.9
        assert not score.contains(1 - expected)
        held += score.contains(expected)
    assert held >= 17  # of twenty, one more or less than 19


def test_the_score_by_hand() -> None:
    following = following_score(Successes(true=first(60), blank=first(20), expert=first(100)))
    assert following.score is not None
    assert following.reason is None
    assert following.score.value == pytest.approx((0.6 - 0.2) / (1 - 0.2))
    assert 0.3 < following.score.low < 0.45
    assert 0.55 < following.score.high < 0.7
    assert (following.true.value, following.blank.value, following.expert.value) == (0.6, 0.2, 1.0)
    assert following.room.value == pytest.approx(0.8)
    assert (following.episodes, following.by_run) == (100, (following.score.value,))


def test_the_score_is_not_clipped() -> None:
    better = following_score(Successes(true=first(95), blank=first(20), expert=first(80))).score
    harmed = following_score(Successes(true=first(20), blank=first(60), expert=first(100))).score
    assert better is not None
    assert harmed is not None
    assert better.value == pytest.approx(75 / 60)
    assert harmed.value == pytest.approx(-40 / 40)
    assert harmed.high < 0


def test_what_is_hard_for_all_three_cancels() -> None:
    order = np.random.default_rng(0).permutation(100)
    alike = Successes(true=first(60), blank=first(50), expert=first(80))
    mixed = replace(alike, blank=np.array(alike.blank)[order])
    scores = [following_score(one).score for one in (alike, mixed)]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0].value == scores[1].value
    assert scores[0].high - scores[0].low < 0.8 * (scores[1].high - scores[1].low)


def test_without_room_for_an_instruction_there_is_no_score_but_a_reason() -> None:
    close = following_score(Successes(true=first(98), blank=first(97), expert=first(99)))
    assert close.score is None
    assert close.reason == (
        "without an instruction the agent succeeds in 0.970 of 100 episodes, the expert in 0.990: too close to tell "
        "whether the instruction is needed"
    )
    assert close.as_json()["score"] is None
    worse = following_score(Successes(true=first(98), blank=first(97), expert=first(50)))
    assert worse.score is None
    assert "which is less" in str(worse.reason)


def test_of_several_runs_the_rates_are_averaged_before_they_are_divided() -> None:
    played = Successes(true=[first(100), first(50)], blank=[first(90), first(10)], expert=first(100))
    following = following_score(played)
    assert following.score is not None
    assert following.score.value == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert list(following.by_run) == pytest.approx([1.0, 40 / 90])
    one = following_score(replace(played, true=first(75), blank=first(50))).score
    assert one is not None
    assert following.score.high - following.score.low > one.high - one.low  # for other training seeds


def test_environments_count_alike_and_those_without_a_score_are_named() -> None:
    half = Successes(true=first(60), blank=first(20), expert=first(100))
    none = Successes(true=first(20), blank=first(20), expert=first(100))
    closed = Successes(true=first(98), blank=first(98), expert=first(98))
    mean = mean_following({"a": half, "b": none})
    assert mean.score is not None
    assert mean.score.value == pytest.approx(0.25)
    assert mean.reason is None
    single = following_score(half).score
    assert single is not None
    assert mean.score.high - mean.score.low < single.high - single.low
    some = mean_following({"a": half, "b": closed}, missing={"c": "it crashed"})
    assert some.score is not None
    assert some.score.value == pytest.approx(0.5)
    assert "without b: without an instruction the agent succeeds in 0.980" in str(some.reason)
    assert str(some.reason).endswith("without c: it crashed")
    assert list(some.environments) == ["a", "b"]
    assert mean_following({"b": closed}).score is None
    assert mean_following({}).reason == "no environment was played"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: following_score(Successes(true=[1], blank=[1, 0], expert=[1, 1])), "different numbers of episodes"),
        (lambda: following_score(Successes(true=[[1], [0]], blank=[[1]], expert=[1])), "as many runs"),
        (lambda: following_score(Successes(true=[2], blank=[0], expert=[1])), "between 0 and 1"),
        (
            lambda: mean_following(
                {
                    "a": Successes(true=[1], blank=[0], expert=[1]),
                    "b": Successes(true=[[1], [1]], blank=[[0], [0]], expert=[1]),
                }
            ),
            "the same runs",
        ),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as error:
        call()
    assert sentence in str(error.value)


# Rows


@dataclass(frozen=True, kw_only=True)
class Row:
    """An episode as an evaluation has it, as far as figures need it."""

    seed: int
    success: bool = True
    env: str = "A-v0"
    axis: str = "true"
    policy: str = "sampled"
    shown_success: bool | None = None
    episode_return: float = 0.0
    length: int = 1
    activity: float = 0.5
    level: str = ""
    template: str = "go to"


def rows(outcomes: Sequence[int], **fields: Any) -> list[Row]:
    return [Row(seed=seed, success=bool(success), **fields) for seed, success in enumerate(outcomes)]


def test_a_summary_has_a_row_for_each_environment_axis_and_policy() -> None:
    played = [
        *rows(first(6, 10), length=7, episode_return=0.25),
        *rows(first(3, 10), axis="swapped", shown_success=True),
        *rows(first(9, 10), policy="greedy"),
        *rows(first(1, 10), env="B-v0"),
    ]
    cells = summarise_runs([played])
    keys = [(cell.key.env, cell.key.axis, cell.key.policy) for cell in cells]
    assert keys == [
        ("A-v0", "true", "sampled"),
        ("A-v0", "swapped", "sampled"),
        ("A-v0", "true", "greedy"),
        ("B-v0", "true", "sampled"),
    ]
    assert [cell.success.value for cell in cells] == [0.6, 0.3, 0.9, 0.1]
    assert cells[0].success == estimate_success(first(6, 10))
    assert (cells[0].length.value, cells[0].episode_return.value, cells[0].activity.value) == (7, 0.25, 0.5)
    assert (cells[0].shown_success, cells[0].told) == (None, 0)
    assert cells[1].shown_success == estimate_success([1] * 10)
    assert cells[1].told == 10


@dataclass(frozen=True)
class Saying(Row):
    """An episode of an agent that could say that its instruction cannot be done."""

    said_impossible: bool | None = None


def test_what_was_said_is_a_figure_where_there_was_an_action_for_it() -> None:
    said = [Saying(seed=seed, axis="impossible", said_impossible=seed < 7) for seed in range(10)]
    silent = [Saying(seed=seed) for seed in range(10)]
    asked, plain, other = summarise_runs([[*said, *silent, *rows(first(5, 10), policy="random")]])
    assert asked.said_impossible == estimate_success(first(7, 10))
    assert (plain.said_impossible, other.said_impossible) == (None, None)
    # Of several runs the episodes count in which all of them could say it.
    half = [replace(one, said_impossible=None) if one.seed % 2 else one for one in said]
    (both,) = summarise_runs([said, half])
    assert both.said_impossible is not None
    assert both.said_impossible.value == 0.8


def test_a_summary_is_parted_by_template_and_level() -> None:
    played = [
        *rows(first(6, 10)),
        *(replace(row, seed=50 + row.seed, template="pick up") for row in rows(first(2, 10))),
    ]
    cells = {cell.key.template: cell for cell in summarise_runs([played], by=("template",))}
    assert {name: cell.success.value for name, cell in cells.items()} == {"go to": 0.6, "pick up": 0.2}
    assert [cell.key.level for cell in summarise_runs([played], by=("level",))] == [""]


def test_several_runs_are_matched_by_seeds() -> None:
    one, other = rows(first(6, 10)), list(reversed(rows(first(4, 12))))
    (matched,) = match_runs([one, other])
    assert matched.seeds == tuple(range(10))
    assert matched.outcomes("success").tolist() == [first(6, 10), first(4, 10)]
    (cell,) = summarise_runs([one, other])
    assert (cell.runs, cell.episodes, cell.success.value) == (2, 10, 0.5)
    assert cell.success == estimate_success([first(6, 10), first(4, 10)])
    assert cell.length == estimate_mean(np.ones((2, 10)))
    assert match_runs([one, rows([1], env="B-v0")]) == []
    assert match_runs([]) == []
    with pytest.raises(ValueError, match="A-v0, true, sampled is there twice"):
        summarise_runs([[*one, *one]])


def test_the_following_score_is_found_in_rows() -> None:
    run = [
        *rows(first(60)),
        *rows(first(20), axis="blank"),
        *rows(first(100), policy="expert"),
        *rows(first(90), env="B-v0"),
    ]
    found = following_of([run])
    assert found.environments["A-v0"] == following_score(Successes(true=first(60), blank=first(20), expert=first(100)))
    assert found.score == found.environments["A-v0"].score
    assert found.reason == "without B-v0: there are no episodes with a blank instruction and the expert"
    second = [*rows(first(80)), *rows(first(20), axis="blank")]  # the expert's are in the first run
    both = following_of([run, second]).environments["A-v0"]
    assert list(both.by_run) == pytest.approx([0.5, 0.75])
