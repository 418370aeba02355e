"""A search as data: what all trainings have in common, what is searched, and how often is tried.

    base:
      env: BabyAI-GoToLocal-v0
      steps: 50000
    search:
      learning_rate: {low: 1e-4, high: 1e-2, log: true}
      rollout_steps: {low: 16, high: 128, step: 16}
      head: [score, linear]
      set:
        gae_lambda: {low: 0.8, high: 1.0}
    seeds: [0, 1]
    trials: 40
    metric: success

Two whole numbers are a range of whole numbers, else of numbers; a list are values to choose from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.training.ablation.plan import Training
from heed.training.command_line.named_values import as_compared, as_texts, named_values
from heed.training.command_line.parsing import read_options, read_yaml, refuse_unknown
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig

if TYPE_CHECKING:
    from optuna import Trial

KEYS = ("base", "search", "seeds", "trials", "metric")
OWN = {
    **dict.fromkeys(("seed", "run_dir", "resume"), "is set by the search, from `seeds` and --out"),
    "eval_episodes": "is for no search: held-out episodes choose nothing, and are left for what comes of it",
}
"""Options that a search sets itself."""
METRICS = {"success": "rollout/success_rate", "return": "rollout/ep_rew_mean"}
"""What trials are judged by: the training's last episodes, actions sampled."""
SET = "set."
"""Before the names of arguments that are searched through `--set`."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that show whether the range can be."""
        return self.low, self.high

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let a trial have a value."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Some values."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let a trial have a value."""
        return trial.suggest_categorical(name, self.values)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, and how."""

    base: dict[str, Any]
    """Options as YAML has them, by their Python names."""
    space: dict[str, Range | Choice]
    """By option; arguments without one have `set.` before their names."""
    seeds: tuple[int, ...]
    trials: int
    metric: str

    @classmethod
    def read(cls, path: Path) -> Search:
        """Read a plan, and try the ends of every range.

        Raises:
            ConfigurationError: if the file cannot be read, or an option or a range in it cannot be.
        """
        content = read_yaml(path, ", ".join(KEYS))
        refuse_unknown(content, KEYS, f"{path} has")
        base, space = content.get("base") or {}, _space(content.get("search"), f"{path}, search")
        read_options(TrainConfig, base, f"{path}, base", own=OWN)
        seeds, trials = content.get("seeds", [0]), content.get("trials", 20)
        if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise ConfigurationError(f"{path}: `seeds` must be a list of numbers such as [0, 1], but is {seeds!r}.")
        if len({*seeds}) < len(seeds):
            raise ConfigurationError(f"{path}: `seeds` names a seed twice: {seeds}.")
        if type(trials) is not int or trials < 1:
            raise ConfigurationError(f"{path}: `trials` must be a number from 1 on, but is {trials!r}.")
        metric = content.get("metric", "success")
        if metric not in METRICS:
            raise ConfigurationError(f"{path}: `metric` must be one of {', '.join(METRICS)}, but is {metric!r}.")
        named = {str(name).replace("-", "_"): value for name, value in base.items()}
        search = cls(base=named, space=space, seeds=tuple(seeds), trials=trials, metric=metric)
        search.configs(str(path))
        return search

    def configs(self, where: str = "the plan") -> list[TrainConfig]:
        """Return a configuration for each end of each range, the others being at their first.

        Raises:
            ConfigurationError: if one cannot be.
        """
        first = {name: of.ends[0] for name, of in self.space.items()}
        found = []
        for name, of in self.space.items():
            for value in of.ends:
                try:
                    found.append(self.trainings({**first, name: value}, Path("trial"))[0].config)
                except ConfigurationError as error:
                    told = told_options({**first, name: value})
                    raise ConfigurationError(f"{where}, search, with {told}: {error}") from None
        return found

    def options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trial's options as YAML has them.

        Args:
            values: what the trial has of the space.
        """
        given = {name: value for name, value in values.items() if not name.startswith(SET)}
        settings = {name.removeprefix(SET): value for name, value in values.items() if name.startswith(SET)}
        common = self.base.get("set") or {}
        common = common if isinstance(common, Mapping) else named_values("--set", common)
        options = {**self.base, **given, "set": {**common, **settings}}
        return options if options["set"] else {name: value for name, value in options.items() if name != "set"}

    def trainings(self, values: Mapping[str, Any], folder: Path) -> list[Training]:
        """Return the trainings of a trial, one for each seed.

        Args:
            values: what the trial has of the space.
            folder: of their run folders, to which `-seedS` is added.

        Raises:
            ConfigurationError: if the options do not go together.
        """
        chosen = read_options(TrainConfig, self.options(values), folder.name, own=OWN)
        trainings = []
        for seed in self.seeds:
            run_dir = folder.with_name(f"{folder.name}-seed{seed}")
            config = TrainConfig(**chosen, eval_episodes=0, seed=seed, run_dir=run_dir)
            trainings.append(Training(variant=folder.name, config=config))
        return trainings

    def as_json(self) -> dict[str, Any]:
        """Return all but the number of trials, which may grow, as text: two searches differ if it differs."""
        space = {name: str(of) for name, of in self.space.items()}
        return {
            "base": str(as_compared("base", self.base)),
            "search": space,
            "seeds": list(self.seeds),
            "metric": self.metric,
        }


def _space(given: Any, where: str) -> dict[str, Range | Choice]:
    if not isinstance(given, Mapping) or not given:
        raise ConfigurationError(f"{where} must be options and their ranges, but is {given!r}: see `heed tune -h`.")
    named = {str(name).replace("-", "_"): value for name, value in given.items()}
    settings = named.pop("set", {})
    if not isinstance(settings, Mapping):
        raise ConfigurationError(f"{where}: set must be arguments and their ranges, but is {settings!r}.")
    for name, reason in OWN.items():
        if name in named:
            raise ConfigurationError(f"{where}: {name} {reason}. Leave it out.")
    named |= {f"{SET}{name}": value for name, value in settings.items()}
    return {name: _range(value, f"{where}, {name}") for name, value in named.items()}


def _range(given: Any, where: str) -> Range | Choice:
    if isinstance(given, list) and given:
        if not all(value is None or isinstance(value, bool | int | float | str) for value in given):
            raise ConfigurationError(f"{where}: values to choose from are numbers and words, not {given!r}.")
        return Choice(values=tuple(given))
    if not isinstance(given, Mapping) or not {"low", "high"} <= {*given}:
        raise ConfigurationError(f"{where} must be {{low: 1, high: 5}} or a list of values, but is {given!r}.")
    refuse_unknown(given, ("low", "high", "step", "log"), f"{where} has")
    numbers = [given[name] for name in ("low", "high", "step") if name in given]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ConfigurationError(f"{where}: {number!r} is no number.")
    log, step = given.get("log", False), given.get("step")
    if not isinstance(log, bool):
        raise ConfigurationError(f"{where}: log is true or false, not {log!r}.")
    if given["low"] > given["high"] or (log and given["low"] <= 0) or (step is not None and (step <= 0 or log)):
        raise ConfigurationError(
            f"{where}: low must not be above high; with log low must be positive and no step given; a step is positive."
        )
    whole = all(isinstance(number, int) for number in numbers)
    low, high = (given["low"], given["high"]) if whole else (float(given["low"]), float(given["high"]))
    return Range(low=low, high=high, step=step, log=log)


def told_options(options: Mapping[str, Any]) -> str:
    """Return a trial's values in words."""
    return ", ".join(as_texts(dict(options)))
