"""The pictures of a comparison: learning curves, and the performance profile."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heed.evaluation.report.curves import GREY, GROUP_COLORS, INK, calm, draw_groups

LETTER, LINE, MARGIN = 0.068, 0.16, 0.6
"""Of a legend in inches: a letter's width and a line's height on the average, and what a column has beside its text."""


def draw_curves(numbers: dict[str, Any], path: Path) -> None:
    """Draw success over steps, and over seconds where all groups know them, into a PNG file.

    Args:
        numbers: of `numbers_of`. A group without a curve is left out.
        path: the file.
    """
    groups = numbers["groups"]
    axes_of = {"over_steps": "environment steps"}
    if any(group["over_seconds"] for group in groups):
        axes_of["over_seconds"] = "seconds of training"
    figure = Figure(figsize=(4.8 * len(axes_of), 3.4), layout="constrained")
    for axes, (key, name) in zip(figure.subplots(1, len(axes_of), squeeze=False)[0], axes_of.items(), strict=True):
        draw_groups(axes, groups, key)
        _add_floor(axes, groups)
        axes.set_xlabel(name)
    add_legend(figure)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def draw_profile(numbers: dict[str, Any], path: Path) -> bool:
    """Draw which share of the episodes had more than a return (Agarwal et al. 2021, arXiv 2108.13264, section 4.2).

    Args:
        numbers: of `numbers_of`.
        path: the PNG file.

    Returns:
        Whether there was anything to draw: whether the groups' runs have played the same episodes, and kept them.
    """
    profile = numbers["profile"]
    if profile is None:
        return False
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.subplots()
    for number, group in enumerate(profile["groups"]):
        color = GROUP_COLORS[number % len(GROUP_COLORS)]
        axes.plot(profile["returns"], group["share"], color=color, linewidth=1.6, label=group["label"])
        axes.fill_between(profile["returns"], group["low"], group["high"], color=color, alpha=0.18, linewidth=0)
    axes.set_title("share of held-out episodes with a return above", loc="left", color=INK, fontsize=11)
    axes.set_xlabel("return")
    axes.set_ylim(0, 1.02)
    calm(axes)
    add_legend(figure)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return True


def add_legend(figure: Figure) -> None:
    """Name the lines below, in as many columns as there is room for, and make the figure higher by as much."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    width, height = figure.get_size_inches()
    labels = [textwrap.fill(label, int((width - MARGIN) / LETTER)) for label in labels]
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = max(1, min(3, len(labels), int(width / (LETTER * longest + MARGIN))))
    lines = sum(label.count("\n") + 1 for label in labels)
    figure.set_size_inches(width, height + LINE * (lines / columns - 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _add_floor(axes: Axes, groups: list[dict[str, Any]]) -> None:
    """Draw what the random policy reaches, where all groups are of one environment."""
    floors = {(group["env"], group["mean"]["random"]) for group in groups if group["mean"]["random"] is not None}
    if len({env for env, _ in floors}) == 1:
        axes.axhline(max(rate for _, rate in floors), color=GREY, linestyle=":", linewidth=1.2, label="random policy")
