"""What the episodes of a comparison tell: success by axis, following scores, paired differences, a profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heed.evaluation.names import SAMPLED, TRUE
from heed.evaluation.statistics import (
    Matched,
    compare_over_tasks,
    estimate_aggregate_of_outcomes,
    estimate_mean_of_tasks,
    estimate_profile,
    following_of,
    match_runs,
)
from heed.evaluation.statistics.outcomes import SUCCESS
from heed.training.comparison.groups import Group

THRESHOLDS = 21
"""Returns at which a performance profile is drawn."""


def statistics_of(group: Group) -> dict[str, Any]:
    """Return success of the sampled actions by axis, the following score, and the interquartile mean of success.

    The last is over runs and environments. All have intervals over episodes and training seeds; there is nothing for a
    group whose runs have no episodes.csv.
    """
    matched = _sampled(group)
    if not matched:
        return {}
    following = following_of([run.episodes for run in group.runs]).score
    true = [one.outcomes("success") for one in matched.get(TRUE, [])]
    robust = estimate_aggregate_of_outcomes(true, statistic_bounds=SUCCESS) if true else None
    return {
        "axes": {
            axis: estimate_mean_of_tasks([one.outcomes("success") for one in members], bounds=SUCCESS).as_json()
            for axis, members in matched.items()
        },
        "following": following and following.as_json(),
        "interquartile_mean": robust and robust.as_json(),
    }


def _sampled(*groups: Group) -> dict[str, list[Matched]]:
    """Return by axis the environments' episodes that all runs of the groups have played, actions sampled."""
    runs = [run.episodes for group in groups for run in group.runs]
    by_axis: dict[str, list[Matched]] = {}
    for one in match_runs(runs) if all(runs) else ():
        if one.key.policy == SAMPLED:
            by_axis.setdefault(one.key.axis, []).append(one)
    return by_axis


def differences(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return how much better each group is than the first, on each axis, where both have played the same episodes."""
    if not groups:
        return []
    first, *others = groups
    found = []
    for other in others:
        parted = len(other.runs)
        for axis, members in _sampled(other, first).items():
            outcomes = [one.outcomes("success") for one in members]
            comparison = compare_over_tasks(
                [runs[:parted] for runs in outcomes], [runs[parted:] for runs in outcomes], bounds=SUCCESS
            )
            found.append({"one": other.label, "other": first.label, "axis": axis, **comparison.as_json()})
    return found


def profile(groups: Sequence[Group]) -> dict[str, Any] | None:
    """Return the groups' performance profiles: the share of runs and episodes with a return above each threshold.

    None where no episodes of the true instruction are there that all groups have played.
    """
    matched = _sampled(*groups).get(TRUE, [])
    if not matched:
        return None
    returns = [one.outcomes("episode_return") for one in matched]
    low, high = min(float(one.min()) for one in returns), max(float(one.max()) for one in returns)
    thresholds = np.linspace(min(low, 0.0), high, THRESHOLDS)[:-1]
    curves, begin = [], 0
    for group in groups:
        end = begin + len(group.runs)
        shares = estimate_profile([one[begin:end] for one in returns], [float(one) for one in thresholds])
        curves.append(
            {
                "label": group.label,
                "share": [share.value for share in shares],
                "low": [share.low for share in shares],
                "high": [share.high for share in shares],
            }
        )
        begin = end
    return {"returns": [float(one) for one in thresholds], "groups": curves}
