"""The pictures of a comparison: learning curves, and the performance profile."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

GREY = "#8b95a5"
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
        _draw(axes, groups, key)
        axes.set_xlabel(name, fontsize=9)
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
        color = f"C{number % 10}"
        axes.plot(profile["returns"], group["share"], color=color, linewidth=1.6, label=group["label"])
        axes.fill_between(profile["returns"], group["low"], group["high"], color=color, alpha=0.18, linewidth=0)
    axes.set_title("share of held-out episodes with a return above", loc="left", fontsize=9)
    axes.set_xlabel("return", fontsize=9)
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


def _draw(axes: Axes, groups: list[dict[str, Any]], key: str) -> None:
    for number, group in enumerate(groups):
        curve = group[key]
        if curve is None:
            continue
        color = f"C{number % 10}"
        # With one point only, there is no line to be seen.
        marker = "o" if curve["x"][0] == curve["x"][-1] else None
        axes.plot(curve["x"], curve["mean"], color=color, linewidth=1.6, marker=marker, label=group["label"])
        axes.fill_between(curve["x"], curve["lowest"], curve["highest"], color=color, alpha=0.18, linewidth=0)
    floors = {(group["env"], group["mean"]["random"]) for group in groups if group["mean"]["random"] is not None}
    if len({env for env, _ in floors}) == 1:
        axes.axhline(max(rate for _, rate in floors), color=GREY, linestyle=":", linewidth=1.2, label="random policy")
    axes.set_title("success in the training's episodes", loc="left", fontsize=9)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    axes.ticklabel_format(axis="x", style="plain")
    axes.locator_params(axis="x", nbins=5)
    calm(axes)


def calm(axes: Axes) -> None:
    """Let little but what is drawn be seen."""
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
