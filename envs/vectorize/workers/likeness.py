"""Whether the environments of a worker process are those of the main process, in the same words.

A worker is a new interpreter. It imports modules, but it does not run the script or the notebook that started it: what
was registered there (an id with Gymnasium, a verbalizer with Heed) it does not know, and may know something else under
the same name. So each process tells what it has made, and what differs is refused before anything is learned from it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import gymnasium

from heed.envs.contract import ContractError, action_texts_of
from heed.envs.words.verbalize import VerbalizedEnv, Verbalizer

WHAT_TO_DO = (
    "Worker processes do not run this script or notebook, so they know nothing that is registered in it. Put what is "
    "registered into a module or a file of its own, and name it with the id: `my_module:MyEnv-v0`, or "
    "`./my_file.py:MyEnv-v0`, which they import. Or use processes=1."
)


class WorkerDiffersError(ContractError):
    """A worker process makes other environments, or other words, than the main process. The message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What an environment is made of: all that has to be the same in every process."""

    environment: str
    """Its class."""
    wrappers: tuple[str, ...]
    """Their classes, from the outside in."""
    verbalizer: str
    """The class of its verbalizer, and of those within it."""
    action_texts: tuple[str, ...] | None
    observation_space: str
    action_space: str

    @classmethod
    def of(cls, env: gymnasium.Env[Any, Any]) -> Likeness:
        """Describe a language environment."""
        wrappers, verbalizers, inner = [], [], env
        while isinstance(inner, gymnasium.Wrapper):
            wrappers.append(_name(inner))
            if isinstance(inner, VerbalizedEnv):
                verbalizer: Any = inner.verbalizer
                while isinstance(verbalizer, Verbalizer):
                    verbalizers.append(_name(verbalizer))
                    verbalizer = vars(verbalizer).get("verbalizer")
            inner = inner.env
        return cls(
            environment=_name(inner),
            wrappers=tuple(wrappers),
            verbalizer=" around ".join(verbalizers),
            action_texts=action_texts_of(env),
            observation_space=repr(env.observation_space),
            action_space=repr(env.action_space),
        )


def likenesses_here(factories: Sequence[Any]) -> list[Likeness]:
    """Make one environment of each different factory in this process, and return what each factory's is made of.

    Raises:
        Exception: whatever a factory raises.
        WorkerDiffersError: if a factory is something that a worker process cannot import.
    """
    known: dict[bytes, Likeness] = {}
    found = []
    for factory in factories:
        sent = bytes(_sent(factory))
        if sent not in known:
            env = factory()
            try:
                known[sent] = Likeness.of(env)
            finally:
                env.close()
        found.append(known[sent])
    return found


def require_as_here(here: Sequence[Likeness], there: Sequence[Likeness]) -> None:
    """Refuse environments of a worker that differ from those of this process.

    Raises:
        WorkerDiffersError: saying in what.
    """
    for ours, theirs in zip(here, there, strict=True):
        for part in fields(Likeness):
            own, other = getattr(ours, part.name), getattr(theirs, part.name)
            if own != other:
                name = part.name.replace("_", " ")
                raise WorkerDiffersError(
                    f"In this process the {name} is {own or 'none'}, but in a worker process it is "
                    f"{other or 'none'}. {WHAT_TO_DO}"
                )


def _sent(factory: Any) -> Any:
    """Return a factory as it is sent to a worker.

    Raises:
        WorkerDiffersError: if it cannot be, or lies in a notebook.
    """
    try:
        sent = ForkingPickler.dumps(factory)
    except Exception as error:
        raise WorkerDiffersError(
            f"A worker process cannot import what makes the environment: {type(error).__name__}: {error}. Give a "
            f"function that a module defines, or a functools.partial of one. {WHAT_TO_DO}"
        ) from error
    file = getattr(sys.modules["__main__"], "__file__", None)
    if b"__main__" in bytes(sent) and (file is None or not Path(file).is_file()):
        raise WorkerDiffersError(
            f"What makes the environment is defined in a notebook or typed in, where no worker process finds it. "
            f"{WHAT_TO_DO}"
        )
    return sent


def _name(thing: Any) -> str:
    kind = type(thing)
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__  # the script, as a worker imports it
    return f"{module}.{kind.__qualname__}"
