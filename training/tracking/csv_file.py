"""A CSV file: one row for each point of the curve, a column for each metric."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, TextIO

from stable_baselines3.common.logger import KVWriter

from heed.training.tracking.tracking import numbers_of

STEPS = "steps"


class CsvWriter(KVWriter):
    """Writes metrics as a table, for spreadsheets and `pandas.read_csv`.

    A metric that comes up later (losses, after the first update) is a new column, empty in the rows before: the file is
    then written anew. SB3's own format would begin a new file when a training goes on.

    Args:
        path: the file; what it holds is gone on from.
        steps: where the training begins or goes on: rows of a stopped one beyond are dropped.

    Raises:
        OSError: if the file cannot be written.
    """

    def __init__(self, path: Path, *, steps: int):
        self._path = path
        self._columns = [STEPS]
        if not path.is_file():
            self._write_all([])
            return
        # A row that a crash cut off does not end its line.
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        reader = csv.DictReader(whole.splitlines())
        rows = [row for row in reader if float(row[STEPS]) <= steps]
        self._columns = list(reader.fieldnames or self._columns)
        self._write_all(rows)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Append a row."""
        row = {STEPS: step, **numbers_of(key_values)}
        new = [name for name in row if name not in self._columns]
        if new:
            with self._path.open(newline="", encoding="utf-8") as file:
                rows: list[dict[str, Any]] = list(csv.DictReader(file))
            self._columns = [STEPS, *sorted({*self._columns, *new} - {STEPS})]
            self._write_all([*rows, row])
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            self._writer(file).writerow(row)

    def _write_all(self, rows: list[dict[str, Any]]) -> None:
        """Write the file anew; a crash leaves the old one."""
        temporary = self._path.with_suffix(".partial")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = self._writer(file)
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(self._path)

    def _writer(self, file: TextIO) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self._columns, restval="", lineterminator="\n")

    def close(self) -> None:
        """Do nothing: the file is closed after each row."""
