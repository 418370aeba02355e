"""Looks at what an environment returns, at every step: cheaply, so not at all that `heed.envs.check_env` looks at.

What is found raises `FaultError`, and costs the episode: an observation without its keys, a text that is no string or
that no encoding can write, numbers of another shape, NaN or no numbers, a list of actions that cannot be, a reward that
is no finite number, and spaces or action texts that are no longer those that the training began with.

Infinities are numbers that a space may hold ("nothing within reach"): words say them, and a policy reads the largest
float32 in their place. How far a number lies beyond the bounds of its space is not looked at: many environments
overstep them by rounding, and nothing reads the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from heed.envs.contract import (
    ChangingActions,
    ContractError,
    FreeText,
    action_texts_of,
    check_admissible_actions,
    number_of,
)
from heed.envs.faults import FaultError

Check = Callable[[str, Any], None]

SHOWN = 200
"""Characters of a wrong value that are shown."""


LARGEST = float(np.finfo(np.float32).max)
"""Rewards are handed on as float32s."""

PROMISED = ("observation_space", "action_space", "action_texts")
"""What an environment says of itself when it is made, and keeps to."""


class Inspector:
    """Knows what one environment promised when it was made.

    Args:
        env: a language environment.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        self.observation_space, self.action_space = env.observation_space, env.action_space
        # Some make their spaces anew whenever they are asked: comparing these would take long in every step.
        self._lasting = env.observation_space is self.observation_space and env.action_space is self.action_space
        self.action_texts = action_texts_of(env)
        self._has_observation_space = _holder(env, "observation_space")
        self._has_action_space = _holder(env, "action_space")
        self._names_actions = _owner(env, "action_texts") if self.action_texts is not None else None
        self._texts = None if self._names_actions is None else self._names_actions.action_texts
        assert isinstance(self.observation_space, spaces.Dict)
        self._checks = [(key, self._check_of(key, space)) for key, space in self.observation_space.spaces.items()]

    def _check_of(self, key: str, space: spaces.Space[Any]) -> Check:
        """Return what checks one part of the observation."""
        if key == "actions" and isinstance(self.action_space, ChangingActions):
            return _AdmissibleActions(int(self.action_space.n))
        if isinstance(space, spaces.Text):
            return _String(space)
        if isinstance(space, spaces.Box):
            return _Numbers(space)
        return _Member(space)

    @property
    def promised(self) -> dict[str, Any]:
        """What the environment promised when it was made, by name."""
        return {name: getattr(self, name) for name in PROMISED}

    def require_same(self, other: Inspector) -> None:
        """Refuse an environment that promises something else than another one, in whose place it comes.

        Raises:
            FaultError: saying what.
        """
        for name in PROMISED:
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise FaultError(f"made anew, its {name} is {_short(ours)}, but was {_short(theirs)}")

    def check_reset(self, result: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what `reset` returned, observation and info.

        Raises:
            FaultError: if it cannot be that.
        """
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise FaultError(f"reset returned {_short(result)}, not an observation and a dict of information")
        self.check_observation(result[0])
        self._check_contract(begins=True)
        return result

    def check_step(self, result: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Return what `step` returned: observation, reward, terminated, truncated, info.

        Raises:
            FaultError: if it cannot be that.
        """
        if not (isinstance(result, tuple) and len(result) == 5 and isinstance(result[4], dict)):
            raise FaultError(f"step returned {_short(result)}, not observation, reward, terminated, truncated, info")
        observation, reward, terminated, truncated, info = result
        self.check_observation(observation)
        number = self.check_reward(reward)
        if not (isinstance(terminated, _ENDS) and isinstance(truncated, _ENDS)):
            raise FaultError(
                f"terminated was {_short(terminated)} and truncated {_short(truncated)}, not True or False"
            )
        self._check_contract(begins=False)
        return observation, number, bool(terminated), bool(truncated), info

    def check_reward(self, reward: Any) -> float:
        """Return a reward as a number.

        Raises:
            FaultError: if it is none, not finite, or beyond float32.
        """
        try:
            number = number_of(reward)
        except (TypeError, ValueError):
            raise FaultError(f"the reward was {_short(reward)}, which is no number") from None
        if not math.isfinite(number):
            raise FaultError(f"the reward was {number}, which is not finite")
        if abs(number) > LARGEST:
            raise FaultError(f"the reward was {number}, which is beyond float32")
        return number

    def check_observation(self, observation: Any) -> None:
        """Look at an observation.

        Raises:
            FaultError: if it cannot be one of this environment's.
        """
        if not isinstance(observation, dict):
            raise FaultError(f"the observation was {_short(observation)}, which is no dict")
        for key, check in self._checks:
            if key not in observation:
                raise FaultError(f"the observation had no {key!r}, only {', '.join(map(str, observation))}")
            check(key, observation[key])

    def check_part(self, key: str, value: Any) -> None:
        """Look at what an observation holds under one key.

        Raises:
            FaultError: if it cannot be that.
        """
        dict(self._checks)[key](key, value)

    def _check_contract(self, *, begins: bool) -> None:
        if self._lasting or begins:
            observation_space = self._has_observation_space.observation_space
            if observation_space is not self.observation_space:
                self.observation_space = _equal("observation_space", observation_space, self.observation_space)
            action_space = self._has_action_space.action_space
            if action_space is not self.action_space:
                self.action_space = _equal("action_space", action_space, self.action_space)
        if self._names_actions is not None:
            texts = self._names_actions.action_texts
            if texts is not self._texts and (texts is None or tuple(texts) != self.action_texts):
                raise FaultError(f"the action_texts became {_short(texts)}, but were {_short(self.action_texts)}")


def require_alike(theirs: Mapping[str, Any], ours: Mapping[str, Any], index: int, first: int) -> None:
    """Refuse environments of one vector that differ in their spaces or action texts: an agent knows one list.

    Args:
        theirs: what an environment promises, by name.
        ours: what the vector's first one does.
        index: of the environment.
        first: index of the first one.

    Raises:
        ContractError: naming what differs.
    """
    for name, promised in ours.items():
        if theirs[name] != promised:
            raise ContractError(
                f"The environments of a vector are alike, but the {name} of environment {index} is {theirs[name]}, and "
                f"of environment {first} {promised}. Make them of one kind; levels that differ make up one, "
                "a mixture (LEVEL+LEVEL), or list their actions (`ChangingActions`)."
            )


_ENDS = (bool, np.bool_)


def require_text(key: str, text: str) -> None:
    """Refuse half of a pair of surrogates, which stands for no character: no tokenizer and no file takes it.

    Raises:
        FaultError: naming it.
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FaultError(
            f"the observation's {key!r} held {text[error.start]!r}, half of a character, at place {error.start}"
        ) from None


class _String:
    def __init__(self, space: spaces.Text):
        self._most = space.max_length
        self._characters = None if isinstance(space, FreeText) else space.character_set
        self._least = space.min_length

    def __call__(self, key: str, value: Any) -> None:
        if not isinstance(value, str):
            raise FaultError(f"the observation's {key!r} was {_short(value)}, which is no string")
        if len(value) > self._most:
            raise FaultError(f"the observation's {key!r} had {len(value)} characters, more than {self._most}")
        if self._characters is not None:
            if not self._characters.issuperset(value):
                strange = sorted(set(value) - self._characters)
                raise FaultError(
                    f"the observation's {key!r} was {_short(value)}, with the characters {strange} that its space "
                    "leaves out"
                )
            if len(value) < self._least:
                raise FaultError(f"the observation's {key!r} had {len(value)} characters, fewer than {self._least}")
        require_text(key, value)


class _AdmissibleActions:
    def __init__(self, most: int):
        self._most = most

    def __call__(self, key: str, value: Any) -> None:
        try:
            check_admissible_actions(value, self._most)
        except ContractError as error:
            raise FaultError(str(error)) from None
        for text in value:
            require_text(key, text)


class _Numbers:
    def __init__(self, space: spaces.Box):
        self._shape, self._kind = space.shape, "f" if space.dtype.kind == "f" else "i"
        self._dtype = space.dtype

    def __call__(self, key: str, value: Any) -> None:
        numbers = value if isinstance(value, np.ndarray) else np.asarray(value)
        kind = numbers.dtype.kind
        if kind not in "biuf" or (kind == "f" and self._kind == "i"):
            raise FaultError(f"the observation's {key!r} was {_short(value)}, which is of another type than its space")
        if numbers.shape != self._shape:
            raise FaultError(f"the observation's {key!r} had the shape {numbers.shape}, but its space {self._shape}")
        if kind == "f":
            if np.isnan(numbers).any():
                raise FaultError(f"the observation's {key!r} held numbers that are not finite (NaN): {_short(value)}")
        elif self._kind == "i" and numbers.dtype != self._dtype and not self._fits(numbers):
            raise FaultError(f"the observation's {key!r} was {_short(value)}, which {self._dtype} cannot hold")

    def _fits(self, numbers: npt.NDArray[Any]) -> bool:
        """Say whether whole numbers of another type are some that the space's type has."""
        if self._dtype.kind not in "iu" or numbers.dtype.kind not in "iu" or not numbers.size:
            return True
        held = np.iinfo(self._dtype.name)
        return bool(int(numbers.min()) >= held.min and int(numbers.max()) <= held.max)


class _Member:
    def __init__(self, space: spaces.Space[Any]):
        self._space = space

    def __call__(self, key: str, value: Any) -> None:
        if not self._space.contains(value):
            raise FaultError(f"the observation's {key!r} was {_short(value)}, which is not in {_short(self._space)}")


def _equal(name: str, now: Any, before: Any) -> Any:
    if now != before:
        raise FaultError(f"the {name} became {_short(now)}, but was {_short(before)}")
    return now


def _holder(env: Any, name: str) -> Any:
    """Return the innermost environment that has the very space of the outermost: reading it there takes less time."""
    space = getattr(env, name)
    while isinstance(env, gymnasium.Wrapper) and getattr(env.env, name) is space:
        env = env.env
    return env


def _owner(env: Any, name: str) -> Any:
    """Return the environment or wrapper that has an attribute itself."""
    while not hasattr(env, name):
        env = env.env
    return env


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
