"""One page that shows an evaluation: figures, curves, recorded episodes. It needs nothing but itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from heed.scripts.recording import Recording

INK, WHISKER, FAINT = "#8a94a3", "#010203", "#8a94a355"
"""Of axes, intervals and grid. On the page they become the page's own colours, which differ in dark mode."""
PAGE_COLORS = {INK: "var(--faint)", WHISKER: "var(--ink)"}
BLUE, GREEN, ORANGE, RED, GREY = "#3b82f6", "#22a06b", "#e08a1e", "#d9534f", "#8b95a5"

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


def write_report(
    out: Path,
    *,
    evaluation: dict[str, Any],
    curve: Sequence[dict[str, float]],
    config: dict[str, Any] | None,
    recordings: Sequence[Recording],
) -> Path:
    """Write `report.html` into `out`.

    Args:
        out: an existing folder.
        evaluation: the content of `evaluation.json`.
        curve: the points of the training, each with `steps`.
        config: the configuration of the run, if it is known.
        recordings: episodes to show.

    Returns:
        The page.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("heed.scripts", "templates"),
        autoescape=True,  # instructions come from anybody's environment
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        evaluation=evaluation,
        config=config or {},
        reading=how_to_read(evaluation),
        instruction_chart=_as_svg(_draw_instructions(evaluation)),
        curve_charts=[
            _as_svg(_draw_curve(curve, *what)) for what in CURVES if any(what[0] in point for point in curve)
        ],
        recordings=[(recording.caption, base64.b64encode(recording.gif).decode()) for recording in recordings],
    )
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def how_to_read(evaluation: dict[str, Any]) -> str:
    """Return a sentence that says what the success with true, blank and swapped instructions means here."""
    shown, intervals = evaluation["instruction"], evaluation["instruction_ci95"]
    rule = "An agent that follows instructions loses success when its instruction is blank or swapped."
    if shown["swapped"] is None:
        return (
            "This level has a single instruction: there is none to swap it with, and an agent may do well without "
            "reading it. A level with varied instructions shows whether it listens."
        )
    others = [name for name in ("blank", "swapped") if intervals[name][1] < intervals["true"][0]]
    if len(others) == 2:
        return f"{rule} This one loses it in both: it listens."
    if others:
        return f"{rule} This one clearly loses it only when the instruction is {others[0]}."
    return f"{rule} This one does not clearly: there is no sign here that it listens."


def _draw_instructions(evaluation: dict[str, Any]) -> Figure:
    bars = [("true", GREEN), ("blank", ORANGE), ("swapped", ORANGE)]
    rows = [
        (f"{name} instruction", evaluation["instruction"][name], evaluation["instruction_ci95"][name], color)
        for name, color in bars
    ]
    rows.append(("random policy", evaluation["random"]["success_rate"], evaluation["random"]["ci95"], GREY))
    rows = [row for row in rows if row[1] is not None]
    figure = Figure(figsize=(4.8, 0.45 * len(rows) + 0.7))
    axes = figure.subplots()
    for place, (_, rate, (low, high), color) in enumerate(rows):
        axes.barh(place, rate, color=color, height=0.62)
        axes.plot([low, high], [place, place], color=WHISKER, linewidth=2, solid_capstyle="butt")
        axes.text(max(rate, high) + 0.02, place, f"{rate:.2f}", va="center", color=INK, fontsize=11)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=11)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.set_xlabel("success rate, sampled actions, with 95 % interval")
    axes.invert_yaxis()
    _calm(axes, grid="x")
    return figure


def _draw_curve(
    curve: Sequence[dict[str, float]], key: str, name: str, color: str, bounds: tuple[float, float] | None
) -> Figure:
    points = [(point["steps"], point[key]) for point in curve if key in point]
    figure = Figure(figsize=(4.2, 2.4))
    axes = figure.subplots()
    marker = "o" if len(points) == 1 else None  # a line through one point is not to be seen
    axes.plot([steps for steps, _ in points], [value for _, value in points], color=color, linewidth=1.6, marker=marker)
    axes.set_title(name, loc="left", color=INK, fontsize=11)
    axes.set_xlabel("steps")
    axes.ticklabel_format(axis="x", style="plain")
    axes.locator_params(axis="x", nbins=4)
    if bounds is not None:
        axes.set_ylim(*bounds)
    _calm(axes, grid="y")
    return figure


def _calm(axes: Any, *, grid: str) -> None:
    """Take off what need not be there, and give the rest a grey that reads on light and dark pages."""
    for side in ("top", "right", "left" if grid == "x" else "right"):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK, labelsize=10)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(axis=grid, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def _as_svg(figure: Figure) -> Markup:
    """Return the figure as an SVG element; the numbers in it are ours, so it is safe as it is."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    for color, page_color in PAGE_COLORS.items():
        text = text.replace(color, page_color)
    return Markup(text[text.index("<svg") :])
