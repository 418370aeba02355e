"""Rates as horizontal bars with their intervals, drawn by the page's style sheet: they fit any width.

A bar is a share of its track's width, an interval a line across its end, a reference a mark on the track.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heed.evaluation.names import EXPERT, RANDOM, TRUE
from heed.evaluation.report.data import EnvironmentData, cell_of


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One rate."""

    label: str
    """For whoever cannot see colours."""
    kind: str
    """Names its colour in the style sheet: "true", "shown", or "group-0" to "group-7"."""
    rate: float
    interval: tuple[float, float] | None

    @property
    def text(self) -> str:
        """The rate as it stands beside the bar."""
        return f"{self.rate:.2f}"

    @property
    def spoken(self) -> str:
        """The whole of it in words."""
        told = f"{self.label}: {self.rate:.3f}"
        return (
            told if self.interval is None else f"{told}, 95 % interval {self.interval[0]:.3f} to {self.interval[1]:.3f}"
        )

    @property
    def style(self) -> str:
        """Where the bar ends and the interval lies, for the style sheet."""
        low, high = self.interval or (self.rate, self.rate)
        return f"--rate:{_share(self.rate)};--low:{_share(low)};--high:{_share(high)}"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A rate to compare with."""

    label: str
    kind: str
    """"random" or "expert"."""
    rate: float

    @property
    def style(self) -> str:
        """Where it stands, for the style sheet."""
        return f"--at:{_share(self.rate)}"


@dataclass(frozen=True, kw_only=True)
class BarRow:
    """What belongs together, under one name."""

    label: str
    description: str
    bars: Sequence[Bar]
    marks: Sequence[Mark]


def bar(label: str, kind: str, figure: Any) -> Bar | None:
    """Return a figure as a bar, or None where it is missing or no number.

    Args:
        label: for whoever cannot see colours.
        kind: of `Bar`.
        figure: a `Figure`, or (rate, low, high), or None.
    """
    value, interval = as_rate(figure)
    return None if value is None else Bar(label=label, kind=kind, rate=value, interval=interval)


def as_rate(figure: Any) -> tuple[float | None, tuple[float, float] | None]:
    """Return a number and its interval, each None where it is missing or not finite.

    Args:
        figure: a `Figure`, or (rate, low, high), or a number, or None.
    """
    if isinstance(figure, Mapping):
        numbers = [figure.get("value"), *(figure.get("ci95") or ())]
    elif isinstance(figure, Sequence) and not isinstance(figure, str):
        numbers = list(figure)
    else:
        numbers = [figure]
    finite = [number if _is_number(number) else None for number in numbers]
    value = finite[0] if finite else None
    if value is None or len(finite) != 3 or finite[1] is None or finite[2] is None:
        return value, None
    return value, (finite[1], finite[2])


def axis_rows(environment: EnvironmentData, policy: str) -> list[BarRow]:
    """Return a row for each axis on which a policy's success is known.

    Where chance or the expert played on an axis, they stand beside it; where not, as they did with nothing changed.

    Args:
        environment: what was reached in it.
        policy: whose success is drawn.
    """
    rows = []
    for axis in environment.get("axes", []):
        cell = axis.get("policies", {}).get(policy, {})
        bars = [
            bar("success, true instruction", "true", cell.get("success")),
            bar("success, shown instruction", "shown", cell.get("shown_success")),
        ]
        drawn = [one for one in bars if one is not None]
        if not drawn:
            continue
        marks = []
        for kind in (RANDOM, EXPERT):
            here = cell_of(environment, axis["axis"], kind) or cell_of(environment, TRUE, kind)
            value, _ = as_rate(here.get("success"))
            if value is not None:
                marks.append(Mark(label=f"{kind}: {value:.3f}", kind=kind, rate=value))
        rows.append(BarRow(label=axis["axis"], description=axis.get("description", ""), bars=drawn, marks=marks))
    return rows


def has(rows: Iterable[BarRow], kind: str) -> bool:
    """Say whether a bar or mark of that kind is among the rows: a legend names only what is drawn."""
    return any(kind in {*(bar.kind for bar in row.bars), *(mark.kind for mark in row.marks)} for row in rows)


def _is_number(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _share(rate: float) -> str:
    return f"{min(max(rate, 0.0), 1.0):.4f}"
