"""Evaluations as earlier versions wrote them: one environment, and the instruction true, blank or swapped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from heed.evaluation.report.data import (
    BLANK,
    GREEDY,
    RANDOM,
    SAMPLED,
    SWAPPED,
    TRUE,
    AxisData,
    Cell,
    EnvironmentData,
    EvaluationData,
    LevelData,
    Players,
    TemplateData,
)

DESCRIPTIONS = {
    TRUE: "Nothing is changed.",
    BLANK: "The instruction is hidden.",
    SWAPPED: "Another instruction of the level is shown, while success is judged by the true one.",
}


def as_evaluation(evaluation: Mapping[str, Any]) -> EvaluationData:
    """Return an evaluation as `data.EvaluationData` has it, whichever version wrote it."""
    if "environments" in evaluation or "env" not in evaluation:
        return cast(EvaluationData, evaluation)
    players = {name: _cell(evaluation[name]) for name in (SAMPLED, GREEDY, RANDOM) if name in evaluation}
    axes = [AxisData(axis=TRUE, description=DESCRIPTIONS[TRUE], players=players)]
    for name in (BLANK, SWAPPED):
        value = evaluation["instruction"].get(name)
        if value is not None:
            row = {"success_rate": value, "ci95": evaluation["instruction_ci95"][name]}
            axes.append(AxisData(axis=name, description=DESCRIPTIONS[name], players={SAMPLED: _cell(row)}))
    environment = EnvironmentData(
        env=evaluation["env"],
        axes=axes,
        templates=[
            TemplateData(template=row["template"], axes={TRUE: _cell(row)}) for row in evaluation.get("templates", [])
        ],
        levels=[_level(row) for row in evaluation.get("levels", [])],
    )
    same = {key: evaluation[key] for key in ("episodes", "seed", "trained_steps", "command") if key in evaluation}
    return cast(EvaluationData, {**same, "environments": [environment]})


def _level(row: Mapping[str, Any]) -> LevelData:
    axes: dict[str, Players] = {TRUE: {}}
    for name in (SAMPLED, GREEDY, RANDOM):
        if name in row:
            axes[TRUE][name] = _cell({**row[name], "episodes": row["episodes"]})
    for name in (BLANK, SWAPPED):
        if name in row:
            axes[name] = {SAMPLED: _cell(row[name])}
    return LevelData(level=row["level"], axes=axes)


def _cell(row: Mapping[str, Any]) -> Cell:
    """Return a row of figures as a cell; return and length had no intervals."""
    cell = Cell(success={"value": row["success_rate"], "ci95": list(row["ci95"])})
    if "episodes" in row:
        cell["episodes"] = row["episodes"]
    if "mean_return" in row:
        cell["episode_return"] = {"value": row["mean_return"], "ci95": []}
    if "mean_length" in row:
        cell["length"] = {"value": row["mean_length"], "ci95": []}
    return cell
