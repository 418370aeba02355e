"""An ablation as data: what all trainings have in common, the variants, and the seeds.

    base:
      env: BabyAI-GoToLocal-v0
    seeds: [0, 1, 2]
    variants:
      pretrained: {}
      random weights: {model: heed-tiny-random}
      linear head: {head: linear}

The options are those of `heed train`, written with `-` or `_`. The first variant is the one that the others are held
against.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
import yaml

from heed.evaluation.command_line import option_words
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig

KEYS = ("base", "seeds", "variants")
OWN = ("seed", "run_dir", "resume")
"""Options that an ablation sets itself."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One variant with one seed."""

    variant: str
    config: TrainConfig

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        assert self.config.run_dir is not None
        return self.config.run_dir


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All trainings of an ablation."""

    variants: tuple[str, ...]
    """The names, the one that the others are held against first."""
    trainings: tuple[Training, ...]
    """Seed by seed, so that an ablation that is stopped has seen every variant as often."""

    @classmethod
    def read(cls, path: Path, *, out: Path, episodes: int) -> Plan:
        """Read a plan.

        Args:
            path: a YAML file.
            out: folder of the run folders.
            episodes: held-out episodes of each evaluation, where the plan names no other number.

        Raises:
            ConfigurationError: if the file cannot be read, or an option in it cannot be.
        """
        content = _read_yaml(path)
        _refuse_unknown(content, KEYS, f"{path} has")
        base, variants, seeds = content.get("base") or {}, content.get("variants"), content.get("seeds", [0])
        if not isinstance(variants, Mapping) or not variants:
            raise ConfigurationError(f"{path} needs `variants`, a name and its options for each: see `heed ablate -h`.")
        if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise ConfigurationError(f"{path}: `seeds` must be a list of numbers such as [0, 1, 2], but is {seeds!r}.")
        if len(set(seeds)) < len(seeds):
            raise ConfigurationError(f"{path}: `seeds` names a seed twice: {seeds}.")
        common = {"eval_episodes": episodes, **_options(base, f"{path}, base")}
        options = {}
        for name, own in variants.items():
            options[str(name)] = {**common, **_options(own or {}, f"{path}, variant {name!r}")}
        folders = {name: _as_file_name(name) for name in options}
        for name, folder in folders.items():
            if list(folders.values()).count(folder) > 1:
                raise ConfigurationError(f"{path}: another variant's folder is called {folder!r} too: rename {name!r}.")
        trainings = []
        for seed in seeds:
            for name, chosen in options.items():
                run_dir = out / "runs" / f"{folders[name]}-seed{seed}"
                try:
                    config = TrainConfig(**chosen, seed=seed, run_dir=run_dir)
                except ConfigurationError as error:
                    raise ConfigurationError(f"{path}, variant {name!r}: {error}") from None
                trainings.append(Training(variant=name, config=config))
        return cls(variants=tuple(options), trainings=tuple(trainings))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold {', '.join(KEYS)}, but holds {type(content).__name__}.")
    return content


def _options(given: Any, where: str) -> dict[str, Any]:
    """Return options of `heed train` under their Python names, with values of their types.

    Raises:
        ConfigurationError: if there is no such option, the ablation sets it itself, or the value is of another type.
    """
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where} must be options and their values, but is {given!r}.")
    named = {str(name).replace("-", "_"): value for name, value in given.items()}
    known = [field.name for field in dataclasses.fields(TrainConfig) if field.name not in OWN]
    for name in OWN:
        if name in named:
            raise ConfigurationError(f"{where}: {name} is set by the ablation, from `seeds` and --out. Leave it out.")
    _refuse_unknown(named, known, f"{where} has")
    return {name: _as_option(name, value, where) for name, value in named.items()}


def _as_option(name: str, value: Any, where: str) -> Any:
    """Let `heed train` itself read the value, as from its command line."""
    words = option_words(name, value)
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            return getattr(tyro.cli(_Loose, args=words), name)
    except SystemExit:
        raise ConfigurationError(f"{where}: {name} cannot be {value!r}. `heed train -h` says what it can be.") from None


def _refuse_unknown(given: Iterable[Any], known: Iterable[str], where: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f" Did you mean {close[0]}?" if close else f" It may hold {', '.join(names)}."
            raise ConfigurationError(f"{where} no such thing as {name!r}.{hint}")


def _as_file_name(name: str) -> str:
    kept = "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in name).strip("-.")
    return kept or "variant"


@dataclass(frozen=True, kw_only=True)
class _Loose(TrainConfig):
    """The options of `heed train` one at a time: whether they go together is told once all are there."""

    def __post_init__(self) -> None:
        """Refuse nothing."""
