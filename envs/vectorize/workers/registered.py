"""What a script has registered, handed on to worker processes, which do not run it.

A class or a function that is registered is sent by its name, `module:name`. The script itself is such a module: a
worker imports it under another name, without what stands behind `if __name__ == "__main__":`. What cannot be found
there is left out, and `heed.envs.vectorize.workers.likeness` then finds what differs and refuses it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from heed.envs.words.verbalize import register_verbalizer, registered_verbalizers

EVERYWHERE = ("gymnasium", "minigrid", "heed")
"""Packages whose environments every worker knows."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """Verbalizers and environments."""

    verbalizers: tuple[tuple[str, str], ...]
    """Patterns of ids, each with the verbalizer's name, in the order in which they were registered."""
    environments: tuple[EnvSpec, ...]
    """Specifications whose entry points are names."""

    @classmethod
    def here(cls) -> Registered:
        """Return what is registered in this process and can be named."""
        named = ((pattern, _name_of(factory)) for pattern, factory in registered_verbalizers().items())
        specs = (_sendable(spec) for spec in gymnasium.registry.values())
        return cls(
            verbalizers=tuple((pattern, name) for pattern, name in named if name is not None),
            environments=tuple(spec for spec in specs if spec is not None),
        )

    def register(self) -> None:
        """Register all that can be found in this process, over what it has registered itself."""
        for spec in self.environments:
            with contextlib.suppress(Exception):  # a module that is not there: to be told by who needs it
                assert isinstance(spec.entry_point, str)
                _found(spec.entry_point)
                gymnasium.registry[spec.id] = spec
        for pattern, name in self.verbalizers:
            with contextlib.suppress(Exception):  # likewise
                register_verbalizer(pattern, _found(name))


def _sendable(spec: EnvSpec) -> EnvSpec | None:
    """Return a specification that another process can take, or None."""
    entry_point = spec.entry_point if isinstance(spec.entry_point, str) else _name_of(spec.entry_point)
    if entry_point is None or entry_point.partition(":")[0].partition(".")[0] in EVERYWHERE:
        return None
    vector = spec.vector_entry_point if isinstance(spec.vector_entry_point, str) else None
    sent = dataclasses.replace(spec, entry_point=entry_point, vector_entry_point=vector)
    try:
        in_the_script = b"__main__" in bytes(ForkingPickler.dumps(dataclasses.replace(sent, entry_point=None)))
    except Exception:  # an argument that cannot be sent
        return None
    return None if in_the_script else sent


def _name_of(thing: Any) -> str | None:
    """Return under which name a module holds a class or a function, or None."""
    name = f"{getattr(thing, '__module__', None)}:{getattr(thing, '__qualname__', None)}"
    with contextlib.suppress(Exception):
        return name if _found(name) is thing else None
    return None


def _found(name: str) -> Callable[..., Any]:
    """Return what a module holds under a name.

    Raises:
        AttributeError, ImportError: if there is none.
    """
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]
