"""Arguments of an environment's constructor that a person gives: names are checked, and a refusal is a sentence."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from heed.envs.contract import ContractError, UnknownEnvironmentError
from heed.envs.environment_file import names_file, spec_from_file
from heed.envs.make import import_world, make, make_env, make_plain_env
from heed.envs.wrappers.mixture import levels_of

OWN = {name for one in (make, make_env, make_plain_env) for name in inspect.signature(one).parameters} - {"kwargs"}
"""What Heed takes itself, and does not hand on to the environment."""


class EnvironmentArgumentError(ValueError):
    """An environment does not take an argument. The message says which, and what it takes."""


def require_arguments(env_id: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that an environment does not take; it is made once to see.

    Args:
        env_id: as in `heed.envs.make_env`; of a mixture each level gets the arguments.
        arguments: of its constructor.

    Raises:
        EnvironmentArgumentError: if there is no such argument, or the environment cannot be made with its value.
        UnknownEnvironmentError, ContractError: as in `heed.envs.make_env`.
    """
    if not arguments:
        return
    for name in arguments:
        if name in OWN:
            raise EnvironmentArgumentError(f"{name} is no argument of the environment: Heed has options for it.")
    for level in levels_of(env_id):
        known = _known(level.env_id)
        for name in arguments:
            if known is not None and name not in known:
                close = difflib.get_close_matches(name, known, n=3)
                hint = f"Did you mean {' or '.join(close)}?" if close else f"It takes {', '.join(known) or 'none'}."
                raise EnvironmentArgumentError(f"{level.env_id} has no argument {name!r}. {hint}")
    try:
        make_env(env_id, **arguments).close()
    except (UnknownEnvironmentError, ContractError):
        raise
    except Exception as error:  # whatever a constructor says to a value that it cannot use
        told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        reason = f"{type(error).__name__}: {error}".rstrip(":. ")
        raise EnvironmentArgumentError(f"{env_id} cannot be made with {told}: {reason}.") from error


def _known(env_id: str) -> list[str] | None:
    """Return the names of a constructor's arguments, or None where it takes any."""
    try:
        import_world(env_id)
        spec = spec_from_file(env_id) if names_file(env_id) else gymnasium.spec(env_id)
        creator: Any = spec.entry_point
        creator = load_env_creator(creator) if isinstance(creator, str) else creator
    except Exception:  # what cannot be looked at is tried out
        return None
    if not inspect.isclass(creator):
        return _parameters(creator) if callable(creator) else None
    names: list[str] = []
    for base in creator.__mro__:  # a constructor with **kwargs hands them on to the next
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names += [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return [name for name in dict.fromkeys(names) if name != "self"]
    return None


def _parameters(function: Callable[..., Any]) -> list[str] | None:
    parameters = inspect.signature(function).parameters.values()
    return None if any(one.kind is one.VAR_KEYWORD for one in parameters) else [one.name for one in parameters]
