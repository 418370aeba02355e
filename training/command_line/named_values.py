"""Options of the form name=value, such as `--set gae_lambda=0.9`: the values are read as YAML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from heed.training.errors import ConfigurationError

NAMED = ("set", "env_kwargs")
"""The options that are lists of name=value; a YAML file may give them as a mapping."""

_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """YAML as people write numbers: 1e-3 is one, which YAML 1.1 takes for a word; and a date is a word."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes what `Loader` reads back."""


for _kind in (Loader, _Dumper):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in _kind.yaml_implicit_resolvers.items()
    }
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


class FrozenDict(dict[str, Any]):
    """A mapping that may be the key of a cache, as arguments of an environment are."""

    def __hash__(self) -> int:  # type: ignore[override]
        """Hash the items whatever their order: mappings that are equal have one hash."""
        return hash(frozenset(self.items()))


def named_values(option: str, texts: Iterable[str]) -> dict[str, Any]:
    """Return what name=value texts say, by name; of a name that is given twice the last.

    Raises:
        ConfigurationError: if a text is not name=value, or the value no YAML.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ConfigurationError(f"{option} is {text!r}, but must be name=value, such as gae_lambda=0.9.")
        try:
            values[name.strip()] = yaml.load(value, Loader)
        except yaml.YAMLError:
            raise ConfigurationError(f"{option} {text}: the value is no YAML. Does it need quotes?") from None
    return values


def as_texts(values: dict[str, Any]) -> tuple[str, ...]:
    """Return name=value texts in the order of their names; `named_values` is the inverse."""
    return tuple(f"{name}={_as_yaml(values[name])}" for name in sorted(values))


def as_compared(option: str, value: Any) -> Any:
    """Return an option's value in a form in which values that mean the same are equal, and the same as JSON.

    Of name=value texts it is the values by name. Whole numbers are ints, whether written as 1 or 1.0; tuples are lists.

    Args:
        option: its Python name.
        value: as a configuration, a YAML file or JSON has it.
    """
    if option in NAMED and not isinstance(value, Mapping):
        value = named_values(f"--{option.replace('_', '-')}", value)
    return _comparable(value)


def _comparable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: as_compared(str(name), part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_comparable(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def environment_arguments(texts: Iterable[str]) -> dict[str, Any]:
    """Return what `--env-kwargs` gives to the environment's constructor; it can be hashed, as caches want it.

    Raises:
        ConfigurationError: as `named_values`.
    """
    return {name: _frozen(value) for name, value in named_values("--env-kwargs", texts).items()}


def _frozen(value: Any) -> Any:
    """Return a value with tuples for lists and `FrozenDict` for mappings, so that it can be hashed."""
    if isinstance(value, dict):
        return FrozenDict({name: _frozen(part) for name, part in value.items()})
    return tuple(_frozen(part) for part in value) if isinstance(value, list | tuple) else value


def _as_yaml(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
