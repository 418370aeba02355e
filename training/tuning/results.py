"""What a search comes to: the best options as YAML, a table, numbers and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heed.agents.persistence.checkpoint import write_json
from heed.evaluation.command_line import told_command
from heed.evaluation.report.curves import GREY, calm
from heed.training.tuning.plan import Range, Search
from heed.training.tuning.searching import FOLDER, REASON, STEPS

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST, TABLE, NUMBERS, PICTURE = "best.yaml", "tune.md", "tune.json", "tune.png"
MOST_PANELS = 8
"""Of what was searched, so much is drawn."""


def ranked(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the complete trials, the best first; of equals the one that took fewer steps."""
    whole = [trial for trial in trials if trial.state.name == "COMPLETE"]
    return sorted(whole, key=lambda trial: (-(trial.value or 0.0), trial.user_attrs.get(STEPS, 0), trial.number))


def write_results(out: Path, search: Search, trials: Sequence[FrozenTrial], command: str) -> list[Path]:
    """Write what came of a search.

    Args:
        out: the search's folder.
        search: what was searched.
        trials: that came to their end.
        command: of the search.

    Returns:
        The files; without a complete trial there are no best options.
    """
    best = ranked(trials)
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            search.metric: trial.value if trial.state.name == "COMPLETE" else None,
            "steps": trial.user_attrs.get(STEPS),
            "values": trial.params,
            "runs": [f"runs/{trial.user_attrs[FOLDER]}-seed{seed}" for seed in search.seeds],
            "reason": trial.user_attrs.get(REASON, ""),
        }
        for trial in [*best, *(trial for trial in trials if trial.state.name != "COMPLETE")]
    ]
    write_json(out / NUMBERS, {"command": command, "metric": search.metric, "seeds": search.seeds, "trials": rows})
    (out / TABLE).write_text(_table(out, search, rows, command), encoding="utf-8")
    _draw(out / PICTURE, search, trials)
    written = [out / NUMBERS, out / TABLE, out / PICTURE]
    if not best:
        return written
    options = yaml.safe_dump(search.options(best[0].params), sort_keys=False, allow_unicode=True)
    why = f"# The best of {len(trials)} trials: {search.metric} {best[0].value:.3f} at the end of its trainings."
    (out / BEST).write_text(f"{why}\n# {train_command(out, search)}\n{options}", encoding="utf-8")
    return [out / BEST, *written]


def train_command(out: Path, search: Search) -> str:
    """Return the command that trains with the best options, with a seed that the search has not used."""
    return told_command("heed", "train", "--config", out / BEST, "--seed", max(search.seeds) + 1)


def _table(out: Path, search: Search, rows: Sequence[dict[str, Any]], command: str) -> str:
    head = ["trial", search.metric, "steps", *search.space]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        value = row["state"] if row[search.metric] is None else f"{row[search.metric]:.3f}"
        steps = "" if row["steps"] is None else f"{row['steps']:.0f}"
        values = [_told(row["values"].get(name)) for name in search.space]
        lines.append("| " + " | ".join([str(row["trial"]), value, steps, *values]) + " |")
    many = f"the mean over seeds {', '.join(map(str, search.seeds))}" if len(search.seeds) > 1 else "of one seed"
    return "\n".join(
        [
            "# What the search found",
            "",
            f"`{command}`",
            "",
            f"{search.metric.capitalize()} of the last 500 episodes of the training, actions sampled, {many}. The best "
            "of many is better here than anywhere else: train it again with seeds that the search has not used, and "
            f"evaluate that. `{train_command(out, search)}`",
            "",
            *lines,
            "",
            *(f"Trial {row['trial']} failed: {row['reason']}\n" for row in rows if row["reason"]),
        ]
    )


def _told(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _draw(path: Path, search: Search, trials: Sequence[FrozenTrial]) -> None:
    """Draw what each trial reached, in their order and over each option that was searched."""
    whole = [trial for trial in trials if trial.state.name == "COMPLETE"]
    names = list(search.space)[:MOST_PANELS]
    columns = min(3, 1 + len(names))
    lines = -(-(1 + len(names)) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.8 * lines), layout="constrained")
    panels: list[Axes] = list(figure.subplots(lines, columns, squeeze=False).flat)
    values = [trial.value or 0.0 for trial in whole]
    numbers = [trial.number for trial in whole]
    best = [max(values[: place + 1]) for place in range(len(values))]
    panels[0].plot(numbers, best, color=GREY, linewidth=1.4, drawstyle="steps-post")
    panels[0].scatter(numbers, values, s=14, color="C0")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_xlabel("trial", fontsize=9)
    panels[0].set_title(f"{search.metric}, and the best so far", loc="left", fontsize=9)
    for axes, name in zip(panels[1:], names, strict=False):
        of = search.space[name]
        given = [trial.params[name] for trial in whole]
        axes.scatter(given if isinstance(of, Range) else list(map(str, given)), values, s=14, color="C0")
        if isinstance(of, Range):
            axes.set_xscale("log" if of.log else "linear")
            if of.low < of.high:
                axes.set_xlim(of.low, of.high)
        axes.set_xlabel(name, fontsize=9)
    for axes in panels[1 + len(names) :]:
        axes.remove()
    for axes in panels[: 1 + len(names)]:
        calm(axes)
        if search.metric == "success":
            axes.set_ylim(0, 1.02)
    figure.savefig(path, dpi=100, metadata={"Software": None})
