"""From the episodes of an evaluation to what evaluation.json holds: figures with their intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from heed.evaluation.axes import axis_from, axis_names
from heed.evaluation.names import SAMPLED
from heed.evaluation.playing import Episode, Evaluation
from heed.evaluation.report.data import VERSION, AxisData, EnvironmentData, EvaluationData, axis_name
from heed.evaluation.statistics import (
    Following,
    Matched,
    Summary,
    estimate_mean_of_tasks,
    following_of,
    match_runs,
    summarise_runs,
)

FIGURES = ("success", "shown_success", "said_impossible", "episode_return", "length", "activity")


def numbers_of(evaluation: Evaluation, *, command: str, trained_steps: int | None = None) -> EvaluationData:
    """Return the content of `evaluation.json`.

    Args:
        evaluation: of one run, or of several on the same episodes.
        command: that made it.
        trained_steps: of the run, where there is one.
    """
    runs = by_run(evaluation.episodes)
    cells = summarise_runs(runs)
    numbers: EvaluationData = {
        "version": VERSION,
        "suite": evaluation.suite,
        "episodes": max((cell.episodes for cell in cells), default=0),
        "seed": evaluation.seed,
        "environments": environments_of(runs, cells),
        "missing": [missing.as_record() for missing in evaluation.missing],  # type: ignore[misc]
        "command": command,
    }
    if trained_steps is not None:
        numbers["trained_steps"] = trained_steps
    unfinished = Counter((one.env, one.axis, one.policy, one.length) for one in evaluation.episodes if not one.finished)
    if unfinished:
        numbers["unfinished"] = [
            {"env": env, "axis": axis, "policy": policy, "steps": steps, "episodes": count}
            for (env, axis, policy, steps), count in unfinished.items()
        ]
    if len(numbers["environments"]) > 1:
        numbers["mean"] = _mean(runs)
    return numbers


def by_run(episodes: Sequence[Episode]) -> list[list[Episode]]:
    """Return the episodes of each run."""
    runs: dict[str, list[Episode]] = {}
    for episode in episodes:
        runs.setdefault(episode.run, []).append(episode)
    return list(runs.values())


def environments_of(runs: Sequence[Sequence[Episode]], cells: Sequence[Summary]) -> list[EnvironmentData]:
    """Return what was reached in each environment.

    Args:
        runs: the episodes of each run.
        cells: their summary.
    """
    policies = list(dict.fromkeys(cell.key.policy for cell in cells))
    shown_first = SAMPLED if SAMPLED in policies or not policies else policies[0]
    # Only what is told is resampled: the first policy's templates, and levels where there are any.
    templates = summarise_runs([[one for one in run if one.policy == shown_first] for run in runs], by=("template",))
    levels = summarise_runs([[one for one in run if one.level] for run in runs], by=("level",))
    following = following_of(runs, policy=shown_first).environments if policies else {}
    found: list[EnvironmentData] = []
    for env in dict.fromkeys(cell.key.env for cell in cells):
        data: EnvironmentData = {"env": env, "axes": _axes([one for one in cells if one.key.env == env], runs)}
        if env in following:
            data["following"] = _following(following[env])
        own = [one for one in templates if one.key.env == env]
        data["templates"] = [
            {"template": name, "axes": {one.key.axis: _cell(one) for one in members}}
            for name, members in _parts(own, lambda one: one.key.template or "")
        ]
        data["levels"] = [
            {
                "level": name,
                "axes": {axis: _policies(there) for axis, there in _parts(members, lambda one: one.key.axis)},
            }
            for name, members in _parts([one for one in levels if one.key.env == env], lambda one: one.key.level or "")
        ]
        data["levels"].sort(key=lambda row: row["level"])
        found.append(data)
    return found


def _axes(cells: Sequence[Summary], runs: Sequence[Sequence[Episode]]) -> list[AxisData]:
    return [
        {
            "axis": axis,
            "description": describe_axis(axis),
            "policies": _policies(members),
            "example": _example(members[0], runs),
        }
        for axis, members in _parts(cells, lambda one: one.key.axis)
    ]


def describe_axis(label: str) -> str:
    """Return the description of the axis of a label, or nothing where no axis has its name."""
    name = axis_name(label)
    return axis_from(name).description if name in axis_names() else ""


def _example(cell: Summary, runs: Sequence[Sequence[Episode]]) -> Any:
    """Return an instruction and what was shown for it, one that differs if there is one."""
    episodes = [one for one in runs[0] if (one.env, one.axis) == (cell.key.env, cell.key.axis)]
    chosen = next((one for one in episodes if one.shown != one.instruction), episodes[0])
    return {"instruction": chosen.instruction, "shown": chosen.shown}


def _parts(cells: Sequence[Summary], key: Callable[[Summary], str]) -> list[tuple[str, list[Summary]]]:
    """Return cells by a key, in the order in which they come."""
    parts: dict[str, list[Summary]] = {}
    for cell in cells:
        parts.setdefault(key(cell), []).append(cell)
    return list(parts.items())


def _policies(cells: Sequence[Summary]) -> Any:
    return {cell.key.policy: _cell(cell) for cell in cells}


def _cell(cell: Summary) -> Any:
    figures = {name: getattr(cell, name) for name in FIGURES}
    return {
        "episodes": cell.episodes,
        **{name: figure.as_json() for name, figure in figures.items() if figure is not None},
    }


def _following(following: Following) -> Any:
    return following.as_json()


def _mean(runs: Sequence[Sequence[Episode]]) -> EnvironmentData:
    """Return the means over environments, each counting alike, of what was played in all of them."""
    matched = match_runs(runs)
    environments = list(dict.fromkeys(one.key.env for one in matched))
    data: EnvironmentData = {"env": f"mean of {len(environments)} environments", "axes": []}
    tasks: dict[str, dict[str, list[Matched]]] = {}
    for one in matched:
        tasks.setdefault(one.key.axis, {}).setdefault(one.key.policy, []).append(one)
    for axis, policies in tasks.items():
        whole = {policy: members for policy, members in policies.items() if len(members) == len(environments)}
        if whole:
            means: Any = {
                policy: {
                    "success": estimate_mean_of_tasks(
                        [one.outcomes("success") for one in members], bounds=(0, 1)
                    ).as_json()
                }
                for policy, members in whole.items()
            }
            data["axes"].append({"axis": axis, "description": describe_axis(axis), "policies": means})
    mean = following_of(runs)
    data["following"] = {"score": mean.score and mean.score.as_json(), "reason": mean.reason}  # type: ignore[typeddict-item]
    return data
