"""One page that shows an evaluation: figures, axes, curves, episodes. It needs nothing but itself."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.envs.faults import told_losses
from heed.evaluation.explanation.recording import Recording
from heed.evaluation.explanation.tracing import Trace
from heed.evaluation.names import EXPERT, GREEDY, RANDOM, SAMPLED, TRUE
from heed.evaluation.report.bars import BarRow, as_rate, axis_rows, has
from heed.evaluation.report.curves import learning_curves
from heed.evaluation.report.data import (
    AxisExample,
    CellData,
    EnvironmentData,
    EvaluationData,
    LevelData,
    cell_of,
    main_policy,
    policy_names,
)
from heed.evaluation.report.heat_map import HeatMap, heat_map
from heed.evaluation.report.pages import thousands, write_page
from heed.evaluation.report.sentences import does_it_listen, how_well, rate, what_did_not_end
from heed.evaluation.report.viewer import viewer_data

NAMES = {GREEDY: "success, greedy actions", RANDOM: "success, random actions", EXPERT: "success, expert"}


def write_report(
    out: Path,
    *,
    evaluation: EvaluationData,
    curve: Sequence[Mapping[str, float]],
    config: Mapping[str, Any] | None,
    recordings: Sequence[Recording],
    traces: Sequence[Trace] = (),
    lost: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write `report.html` into `out`.

    Args:
        out: an existing folder.
        evaluation: the content of `evaluation.json`.
        curve: the points of the training, each with `steps`.
        config: the configuration of the run, if it is known.
        recordings: episodes to show as moving pictures.
        traces: episodes to show step by step.
        lost: episodes that the training's environments lost, each with its `reason`.

    Returns:
        The page.
    """
    environments = evaluation.get("environments", [])
    blocks = [Block.of(environment) for environment in environments]
    if len(environments) > 1 and evaluation.get("mean"):
        blocks.insert(0, Block.of(evaluation["mean"]))
    episodes = viewer_data(traces)
    return write_page(
        out / "report.html",
        "report.html",
        script=None if episodes is None else "viewer.js",
        title=_title(evaluation),
        about=_about(evaluation, config),
        missing=evaluation.get("missing", []),
        unfinished=what_did_not_end(evaluation),
        blocks=blocks,
        config=config or {},
        curve_charts=learning_curves(curve),
        lost=told_losses(Counter(episode["reason"] for episode in lost)) if lost else "",
        recordings=[(recording.caption, base64.b64encode(recording.gif).decode()) for recording in recordings],
        episodes=episodes,
        command=evaluation.get("command", ""),
    )


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A figure that stands at the top in large letters."""

    number: str
    name: str
    interval: str


@dataclass(frozen=True, kw_only=True)
class AxisTable:
    """One axis with what every policy reached on it."""

    label: str
    description: str
    example: AxisExample | None
    policies: Sequence[tuple[str, CellData]]


@dataclass(frozen=True, kw_only=True)
class LevelRow:
    """One level of a mixture."""

    level: str
    episodes: int | None
    cells: Sequence[CellData]


@dataclass(frozen=True, kw_only=True)
class Block:
    """All that the page shows of one environment."""

    title: str
    policy: str
    """Who is drawn."""
    headline: Sequence[Headline]
    sentences: Sequence[str]
    bars: Sequence[BarRow]
    axes: Sequence[AxisTable]
    heat_map: HeatMap | None
    levels: Sequence[LevelRow]
    level_columns: Sequence[str]
    has_activity: bool

    @property
    def has_shown(self) -> bool:
        """Whether success of a shown instruction is known anywhere."""
        return has(self.bars, "shown")

    @property
    def has_said(self) -> bool:
        """Whether somebody had an action to say that it cannot be done."""
        return any("said_impossible" in cell for axis in self.axes for _, cell in axis.policies)

    @property
    def has_random(self) -> bool:
        """Whether chance stands beside the bars."""
        return has(self.bars, RANDOM)

    @property
    def has_expert(self) -> bool:
        """Whether the expert stands beside the bars."""
        return has(self.bars, EXPERT)

    @classmethod
    def of(cls, environment: EnvironmentData) -> Block:
        """Gather what is known of an environment."""
        policy = main_policy(environment)
        names = policy_names(environment)
        axes = [
            AxisTable(
                label=axis["axis"],
                description=axis.get("description", ""),
                example=axis.get("example"),
                policies=[(name, cell) for name in names if (cell := axis.get("policies", {}).get(name))],
            )
            for axis in environment.get("axes", [])
        ]
        axes = [axis for axis in axes if axis.policies]
        levels = environment.get("levels", [])
        columns = _level_columns(levels)
        return cls(
            title=environment["env"],
            policy=policy,
            headline=_headline(environment, policy),
            sentences=[sentence for sentence in [how_well(environment), *does_it_listen(environment)] if sentence],
            bars=axis_rows(environment, policy),
            axes=axes,
            heat_map=heat_map(environment),
            levels=[_level_row(level, columns, policy) for level in levels],
            level_columns=[name if axis == TRUE else axis for axis, name in columns],
            has_activity=any("activity" in cell for axis in axes for _, cell in axis.policies),
        )


def _headline(environment: EnvironmentData, policy: str) -> list[Headline]:
    own = _success(environment, policy)
    headline = []
    if as_rate(own)[0] is not None:
        headline.append(_rate_headline("success, sampled actions" if policy == SAMPLED else f"success, {policy}", own))
    score = environment.get("following", {}).get("score")
    if score is not None:
        value, interval = as_rate(score)
        told = "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
        headline.append(Headline(number=f"{value:.2f}", name="following score", interval=told))
    for name in (GREEDY, RANDOM, EXPERT):
        figure = _success(environment, name)
        if name != policy and as_rate(figure)[0] is not None:
            headline.append(_rate_headline(NAMES[name], figure))
    return headline


def _success(environment: EnvironmentData, policy: str) -> Any:
    return cell_of(environment, TRUE, policy).get("success")


def _rate_headline(name: str, figure: Any) -> Headline:
    value, interval = as_rate(figure)
    assert value is not None
    told = "" if interval is None else f"{100 * interval[0]:.1f} to {rate(interval[1])}"
    return Headline(number=rate(value), name=name, interval=told)


def _level_columns(levels: Sequence[LevelData]) -> list[tuple[str, str]]:
    """Return the columns of the table of levels, each an axis and a policy: all policies with nothing changed first."""
    found = [(axis, name) for level in levels for axis, policies in level["axes"].items() for name in policies]
    return sorted(dict.fromkeys(found), key=lambda column: column[0] != TRUE)


def _level_row(level: LevelData, columns: Sequence[tuple[str, str]], policy: str) -> LevelRow:
    return LevelRow(
        level=level["level"],
        episodes=level["axes"].get(TRUE, {}).get(policy, {}).get("episodes"),
        cells=[level["axes"].get(axis, {}).get(name, {}) for axis, name in columns],
    )


def _title(evaluation: EvaluationData) -> str:
    environments = evaluation.get("environments", [])
    if len(environments) == 1:
        return environments[0]["env"]
    return evaluation.get("suite") or ", ".join(environment["env"] for environment in environments) or "Evaluation"


def _about(evaluation: EvaluationData, config: Mapping[str, Any] | None) -> list[str]:
    """Return sentences that say what was evaluated, and on how much."""
    told = []
    if config:
        # Of the agent, not of the configuration: a training may have stopped early.
        steps = thousands(evaluation.get("trained_steps", config.get("steps", 0)))
        agent = f"{config.get('agent')} with {config.get('model')}, {config.get('head')} head"
        told.append(f"{agent}, trained for {steps} steps, seed {config.get('seed')}.")
    if evaluation.get("episodes"):
        told.append(f"{thousands(evaluation['episodes'])} held-out episodes for each figure.")
    return told
