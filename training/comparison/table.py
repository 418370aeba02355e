"""A comparison as a page of Markdown: a table, of mixtures a second one by level, and the commands that made it."""

from __future__ import annotations

from typing import Any

from heed.evaluation.names import SUCCESS_CELLS


def markdown(numbers: dict[str, Any], *, command: str) -> str:
    """Return the table and the commands.

    Args:
        numbers: of `numbers_of`.
        command: the one that compared.
    """
    heading = ["", "seed", *SUCCESS_CELLS, "steps", "seconds"]
    lines = [_row(heading), "|---" * 2 + "|---:" * (len(heading) - 2) + "|"]
    for group in numbers["groups"]:
        if len(group["runs"]) > 1:
            means = [f"**{cell}**" if cell != "-" else cell for cell in _figures(group["mean"])]
            lines.append(_row([f"**{group['label']}**", "mean", *means]))
        for run in group["runs"]:
            name = "" if len(group["runs"]) > 1 else f"**{group['label']}**"
            lines.append(_row([name, str(run["seed"]), *_figures(run)]))
    by_level = [(group, row) for group in numbers["groups"] for row in group["levels"]]
    if by_level:
        heading = ["", "level", "episodes", *SUCCESS_CELLS]
        lines += ["", "By level, the means over seeds:", "", _row(heading)]
        lines.append("|---" * 2 + "|---:" * (len(heading) - 2) + "|")
        for group, row in by_level:
            label = group["label"] if row is group["levels"][0] else ""
            lines.append(_row([label, row["level"], str(row["episodes"]), *_rates(row)]))
    lines += _axes([group for group in numbers["groups"] if "axes" in group])
    lines += _differences(numbers["differences"])
    for missing in numbers["missing"]:
        lines += ["", f"Missing: {missing['run']}. {missing['reason']}"]
    commands = [group["command"] for group in numbers["groups"]]
    return "\n".join(
        [
            f"Success on {numbers['episodes']} held-out episodes: actions sampled and greedy, the random policy, and "
            "with the instruction blank and swapped. Steps and seconds are the training's.",
            "",
            *lines,
            "",
            "```",
            *commands,
            command,
            "```",
            "",
        ]
    )


def _axes(groups: list[dict[str, Any]]) -> list[str]:
    """Return success by axis, a column for each group that has episodes, and the figures over all of them."""
    if not groups:
        return []
    lines = ["", "Actions sampled, with 95 % intervals over episodes and training seeds:", ""]
    lines += [_row(["axis", *(group["label"] for group in groups)]), "|---" + "|---:" * len(groups) + "|"]
    for axis in dict.fromkeys(name for group in groups for name in group["axes"]):
        lines.append(_row([axis, *(_with_interval(group["axes"].get(axis)) for group in groups)]))
    for name, key in (("following score", "following"), ("interquartile mean, true", "interquartile_mean")):
        if any(group[key] for group in groups):
            lines.append(_row([f"*{name}*", *(_with_interval(group[key]) for group in groups)]))
    return lines


def _differences(differences: list[dict[str, Any]]) -> list[str]:
    if not differences:
        return []
    first = differences[0]["other"]
    heading = ["", "axis", f"difference to {first}", "probability of improvement"]
    lines = ["", "On the same episodes, with 95 % intervals over episodes and training seeds:", "", _row(heading)]
    lines.append("|---" * 2 + "|---:" * 2 + "|")
    label = ""
    for one in differences:
        lines.append(
            _row(
                [
                    one["one"] if one["one"] != label else "",
                    one["axis"],
                    _with_interval(one["difference"], signed=True),
                    _with_interval(one["better"]),
                ]
            )
        )
        label = one["one"]
    return lines


def _with_interval(figure: dict[str, Any] | None, *, signed: bool = False) -> str:
    if figure is None:
        return "-"
    form = "{:+.3f}" if signed else "{:.3f}"
    low, high = (form.format(end) for end in figure["ci95"])
    return f"{form.format(figure['value'])} ({low} to {high})"


def _figures(row: dict[str, Any]) -> list[str]:
    seconds = "-" if row["seconds"] is None else f"{row['seconds']:.0f}"
    return [*_rates(row), f"{row['steps']:.0f}", seconds]


def _rates(row: dict[str, Any]) -> list[str]:
    return ["-" if row[name] is None else f"{row[name]:.3f}" for name in SUCCESS_CELLS]


def _row(cells: list[str]) -> str:
    # A cell may name an environment or a model, whose name may hold what Markdown takes for a border.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
