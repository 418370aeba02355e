"""An evaluation at the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from heed.evaluation.names import RANDOM
from heed.evaluation.report.data import EnvironmentData, EvaluationData, main_policy, policy_names


def table_of(environment: EnvironmentData) -> Table:
    """Return a table of one environment: a row for each axis and policy, success with its 95 % interval.

    Where the agent can say that it cannot be done, how often it did stands in the place of the return: a terminal has
    no room for both.
    """
    episodes = max(cell["episodes"] for axis in environment["axes"] for cell in axis["policies"].values())
    title = f"{environment['env']}, {episodes} held-out episodes"
    told = any("shown_success" in cell for axis in environment["axes"] for cell in axis["policies"].values())
    says = any("said_impossible" in cell for axis in environment["axes"] for cell in axis["policies"].values())
    table = Table(title=title, title_justify="left", caption=_following(environment), caption_justify="left")
    columns = ["axis", "policy", "success", *(["as shown"] if told else []), "said no" if says else "return", "length"]
    for column in columns:
        left = column in ("axis", "policy")
        table.add_column(column, justify="left" if left else "right", overflow="fold", no_wrap=column != "axis")
    order = policy_names(environment)
    for axis in environment["axes"]:
        for number, policy in enumerate(sorted(axis["policies"], key=order.index)):
            cell = axis["policies"][policy]
            shown = [f"{cell['shown_success']['value']:.3f}" if "shown_success" in cell else ""] if told else []
            said = f"{cell['said_impossible']['value']:.3f}" if "said_impossible" in cell else ""
            low, high = cell["success"]["ci95"]
            table.add_row(
                "" if number else axis["axis"],
                policy,
                f"{cell['success']['value']:.3f} ({low:.3f} to {high:.3f})",
                *shown,
                said if says else f"{cell['episode_return']['value']:.2f}",
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
    policy = main_policy(environment)
    axes = list(dict.fromkeys(name for row in environment["levels"] for name in row["axes"]))
    table = Table(title="Success by level", title_justify="left")
    for column in ("level", "episodes", *axes, RANDOM):
        table.add_column(column, justify="left" if column == "level" else "right", overflow="fold")
    for row in environment["levels"]:
        first: dict[str, Any] = next(iter(row["axes"].values()))
        rates = [_rate(row["axes"].get(name, {}), policy) for name in axes]
        table.add_row(row["level"], str(first[policy]["episodes"]), *rates, _rate(first, RANDOM))
    return table


def _rate(policies: Any, policy: str) -> str:
    return f"{policies[policy]['success']['value']:.3f}" if policy in policies else "-"


def what_is_missing(numbers: EvaluationData) -> Iterator[str]:
    """Yield a line for each thing that was not played."""
    for missing in numbers["missing"]:
        what = ", ".join(part for part in (missing["env"], missing["axis"], missing["policy"]) if part)
        yield f"Missing: {what} ({missing['episodes']} episodes). {missing['reason']}"
