"""Learning curves as SVG, in the colours of the page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, FAINT = "#8a94a3", "#8a94a355"
"""Of axes and grid. On the page the first becomes the page's own colour, which differs in dark mode."""
PAGE_COLORS = {INK: "var(--faint)"}
BLUE, GREEN, ORANGE, RED, GREY = "#3b82f6", "#22a06b", "#e08a1e", "#d9534f", "#8b95a5"
GROUP_COLORS = ("#3b82f6", "#e08a1e", "#22a06b", "#c0539b", "#7a6ff0", "#1aa3b8", "#a3892b", "#d9534f")
"""Of the groups of a comparison, in their order; the style sheet has the same."""

CURVES = (
    ("rollout/success_rate", "success rate", GREEN, (0.0, 1.02)),
    ("rollout/ep_rew_mean", "return", BLUE, None),
    ("rollout/ep_len_mean", "episode length, steps", ORANGE, None),
    ("train/loss", "loss", RED, None),
    ("train/entropy_loss", "negative entropy", RED, None),
    ("train/approx_kl", "approximate KL", RED, None),
    ("train/q_value", "mean Q-value", BLUE, None),
    ("rollout/intrinsic_reward", "intrinsic reward", ORANGE, None),
)
"""What is drawn of a run's curve, where it is there: key, name, colour, range."""


def learning_curves(curve: Sequence[Mapping[str, float]]) -> list[Markup]:
    """Return a chart for each of `CURVES` that a training logged.

    Args:
        curve: the points of the training, each with `steps`.
    """
    charts = []
    for key, name, color, bounds in CURVES:
        points = [(point["steps"], point[key]) for point in curve if key in point]
        if points:
            charts.append(_one_curve(points, name, color, bounds))
    return charts


def group_curves(groups: Sequence[Mapping[str, Any]], key: str, name: str) -> Markup | None:
    """Return the success of several groups of runs while they trained, mean and range; None where none is known.

    Args:
        groups: `GroupData`.
        key: "over_steps" or "over_seconds".
        name: of what runs along the x-axis.
    """
    if not any(group.get(key) for group in groups):
        return None
    figure = Figure(figsize=(5.2, 2.9))
    axes = figure.subplots()
    draw_groups(axes, groups, key)
    axes.set_xlabel(name)
    return as_svg(figure)


def draw_groups(axes: Axes, groups: Sequence[Mapping[str, Any]], key: str) -> None:
    """Draw the success of several groups of runs while they trained, mean and range, each under its label.

    Args:
        axes: to draw into.
        groups: `GroupData`; one without a curve is left out.
        key: "over_steps" or "over_seconds".
    """
    for number, group in enumerate(groups):
        curve = group.get(key)
        if not curve:
            continue
        color = GROUP_COLORS[number % len(GROUP_COLORS)]
        marker = "o" if len(set(curve["x"])) == 1 else None  # a line through one point is not to be seen
        axes.plot(curve["x"], curve["mean"], color=color, linewidth=1.8, marker=marker, label=group.get("label"))
        if "lowest" in curve and "highest" in curve:
            axes.fill_between(curve["x"], curve["lowest"], curve["highest"], color=color, alpha=0.18, linewidth=0)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    axes.set_title("success in the training's episodes", loc="left", color=INK, fontsize=11)
    axes.ticklabel_format(axis="x", style="plain")
    axes.locator_params(axis="x", nbins=5)
    calm(axes)


def _one_curve(
    points: Sequence[tuple[float, float]], name: str, color: str, bounds: tuple[float, float] | None
) -> Markup:
    figure = Figure(figsize=(4.2, 2.4))
    axes = figure.subplots()
    marker = "o" if len(points) == 1 else None
    axes.plot([steps for steps, _ in points], [value for _, value in points], color=color, linewidth=1.6, marker=marker)
    axes.set_title(name, loc="left", color=INK, fontsize=11)
    axes.set_xlabel("steps")
    axes.ticklabel_format(axis="x", style="plain")
    axes.locator_params(axis="x", nbins=4)
    if bounds is not None:
        axes.set_ylim(*bounds)
    calm(axes)
    return as_svg(figure)


def calm(axes: Axes) -> None:
    """Take off what need not be there, and give the rest a grey that reads on light and dark pages."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK, labelsize=10)
    axes.xaxis.label.set_color(INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def as_svg(figure: Figure) -> Markup:
    """Return the figure as an SVG element; the numbers in it are ours, so it is safe as it is."""
    file = io.StringIO()
    # With a salt of its own, the ids within come out the same every time.
    with mpl.rc_context({"svg.hashsalt": "heed"}):
        figure.savefig(
            file, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    text = file.getvalue()
    for color, page_color in PAGE_COLORS.items():
        text = text.replace(color, page_color)
    return Markup(text[text.index("<svg") :])
