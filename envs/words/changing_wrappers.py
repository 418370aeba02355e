"""Which wrapper changes what an environment shows, or what its actions do.

Words are of something: a verbalizer for MiniGrid's partial view says nonsense of the whole grid, and "push left" is no
text of an action that a wrapper has turned round. A wrapper changes observations where its space is another one, and
where it is Gymnasium's `ObservationWrapper`, whose space may stay the same while the numbers do not; actions likewise,
as far as they have texts. Any other wrapper is taken at its word: what it shows is what its space says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, TypeAlias

import gymnasium
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

Wrapper: TypeAlias = gymnasium.Wrapper[Any, Any, Any, Any]

SAME_MEANING = ("ClipAction", "StickyAction", "StochasticActionWrapper")
"""Wrappers of actions after which an action may fail or be another one, but still means what it says."""


def observation_changer(
    env: gymnasium.Env[Any, Any], *, everywhere: bool = True, but: Collection[str] = ()
) -> Wrapper | None:
    """Return the outermost wrapper that changes what is observed, or None.

    Args:
        env: an environment.
        everywhere: look down to the innermost environment; otherwise only at what was put around an environment after
            Gymnasium had made it under its id.
        but: names of wrapper classes to pass over.
    """
    for wrapper in _wrappers(env, everywhere):
        changes = isinstance(wrapper, gymnasium.ObservationWrapper) or _differ(
            wrapper.observation_space, wrapper.env.observation_space
        )
        if changes and type(wrapper).__name__ not in but:
            return wrapper
    return None


def action_changer(
    env: gymnasium.Env[Any, Any], *, everywhere: bool = True, but: Collection[str] = ()
) -> Wrapper | None:
    """Return the outermost wrapper that changes what an action with a text does, or None; arguments as above."""
    for wrapper in _wrappers(env, everywhere):
        outer, inner = wrapper.action_space, wrapper.env.action_space
        if not isinstance(outer, spaces.Discrete) and not isinstance(inner, spaces.Discrete):
            continue  # no action has a text
        changes = isinstance(wrapper, gymnasium.ActionWrapper) or _differ(outer, inner)
        if changes and type(wrapper).__name__ not in (*SAME_MEANING, *but):
            return wrapper
    return None


def wrappers_down_to(env: gymnasium.Env[Any, Any], last: Wrapper) -> Iterator[Wrapper]:
    """Yield the wrappers of an environment from the outermost to `last`."""
    for wrapper in _wrappers(env, everywhere=True):
        yield wrapper
        if wrapper is last:
            return


def _wrappers(env: gymnasium.Env[Any, Any], everywhere: bool) -> Iterator[Wrapper]:
    spec = env.unwrapped.spec
    of_the_id = {added.name for added in spec.additional_wrappers} if spec is not None and not everywhere else set()
    while isinstance(env, gymnasium.Wrapper):
        if not everywhere and isinstance(env, OrderEnforcing | PassiveEnvChecker):
            return  # from here on inwards it is what the id stands for
        if type(env).__name__ not in of_the_id:
            yield env
        env = env.env


def _differ(outer: spaces.Space[Any], inner: spaces.Space[Any]) -> bool:
    return outer is not inner and outer != inner
