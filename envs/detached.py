"""Copies of what an environment returns, made once, where somebody else's environment is stepped.

Environments reuse their objects: one `info` dict for a whole episode, one array that each step fills anew, a list of
actions that grows, even one dict that all instances share. What was returned is kept here for longer than that: as a
terminal observation across the reset, in a batch while the next environment is stepped, in a record of the episode. So
whoever steps environments (`heed.envs.vectorize`, evaluations, demonstrations, checks) puts a `Detached` around them.
Then nothing that is kept changes later, and what is written into an `info` never reaches the environment's own.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np

_IMMUTABLE = (str, bool, int, float, np.generic, type(None))


class Detached(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Hands on what an environment returned as it was then, whatever the environment does with its objects later.

    Observations are copied whole; of `info` the dict itself, which others write into, and the arrays, lists and dicts
    in it. What is not a tuple of an observation, ... and a dict is handed on as it is: others refuse it.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; `options` stay the caller's too."""
        given: dict[str, Any] = {} if options is None else {"options": dict(options)}  # some environments know none
        begun: tuple[Any, dict[str, Any]] = _detached(self.env.reset(seed=seed, **given))
        return begun

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        followed: tuple[Any, Any, bool, bool, dict[str, Any]] = _detached(self.env.step(action))
        return followed


def _detached(result: Any) -> Any:
    if not (isinstance(result, tuple) and len(result) > 1 and isinstance(result[-1], dict)):
        return result
    observation, *others, info = result
    if others and isinstance(others[0], np.ndarray):  # a reward, which may be summed up in place
        others[0] = others[0].item() if others[0].size == 1 else others[0].copy()
    info = {key: _kept(value) for key, value in info.items()} if info else {}
    return detached_observation(observation), *others, info


def detached_observation(observation: Any) -> Any:
    """Return an observation that shares nothing with the environment that returned it."""
    if isinstance(observation, dict):
        return {key: _copied(value) for key, value in observation.items()}
    return _copied(observation)


def _copied(value: Any) -> Any:
    if isinstance(value, _IMMUTABLE):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.copy()
    if type(value) is tuple and all(type(part) is str for part in value):  # the actions that there are now
        return value
    return copy.deepcopy(value)


def _kept(value: Any) -> Any:
    """Return a part of `info`; what is no data (a handle, an environment) stays what it is."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _kept(part) for key, part in value.items()}
    if type(value) is list:
        return [_kept(part) for part in value]
    return value
