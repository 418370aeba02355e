"""The numbers of a comparison: each run's, their means, and learning curves over common points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heed.evaluation.names import SUCCESS_CELLS
from heed.evaluation.report.data import EnvironmentData, LevelData, cell_of
from heed.training.comparison.groups import Group, Run
from heed.training.comparison.statistics import differences, profile, statistics_of

POINTS = 100
"""Points of a learning curve."""

Curve = dict[str, list[float]]
"""`x` (steps or seconds), and over the runs of a group the `mean`, the `lowest` and the `highest` success rate."""


def numbers_of(groups: Sequence[Group]) -> dict[str, Any]:
    """Return all that the table and the picture show, as JSON."""
    evaluation = groups[0].runs[0].evaluation
    return {
        "episodes": evaluation["episodes"],
        "evaluation_seed": evaluation["seed"],
        "groups": [{**_numbers_of_group(group), **statistics_of(group)} for group in groups],
        "differences": differences(groups),
        "profile": profile(groups),
    }


def _numbers_of_group(group: Group) -> dict[str, Any]:
    runs = [_numbers_of_run(run) for run in group.runs]
    config = group.runs[0].config
    return {
        "label": group.label,
        "env": config["env"],
        "agent": config["agent"],
        "command": group.command,
        "hyperparameters": config.get("hyperparameters", {}),
        "runs": runs,
        "mean": {name: _mean([run[name] for run in runs]) for name in (*SUCCESS_CELLS, "steps", "seconds")},
        "levels": _means_by_level(group),
        "over_steps": summarised([run.curve for run in group.runs]),
        "over_seconds": summarised([run.timed_curve() for run in group.runs]),
    }


def _numbers_of_run(run: Run) -> dict[str, Any]:
    figures = figures_of(run)
    return {
        "seed": run.seed,
        "run_dir": str(run.folder),
        **{name: figure and figure["value"] for name, figure in figures.items()},
        "ci95": {name: figure and figure["ci95"] for name, figure in figures.items()},
        "steps": run.steps,
        "seconds": run.seconds,
    }


def figures_of(run: Run) -> dict[str, Any]:
    """Return success in the environment of the training by the names of `SUCCESS_CELLS`, None where it is not known."""
    environment = main_environment(run)
    return {name: cell_of(environment, axis, policy).get("success") for name, (axis, policy) in SUCCESS_CELLS.items()}


def main_environment(run: Run) -> EnvironmentData:
    """Return the evaluation in the environment of the training, or where it was not played, in the first."""
    environments = run.evaluation["environments"]
    return next((one for one in environments if one["env"] == run.config["env"]), environments[0])


def _means_by_level(group: Group) -> list[dict[str, Any]]:
    """Return the means of success over the runs for each level of a mixture, and of one level nothing."""
    rows: dict[str, list[LevelData]] = {}
    for run in group.runs:
        for row in main_environment(run).get("levels", []):
            rows.setdefault(row["level"], []).append(row)
    return [
        {
            "level": level,
            "episodes": max(cell["episodes"] for policies in members[0]["axes"].values() for cell in policies.values()),
            **{
                name: _mean([_success(row, axis, policy) for row in members])
                for name, (axis, policy) in SUCCESS_CELLS.items()
            },
        }
        for level, members in rows.items()
    ]


def _success(row: LevelData, axis: str, policy: str) -> float | None:
    figure = row["axes"].get(axis, {}).get(policy, {}).get("success")
    return None if figure is None else figure["value"]


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean, or None where one is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def summarised(curves: Sequence[Sequence[tuple[float, float]]]) -> Curve | None:
    """Return mean and range of curves over common points, from where all have begun to where the last one ends.

    A training that stopped early counts with its last value from there on.

    Args:
        curves: (x, y) of each run, x growing.

    Returns:
        The summary, or None where a curve has no points.
    """
    if not curves or not all(curves):
        return None
    begin, end = max(curve[0][0] for curve in curves), max(curve[-1][0] for curve in curves)
    x = np.linspace(begin, max(begin, end), POINTS)
    points = [np.array(curve) for curve in curves]  # each (n, 2)
    y = np.stack([np.interp(x, one[:, 0], one[:, 1]) for one in points])  # (runs, points)
    summary = {"x": x, "mean": y.mean(axis=0), "lowest": y.min(axis=0), "highest": y.max(axis=0)}
    return {name: [round(float(value), 4) for value in values] for name, values in summary.items()}
