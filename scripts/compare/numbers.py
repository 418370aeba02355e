"""The numbers of a comparison: each run's, their means, and learning curves over common points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heed.scripts.compare.groups import Group, Run

FIGURES = ("sampled", "greedy", "random", "blank", "swapped")
"""Success rates on held-out episodes: the agent's, the random policy's, and with a changed instruction."""
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
        "groups": [_numbers_of_group(group) for group in groups],
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
        "mean": {name: _mean([run[name] for run in runs]) for name in (*FIGURES, "steps", "seconds")},
        "levels": _means_by_level(group),
        "over_steps": summarised([run.curve for run in group.runs]),
        "over_seconds": summarised([run.timed_curve() for run in group.runs]),
    }


def _numbers_of_run(run: Run) -> dict[str, Any]:
    evaluation = run.evaluation
    shown, intervals = evaluation["instruction"], evaluation["instruction_ci95"]
    return {
        "seed": run.seed,
        "run_dir": str(run.folder),
        **{name: evaluation[name]["success_rate"] for name in ("sampled", "greedy", "random")},
        **{name: shown[name] for name in ("blank", "swapped")},
        "ci95": {
            **{name: evaluation[name]["ci95"] for name in ("sampled", "greedy", "random")},
            **{name: intervals[name] for name in ("blank", "swapped")},
        },
        "steps": run.steps,
        "seconds": run.seconds,
    }


def _means_by_level(group: Group) -> list[dict[str, Any]]:
    """Return the means of success over the runs for each level of a mixture, and of one level nothing."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for run in group.runs:
        for row in run.evaluation.get("levels", []):  # an evaluation by an earlier version has none
            rows.setdefault(row["level"], []).append(row)
    return [
        {
            "level": level,
            "episodes": members[0]["episodes"],
            **{
                name: _mean([row[name]["success_rate"] if name in row else None for row in members]) for name in FIGURES
            },
        }
        for level, members in rows.items()
    ]


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
