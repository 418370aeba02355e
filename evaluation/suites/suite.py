"""A suite names what an evaluation plays: every environment on every axis, so many episodes each, from one seed.

    name: kitchens
    environments:
      - BabyAI-GoToLocal-v0
      - my_package.my_module:Kitchen-v0
    axes:
      - true
      - swapped
      - typos: {share: 0.8}
    episodes: 512
    seed: 0

is such a suite in YAML, and in Python

    Suite(name="kitchens", environments=("BabyAI-GoToLocal-v0",), axes=(axis("true"), axis("typos", share=0.8)))

Whether an environment is there, and whether an axis applies to it, is found out when it is played: what cannot be
played is no reason not to play the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from heed.envs.seeds import LONGEST
from heed.evaluation.axes import TrueInstruction
from heed.evaluation.axes.registry import Axis, AxisError, axis, axis_from, did_you_mean

FOLDER = Path(__file__).parent
SHIPPED = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
"""The names of the suites that ship with Heed."""


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "name": (str, "a word"),
    "environments": ((list, tuple), "a list of ids"),
    "axes": ((list, tuple), "a list"),
    "episodes": (int, "a number"),
    "seed": (int, "a number"),
}


class SuiteError(ValueError):
    """There is no such suite, or what describes it cannot be. The message says what is wrong, with close names."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What an evaluation plays.

    Raises:
        SuiteError: if there is no name or environment, a number is too small, or something is there twice.
    """

    name: str
    environments: tuple[str, ...]
    """Ids, as in `heed.envs.make_env`: also `package.module:Id-v0`, and mixtures."""
    axes: tuple[Axis, ...] = (TrueInstruction(),)
    episodes: int = 512
    """Of each environment on each axis."""
    seed: int = 0
    """Of the episodes. The same seeds are played on all axes, so that these can be compared pair by pair."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for part in ("name", "environments", "axes"):
            if not getattr(self, part):
                raise SuiteError(f"A suite needs `{part}`, and {self.name or 'this one'} has none.")
        for names in (self.environments, [one.label for one in self.axes]):
            for name in names:
                if list(names).count(name) > 1:
                    raise SuiteError(f"The suite {self.name} names {name} twice.")
        for part, least in (("episodes", 1), ("seed", 0)):
            if getattr(self, part) < least:
                raise SuiteError(f"The suite {self.name} has {part} {getattr(self, part)}: at least {least} is needed.")
        if self.episodes > LONGEST:
            raise SuiteError(f"The suite {self.name} has {self.episodes} episodes, but a seed has {LONGEST} at most.")

    def cells(self) -> Iterator[tuple[str, Axis]]:
        """Yield each environment on each axis."""
        for env_id in self.environments:
            for one in self.axes:
                yield env_id, one

    def with_phrases(self, phrases: Sequence[str]) -> Suite:
        """Return the suite with its axis unseen-combinations about these phrases, unless it names some itself.

        Args:
            phrases: that were held out at the training of the agent that is evaluated.
        """
        if not phrases:
            return self
        own = axis("unseen-combinations")
        about = axis("unseen-combinations", phrases=phrases)
        return dataclasses.replace(self, axes=tuple(about if one == own else one for one in self.axes))

    def as_json(self) -> dict[str, Any]:
        """Return the suite as JSON and YAML have it; `from_json` reads it."""
        return {
            "name": self.name,
            "environments": list(self.environments),
            "axes": [one.as_json() for one in self.axes],
            "episodes": self.episodes,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, described: Any) -> Suite:
        """Return the suite that a mapping describes; each axis as `heed.evaluation.axes.axis_from` reads it.

        Raises:
            SuiteError: if a key is unknown, missing, or of the wrong kind, and as `Suite`.
            AxisError: if there is no such axis, or it does not take its parameters.
        """
        if not isinstance(described, Mapping):
            raise SuiteError(f"A suite is a mapping with name, environments and axes, not {described!r}.")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in described:
            if key not in known:
                raise SuiteError(f"A suite has no {key!r}.{did_you_mean(str(key), known)}")
        for key in ("name", "environments"):
            if key not in described:
                raise SuiteError(f"A suite needs `{key}`, and this one has {', '.join(described) or 'nothing'}.")
        parts = dict(described)
        for key, (kind, words) in _KINDS.items():
            if key in parts and (not isinstance(parts[key], kind) or isinstance(parts[key], bool)):
                raise SuiteError(f"The `{key}` of a suite is {words}, not {parts[key]!r}.")
        for env_id in parts["environments"]:
            if not isinstance(env_id, str):
                raise SuiteError(f"An environment of a suite is an id such as BabyAI-GoToLocal-v0, not {env_id!r}.")
        parts["environments"] = tuple(parts["environments"])
        if "axes" in parts:
            parts["axes"] = tuple(axis_from(one) for one in parts["axes"])
        return cls(**parts)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Suite:
        """Return the suite that a YAML file describes.

        Raises:
            SuiteError: if it cannot be read, or describes none; it names the file.
        """
        try:
            described = yaml.safe_load(Path(path).read_text("utf-8"))
        except OSError as error:
            raise SuiteError(f"{path} cannot be read: {error.strerror}.") from None
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise SuiteError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
        try:
            return cls.from_json(described)
        except (SuiteError, AxisError) as error:
            raise SuiteError(f"{path}: {error}") from None


def load_suite(name_or_path: str | Path) -> Suite:
    """Return a suite that ships with Heed, by its name, or one from a YAML file, by its path.

    Raises:
        SuiteError: if there is neither, with close names, or the file describes no suite.
    """
    if str(name_or_path) in SHIPPED:
        return Suite.from_yaml(FOLDER / f"{name_or_path}.yaml")
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return Suite.from_yaml(path)
    raise SuiteError(
        f"There is no suite {str(name_or_path)!r}.{did_you_mean(str(name_or_path), SHIPPED)} "
        "A suite of your own is a YAML file, named by its path."
    )
