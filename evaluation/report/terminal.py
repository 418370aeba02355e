"""An evaluation at the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from heed.evaluation.names import RANDOM
from heed.evaluation.report.data import EnvironmentData, EvaluationData, main_player, players_of


def table_of(environment: EnvironmentData) -> Table:
    """Return a table of one environment: a row for each axis and player, success with its 95 % interval."""
    episodes = max(cell["episodes"] for axis in environment["axes"] for cell in axis["players"].values())
    title = f"{environment['env']}, {episodes} held-out episodes"
    told = any("shown_success" in cell for axis in environment["axes"] for cell in axis["players"].values())
    table = Table(title=title, title_justify="left", caption=_following(environment), caption_justify="left")
    columns = ["axis", "player", "success", *(["as shown"] if told else []), "return", "length"]
    for column in columns:
        left = column in ("axis", "player")
        table.add_column(column, justify="left" if left else "right", overflow="fold", no_wrap=column != "axis")
    order = players_of(environment)
    for axis in environment["axes"]:
        for number, player in enumerate(sorted(axis["players"], key=order.index)):
            cell = axis["players"][player]
            shown = [f"{cell['shown_success']['value']:.3f}" if "shown_success" in cell else ""] if told else []
            low, high = cell["success"]["ci95"]
            table.add_row(
                "" if number else axis["axis"],
                player,
                f"{cell['success']['value']:.3f} ({low:.3f} to {high:.3f})",
                *shown,
                f"{cell['episode_return']['value']:.2f}",
                f"{cell['length']['value']:.1f}",
            )
    return table


def _following(environment: EnvironmentData) -> str:
    following = environment.get("following")
    if following is None:
        return ""
    score = following.get("score")
    if score is None:
        return f"No instruction-following score: {following.get('reason')}."
    low, high = score["ci95"]
    return f"Instruction-following score {score['value']:.3f} ({low:.3f} to {high:.3f})."


def table_of_levels(environment: EnvironmentData) -> Table:
    """Return a table of a mixture: success of the agent by level and axis, and of the random policy beside it."""
    player = main_player(environment)
    axes = list(dict.fromkeys(name for row in environment["levels"] for name in row["axes"]))
    table = Table(title="Success by level", title_justify="left")
    for column in ("level", "episodes", *axes, RANDOM):
        table.add_column(column, justify="left" if column == "level" else "right", overflow="fold")
    for row in environment["levels"]:
        first: dict[str, Any] = next(iter(row["axes"].values()))
        rates = [_rate(row["axes"].get(name, {}), player) for name in axes]
        table.add_row(row["level"], str(first[player]["episodes"]), *rates, _rate(first, RANDOM))
    return table


def _rate(players: Any, player: str) -> str:
    return f"{players[player]['success']['value']:.3f}" if player in players else "-"


def what_is_missing(numbers: EvaluationData) -> Iterator[str]:
    """Yield a line for each thing that was not played."""
    for missing in numbers["missing"]:
        what = ", ".join(part for part in (missing["env"], missing["axis"], missing["player"]) if part)
        yield f"Missing: {what} ({missing['episodes']} episodes). {missing['reason']}"
