"""What the pages are made of: plain data, as JSON has it.

`heed evaluate` writes an `EvaluationData` into evaluation.json, `heed compare` a `ComparisonData` into comparison.json.
What is no required key may be missing, and the pages then show less. An *axis* is what was changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from heed.evaluation.names import EXPERT, GREEDY, RANDOM, SAMPLED

VERSION = 2
"""Of the format of evaluation.json."""


class Figure(TypedDict):
    """A number with its 95 % interval."""

    value: float
    ci95: list[float]
    """[low, high]"""


class CellData(TypedDict, total=False):
    """What one policy reached on one axis; every key is optional."""

    episodes: int
    success: Figure
    """Of the true instruction."""
    shown_success: Figure
    """Of the instruction that was shown in its place or beside it."""
    said_impossible: Figure
    """How often the agent said that it cannot be done, where it has an action to say so."""
    episode_return: Figure
    length: Figure
    """Steps."""
    activity: Figure
    """Share of the steps after which the agent saw something else than before."""


Policies = dict[str, CellData]
"""Cells by the name of the policy."""


class AxisExample(TypedDict):
    """An instruction, and what was shown for it."""

    instruction: str
    shown: str


class _AxisLabel(TypedDict):
    axis: str


class AxisData(_AxisLabel, total=False):
    """One axis; `axis` is its label."""

    description: str
    """A sentence."""
    policies: Policies
    example: AxisExample


class TemplateData(TypedDict):
    """One kind of instruction: its verb phrase, and what the main policy reached on each axis."""

    template: str
    axes: dict[str, CellData]


class LevelData(TypedDict):
    """One level of a mixture, or one task of a level: what each policy reached on each axis."""

    level: str
    axes: dict[str, Policies]


class FollowingData(TypedDict, total=False):
    """An instruction-following score, and what it is made of."""

    score: Figure | None
    reason: str | None
    """Why there is no score."""
    true: Figure
    blank: Figure
    expert: Figure


class _EnvironmentName(TypedDict):
    env: str


class EnvironmentData(_EnvironmentName, total=False):
    """One environment, or the mean of several; `env` is its name."""

    axes: list[AxisData]
    following: FollowingData
    templates: list[TemplateData]
    levels: list[LevelData]


class MissingData(TypedDict, total=False):
    """What was to be played and was not."""

    env: str
    axis: str
    policy: str
    """Empty where it concerns all."""
    episodes: int
    reason: str
    run: str


class UnfinishedData(TypedDict):
    """Episodes that had not ended after the most steps: they were given up, and count as failed."""

    env: str
    axis: str
    policy: str
    steps: int
    episodes: int


class EvaluationData(TypedDict, total=False):
    """The content of evaluation.json, as far as the page shows it."""

    version: int
    """`VERSION`."""
    suite: str
    episodes: int
    """Held-out episodes for each environment, axis and policy."""
    seed: int
    trained_steps: int
    environments: list[EnvironmentData]
    mean: EnvironmentData
    """Over the environments, where there are several."""
    missing: list[MissingData]
    unfinished: list[UnfinishedData]
    no_episode_ended: bool
    """Whether the training saw no episode end; it is only there if so."""
    env_kwargs: list[str]
    """Arguments of the environments that the training had not; it is only there if some were given."""
    command: str
    """What made it."""


class GroupData(TypedDict, total=False):
    """Runs that differ in nothing but their seed."""

    label: str
    env: str
    agent: str
    command: str
    runs: list[dict[str, Any]]
    mean: dict[str, float | None]
    """Means over the runs by name, steps and seconds among them."""
    axes: dict[str, Figure]
    """Success of the sampled actions by axis, over all runs."""
    following: Figure
    over_steps: dict[str, list[float]] | None
    """Learning curve: `x`, and over the runs `mean`, `lowest` and `highest`."""
    over_seconds: dict[str, list[float]] | None


class DifferenceData(TypedDict, total=False):
    """Two groups on the same episodes: how much better is `one` than `other`? Both are labels of groups."""

    one: str
    other: str
    axis: str
    env: str
    difference: Figure
    """Success of the one less that of the other."""
    better: Figure
    """Probability of improvement: that a run of the one does better than a run of the other on an episode."""


class ComparisonData(TypedDict, total=False):
    """The content of comparison.json, as far as the page shows it."""

    episodes: int
    evaluation_seed: int
    groups: list[GroupData]
    differences: list[DifferenceData]
    missing: list[MissingData]
    command: str


def axis_name(label: str) -> str:
    """Return an axis's name, without the parameters that its label may tell."""
    return label.split("(")[0]


def axis_of(environment: EnvironmentData, label: str) -> AxisData | None:
    """Return an environment's axis of that label, or of that name with other parameters, or None."""
    axes = environment.get("axes", [])
    exact = [axis for axis in axes if axis["axis"] == label]
    return next(iter([*exact, *(axis for axis in axes if axis_name(axis["axis"]) == label)]), None)


def cell_of(environment: EnvironmentData, label: str, policy: str) -> CellData:
    """Return what a policy reached on an axis; an empty cell where that is not known."""
    axis = axis_of(environment, label)
    return {} if axis is None else axis.get("policies", {}).get(policy, {})


def main_policy(environment: EnvironmentData) -> str:
    """Return the policy that is shown first: sampled actions, or else the first that is not a reference."""
    names = policy_names(environment)
    own = [name for name in names if name not in (RANDOM, EXPERT)]
    return SAMPLED if SAMPLED in names or not names else next(iter([*own, *names]))


def policy_names(environment: EnvironmentData) -> list[str]:
    """Return all policies' names: the agent's own, baselines, then chance and the expert."""
    names = _unique(name for axis in environment.get("axes", []) for name in axis.get("policies", {}))
    own, references = [SAMPLED, GREEDY], [RANDOM, EXPERT]
    baselines = [name for name in names if name not in own + references]
    return [name for name in [*own, *baselines, *references] if name in names]


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
