"""The figures of an evaluation as a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

from heed.evaluation.report.data import EvaluationData
from heed.evaluation.report.numbers import FIGURES


def write_axes(path: Path, numbers: EvaluationData) -> None:
    """Write a row for each environment, axis and policy, with every figure and its interval."""
    columns = [f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["env", "axis", "policy", "episodes", *columns])
        for environment in numbers["environments"]:
            for axis in environment["axes"]:
                for policy, cell in axis["policies"].items():
                    row: list[object] = [environment["env"], axis["axis"], policy, cell["episodes"]]
                    for name in FIGURES:
                        figure = cell.get(name)
                        row += [figure["value"], *figure["ci95"]] if isinstance(figure, dict) else ["", "", ""]
                    writer.writerow(row)
