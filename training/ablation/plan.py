"""An ablation as data: what all trainings have in common, the variants, and the seeds.

    base:
      env: BabyAI-GoToLocal-v0
    seeds: [0, 1, 2]
    variants:
      pretrained: {}
      random weights: {model: heed-tiny-random}
      linear head: {head: linear}

The options are those of `heed train`, written with `-` or `_`; `set` and `env_kwargs` are mappings, to which a variant
adds. The first variant is the one that the others are held against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heed.training.command_line.named_values import NAMED
from heed.training.command_line.parsing import read_options, read_yaml, refuse_unknown
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig

KEYS = ("base", "seeds", "variants")
OWN = dict.fromkeys(("seed", "run_dir", "resume"), "is set by the ablation, from `seeds` and --out")
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
        content = read_yaml(path, ", ".join(KEYS))
        refuse_unknown(content, KEYS, f"{path} has")
        base, variants, seeds = content.get("base") or {}, content.get("variants"), content.get("seeds", [0])
        if not isinstance(variants, Mapping) or not variants:
            raise ConfigurationError(f"{path} needs `variants`, a name and its options for each: see `heed ablate -h`.")
        if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise ConfigurationError(f"{path}: `seeds` must be a list of numbers such as [0, 1, 2], but is {seeds!r}.")
        if len(set(seeds)) < len(seeds):
            raise ConfigurationError(f"{path}: `seeds` names a seed twice: {seeds}.")
        common = {"eval_episodes": episodes, **read_options(TrainConfig, base, f"{path}, base", own=OWN)}
        options = {}
        for name, own in variants.items():
            chosen = read_options(TrainConfig, own or {}, f"{path}, variant {name!r}", own=OWN)
            named = {name: (*common.get(name, ()), *chosen.get(name, ())) for name in NAMED}
            options[str(name)] = {**common, **chosen, **named}
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


def _as_file_name(name: str) -> str:
    kept = "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in name).strip("-.")
    return kept or "variant"
