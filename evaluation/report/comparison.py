"""One page for several groups of runs: the same axes side by side, what differs, and how fast they learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.evaluation.names import SUCCESS_CELLS
from heed.evaluation.report.bars import Bar, BarRow, as_rate, bar
from heed.evaluation.report.curves import group_curves
from heed.evaluation.report.pages import thousands, write_page

KINDS = 8
"""Colours that groups have; a ninth begins again."""


@dataclass(frozen=True, kw_only=True)
class DifferenceRow:
    """How two groups differ on one axis, drawn on a line with 0 in its middle."""

    label: str
    pair: str
    text: str
    better: str
    style: str
    """Where the difference and its interval lie, for the style sheet."""
    clear: bool
    """Whether the interval leaves out 0."""


def write_comparison_page(out: Path, comparison: Mapping[str, Any]) -> Path:
    """Write `comparison.html` into `out`.

    Args:
        out: an existing folder.
        comparison: the content of `comparison.json`: a `heed.evaluation.report.data.ComparisonData`. What it lacks, the
            page lacks as well.

    Returns:
        The page.
    """
    groups: Sequence[Mapping[str, Any]] = comparison.get("groups") or []
    labels = [str(group.get("label") or f"group {number}") for number, group in enumerate(groups, 1)]
    return write_page(
        out / "comparison.html",
        "comparison.html",
        title=_title(groups),
        comparison=comparison,
        groups=list(zip(labels, (kind_of(number) for number in range(len(groups))), groups, strict=True)),
        axes=_axis_rows(groups, labels),
        following=_following(groups, labels),
        differences=_differences(comparison.get("differences") or []),
        charts=[
            chart
            for key, name in (("over_steps", "environment steps"), ("over_seconds", "seconds of training"))
            if (chart := group_curves(groups, key, name)) is not None
        ],
        number=_rate,
        whole=_whole,
        thousands=thousands,
    )


def kind_of(number: int) -> str:
    """Return the name of a group's colour in the style sheet."""
    return f"group-{number % KINDS}"


def _title(groups: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(str(group["env"]) for group in groups if group.get("env")))
    return ", ".join(names) or "Comparison"


def _axis_rows(groups: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[BarRow]:
    """Return a row for each axis that a group has, with a bar for each group that has it."""
    figures = [_axes_of(group) for group in groups]
    rows = []
    for axis in dict.fromkeys(name for one in figures for name in one):
        bars = [
            bar(label, kind_of(number), one.get(axis))
            for number, (label, one) in enumerate(zip(labels, figures, strict=True))
        ]
        drawn: list[Bar] = [one for one in bars if one is not None]
        if drawn:
            rows.append(BarRow(label=axis, description="", bars=drawn, marks=[]))
    return rows


def _axes_of(group: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a group's figures by axis; where it has none, its mean rates."""
    axes: Mapping[str, Any] = group.get("axes") or {}
    mean: Mapping[str, Any] = group.get("mean") or {}
    return axes or {name: mean[name] for name in SUCCESS_CELLS if mean.get(name) is not None}


def _following(groups: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return label, score and interval of the groups that have a following score."""
    rows = []
    for label, group in zip(labels, groups, strict=True):
        value, interval = as_rate(group.get("following"))
        if value is not None:
            rows.append((label, f"{value:.2f}", "" if interval is None else f"{interval[0]:.2f} – {interval[1]:.2f}"))
    return rows


def _differences(differences: Sequence[Mapping[str, Any]]) -> list[DifferenceRow]:
    """Return the differences that are known, on one scale."""
    known = [(one, *as_rate(one.get("difference"))) for one in differences]
    found = [(one, value, interval or (value, value)) for one, value, interval in known if value is not None]
    widest = max((abs(end) for *_, interval in found for end in interval), default=0.0) or 1.0
    rows = []
    for one, value, (low, high) in found:
        improvement, spread = as_rate(one.get("better"))
        better = "" if improvement is None else f"probability of improvement {improvement:.2f}"
        if spread is not None:
            better += f" ({spread[0]:.2f} to {spread[1]:.2f})"
        names = [str(one.get("axis") or "success"), *([str(one["env"])] if one.get("env") else [])]
        rows.append(
            DifferenceRow(
                label=", ".join(names),
                pair=f"{one.get('one', '?')} less {one.get('other', '?')}",
                text=f"{_signed(value)} ({_signed(low)} to {_signed(high)})",
                better=better,
                style=";".join(
                    f"--{name}:{0.5 + 0.5 * number / widest:.4f}"
                    for name, number in (("at", value), ("low", low), ("high", high))
                ),
                clear=low > 0 or high < 0,
            )
        )
    return rows


def _signed(number: float) -> str:
    return f"{number:+.3f}".replace("-", "\N{MINUS SIGN}")


def _rate(value: Any) -> str:
    """Return a rate for the table, or a dash."""
    number, _ = as_rate(value)
    return "–" if number is None else f"{number:.3f}"


def _whole(value: Any) -> str:
    """Return a whole number for the table, or a dash."""
    number, _ = as_rate(value)
    return "–" if number is None else thousands(number)
