"""One picture of all that `python -m tools.benchmark` has measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLUMNS = 3
TITLES = {
    "speed_up_over_naive": "speed-up over naive",
    "percent_of_ideal": "percent of ideal",
    "naive_memory_over_ours": "naive / our memory",
}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the results of sections, those that are not None, into a PNG file."""
    panels: list[Callable[[Axes], None]] = []
    if scoring := results.get("scoring"):
        rows = scoring["rows"]
        with_gradient = [row for row in rows if row["backward"]]
        panels += [
            partial(_by_actions, [row for row in rows if not row["backward"]], "speed_up_over_naive", "forward"),
            partial(_by_actions, with_gradient, "speed_up_over_naive", "forward + backward"),
            partial(_by_actions, with_gradient, "percent_of_ideal", "forward + backward"),
            partial(_by_actions, with_gradient, "naive_memory_over_ours", "forward + backward"),
        ]
    if training := results.get("training"):
        panels.append(partial(_phases, training))
    if comparison := results.get("comparison"):
        panels.append(partial(_ratios, comparison))
    if growth := results.get("growth"):
        panels.append(partial(_growth, growth))
    if reuse := results.get("reuse"):
        panels.append(partial(_reuse, reuse))
    if shortcuts := results.get("shortcuts"):
        panels.append(partial(_shortcuts, shortcuts))
    if verbalizing := results.get("verbalizing"):
        panels.append(partial(_verbalizing, verbalizing))
    if processes := results.get("processes"):
        panels.append(partial(_processes, processes))
    if ranks := results.get("ranks"):
        panels.append(partial(_ranks, ranks))
    rows_needed = max(1, -(-len(panels) // COLUMNS))
    figure = Figure(figsize=(3.7 * min(COLUMNS, max(1, len(panels))), 3.4 * rows_needed), layout="constrained")
    axes = figure.subplots(rows_needed, min(COLUMNS, max(1, len(panels))), squeeze=False).flatten()
    for panel, place in zip(panels, axes, strict=False):
        panel(place)
        place.title.set_fontsize(9)
        place.tick_params(labelsize=8)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    figure.savefig(path, dpi=90)


def _by_actions(rows: list[dict[str, Any]], figure: str, what: str, axes: Axes) -> None:
    for length in sorted({row["prompt_tokens"] for row in rows}):
        chosen = [row for row in rows if row["prompt_tokens"] == length]
        x, y = [row["actions"] for row in chosen], [row[figure] for row in chosen]
        axes.plot(x, y, marker="o", label=f"{length} tokens")
    axes.set_title(f"{TITLES[figure]}, {what}")
    axes.set_xlabel("actions", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False)


def _phases(training: dict[str, Any], axes: Axes) -> None:
    percent = training["percent"]
    axes.barh(list(percent), list(percent.values()))
    axes.invert_yaxis()
    axes.set_title(f"training, {training['steps_per_second']:.0f} steps/s: percent of time")


def _ratios(comparison: dict[str, Any], axes: Axes) -> None:
    _bars(axes, {f"{name}\n{model}": r for model, m in comparison.items() for name, r in m["ratios"].items()})
    axes.set_title("training, steps/s: ratio")


def _growth(growth: dict[str, Any], axes: Axes) -> None:
    """Draw all that grows in one panel, each from its first size and time on."""
    for name, grown in growth.items():
        sizes = [point["size"] for point in grown["points"]]
        times = [point["milliseconds"]["median"] for point in grown["points"]]
        axes.loglog([size / sizes[0] for size in sizes], [t / times[0] for t in times], marker=".", label=name)
    axes.set_title("time against size, from the smallest")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False)


def _reuse(reuse: dict[str, Any], axes: Axes) -> None:
    history = reuse["history"]
    ratios = {
        "history, tokens": history["tokens_ratio"],
        "history, network": history["network_ratio"],
        "history, rollout": history["ratio"],
    }
    for what in ("frozen", "partly frozen"):
        ratios |= {f"{what}\n{model}": figures["ratio"] for model, figures in reuse[what].items()}
    _bars(axes, ratios)
    axes.set_xscale("log")
    axes.set_title("recomputed / kept")


def _bars(axes: Axes, ratios: dict[str, float]) -> None:
    bars = axes.barh(list(ratios), list(ratios.values()))
    axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.margins(x=0.15)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.tick_params(labelsize=7)


def _shortcuts(result: dict[str, Any], axes: Axes) -> None:
    names = [name for name in result if name != "all"]
    axes.barh([name.removeprefix("without ") for name in names], [result[name]["times_as_long"] for name in names])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_title("time of a step without, against with all")


def _verbalizing(result: dict[str, Any], axes: Axes) -> None:
    axes.barh(list(result), [figures["words"]["median"] for figures in result.values()])
    axes.invert_yaxis()
    axes.set_title("words: microseconds a step")


def _ranks(result: dict[str, Any], axes: Axes) -> None:
    ratios = result["times_one"]
    axes.plot([int(name) for name in ratios], list(ratios.values()), marker="o")
    axes.set_title("training together, steps/s: ratio")
    axes.set_xlabel("processes", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _processes(result: dict[str, Any], axes: Axes) -> None:
    for kind, measured in result.items():
        ratios = measured["times_one"]
        axes.plot([int(name) for name in ratios], list(ratios.values()), marker="o", label=kind)
    axes.set_title("slow environments, steps/s: ratio")
    axes.set_xlabel("processes", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False)
