"""Runs from their folders, and which of them differ in nothing but their seed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.evaluation.playing import Episode, EpisodesError, read_episodes
from heed.evaluation.report.data import EvaluationData
from heed.evaluation.report.evaluation_file import read_evaluation
from heed.training.command_line.named_values import NAMED, as_compared
from heed.training.comparison.options import (
    NOT_OF_THE_TRAINING,
    SAME_UP_TO_ROUNDING,
    command_of,
    complete,
    given_options,
)
from heed.training.errors import ConfigurationError
from heed.training.run_folder import RunFolder

CURVE_KEY = "rollout/success_rate"
"""What is drawn of a run's curve: success over the last episodes of the training, actions sampled."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trained and evaluated agent."""

    folder: Path
    config: dict[str, Any]
    evaluation: EvaluationData
    episodes: tuple[Episode, ...]
    """Of the evaluation; none where its episodes.csv is gone."""
    curve: list[tuple[float, float]]
    """(steps, success rate) as the training logged them."""
    times: list[dict[str, float]]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read an evaluated run.

        Raises:
            RunFolderError: if no run is there.
            CheckpointError, EpisodesError: if a file of it is damaged.
        """
        run = RunFolder(folder)
        curve = [(point["steps"], point[CURVE_KEY]) for point in run.read_curve() if CURVE_KEY in point]
        return cls(
            folder=folder,
            config=complete(run.read_config()),
            evaluation=read_evaluation(run.evaluation),
            episodes=tuple(read_episodes(run.episodes)) if run.episodes.is_file() else (),
            curve=curve,
            times=run.read_times(),
        )

    @property
    def seed(self) -> int:
        """The training's seed."""
        return int(self.config["seed"])

    @property
    def steps(self) -> int:
        """Environment steps of the training."""
        return int(self.evaluation["trained_steps"])

    @property
    def seconds(self) -> float | None:
        """Seconds of the training; None where the run's folder does not know them."""
        return self.times[-1]["seconds"] if self.times else None

    def timed_curve(self) -> list[tuple[float, float]]:
        """Return (seconds, success rate) where both are known."""
        seconds: dict[float, float] = {}
        for point in self.times:
            seconds.setdefault(point["steps"], point["seconds"])  # when it was logged, not when it was saved
        return [(seconds[steps], rate) for steps, rate in self.curve if steps in seconds]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in nothing but their seed, in the order of their seeds."""

    label: str
    runs: list[Run]

    @property
    def command(self) -> str:
        """The command line that begins these runs."""
        return command_of(self.runs[0].config, seeds=[run.seed for run in self.runs])


def needs_evaluation(folder: Path, episodes: int | None, suite: str | None = None) -> str | None:
    """Say why a run must be evaluated before it is compared; None where it need not.

    Args:
        folder: the run's.
        episodes: as many as it is to be evaluated on, or None for any number.
        suite: the name of the suite that it is to be evaluated on, or None for any.

    Raises:
        RunFolderError: if no run is there, or it has no checkpoint.
        CheckpointError: if its configuration or evaluation is damaged.
    """
    run = RunFolder(folder)
    config = run.read_config()
    newest = run.newest_checkpoint_path()
    if not run.evaluation.is_file():
        return "is not evaluated yet"
    try:
        evaluation = read_evaluation(run.evaluation)
    except EpisodesError:
        return "was evaluated by another version of Heed"
    environments = [environment["env"] for environment in evaluation["environments"]]
    if suite is not None and evaluation.get("suite") != suite:
        return f"is evaluated on another suite than {suite}"
    if suite is None and config["env"] not in environments:
        return f"is evaluated on {', '.join(environments)}, but was trained on {config['env']}"
    if evaluation.get("env_kwargs"):
        return f"is evaluated in another world than the training's, with {' '.join(evaluation['env_kwargs'])}"
    if not run.is_shared and run.checkpoint_path(evaluation["trained_steps"]) != newest:
        return "has trained on since it was evaluated"
    if episodes is not None and evaluation["episodes"] != episodes:
        return f"is evaluated on {evaluation['episodes']} episodes"
    return None


def grouped(runs: Sequence[Run], names: Mapping[Path, str] | None = None) -> list[Group]:
    """Put runs that differ in nothing but their seed together, in the order in which they were given.

    Args:
        runs: to be put together.
        names: of the groups by a run's folder; where they are given, they say what is put together.

    Raises:
        ConfigurationError: if two runs of a group have the same seed, or their evaluations are of different episodes.
    """
    evaluations = {(run.evaluation["episodes"], run.evaluation["seed"]) for run in runs}
    if len(evaluations) > 1:
        told = ", ".join(f"{episodes} episodes of seed {seed}" for episodes, seed in sorted(evaluations))
        raise ConfigurationError(
            f"The runs are evaluated on different episodes ({told}): evaluate all of them alike with --episodes 500."
        )
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(names[run.folder] if names else _key(run.config), []).append(run)
    for group in members.values():
        group.sort(key=lambda run: run.seed)
        for one, other in itertools.pairwise(group):
            if one.seed == other.seed:
                raise ConfigurationError(
                    f"{one.folder} and {other.folder} are the same training with the same seed: leave one of them out."
                )
    labels = list(members) if names else _labels([group[0].config for group in members.values()])
    return [Group(label=label, runs=group) for label, group in zip(labels, members.values(), strict=True)]


def _key(config: dict[str, Any]) -> str:
    """Return what the configurations of one group have in common, as one string."""
    options = {name: value for name, value in config.items() if name not in NOT_OF_THE_TRAINING | SAME_UP_TO_ROUNDING}
    options["hyperparameters"] = _hyperparameters(config)
    return json.dumps({name: as_compared(name, value) for name, value in options.items()}, sort_keys=True)


def _hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """Return the agent's arguments without its seed, and without what changes them by rounding alone."""
    left_out = {"seed", *SAME_UP_TO_ROUNDING}
    return {name: value for name, value in config.get("hyperparameters", {}).items() if name not in left_out}


def _compared(name: str, value: Any) -> str:
    return json.dumps(as_compared(name, value), sort_keys=True)


def _label(name: str, value: Any) -> str:
    """Return an option in words; of name=value pairs these say it all."""
    told = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return told if name in NAMED else f"{name.replace('_', ' ')} {told}"


def _labels(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Return, for each configuration, the shortest words that tell it from the others."""
    given = [given_options(config) for config in configs]
    names = [name for name in dict.fromkeys(name for options in given for name in options) if name != "agent"]
    differing = [name for name in names if len({_compared(name, config[name]) for config in configs}) > 1]
    labels = []
    for config, options in zip(configs, given, strict=True):
        words = [config["env"]] if "env" in differing else []
        words.append(config["agent"])
        words += [_label(name, config[name]) for name in differing if name != "env" and name in options]
        labels.append(", ".join(words))
    if len(set(labels)) == len(labels):
        return labels
    # The same options with other defaults behind them: runs of different versions.
    arguments = [_hyperparameters(config) for config in configs]
    names = sorted({name for hyperparameters in arguments for name in hyperparameters})
    differing = [name for name in names if len({_compared(name, one.get(name)) for one in arguments}) > 1]
    return [
        ", ".join([label, *(f"{name} {json.dumps(one.get(name))}" for name in differing)])
        for label, one in zip(labels, arguments, strict=True)
    ]
