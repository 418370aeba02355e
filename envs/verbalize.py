"""Verbalizers: words for environments that do not speak.

A `Verbalizer` turns a plain environment's observation, task and actions into words; `VerbalizedEnv` puts one
around an environment, which then keeps the language contract. The registry finds the verbalizer for an
environment's id; what no pattern matches gets `AutomaticVerbalizer`, which puts any space into words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.spaces import Space

from heed.envs.contract import LanguageObservation, language_space

ENTRY_POINT_GROUP = "heed.verbalizers"
"""Packages add verbalizers of their own in this entry point group: name = id pattern, value = the class."""

OWN_VERBALIZERS = tuple(
    EntryPoint(name=pattern, value=value, group=ENTRY_POINT_GROUP)
    for pattern, value in (
        ("BabyAI-*", "heed.envs.babyai:MiniGridVerbalizer"),
        ("MiniGrid-*", "heed.envs.babyai:MiniGridVerbalizer"),
        ("FrozenLake*", "heed.envs.toy_text:FrozenLakeVerbalizer"),
        ("Taxi-*", "heed.envs.toy_text:TaxiVerbalizer"),
        ("CliffWalking*", "heed.envs.toy_text:CliffWalkingVerbalizer"),
        ("MiniWorld-*", "heed.envs.worlds.miniworld:MiniWorldVerbalizer"),
        ("Fetch[PRS]*", "heed.envs.worlds.robotics:FetchVerbalizer"),
        ("PointMaze_*", "heed.envs.worlds.robotics:PointMazeVerbalizer"),
        ("ALE/*", "heed.envs.worlds.atari:AtariVerbalizer"),
    )
)
"""Heed's own, in the form of entry points: loaded when needed, and after everybody else's."""


class Verbalizer(ABC):
    """Words for one environment instance. Abstract methods are all there is to write.

    One instance serves one environment, so it may keep what it needs of the running episode; it may also wrap
    the environment that it was given (`super().__init__(MyWrapper(env))`).
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        self.env = env

    def on_reset(self) -> None:  # noqa: B027 - a hook, empty on purpose
        """Forget the last episode; called after each reset, before anything is put into words."""

    @abstractmethod
    def instruction(self, observation: Any) -> str:
        """Return what the agent is told to do in this episode."""

    @abstractmethod
    def observation(self, observation: Any) -> str:
        """Return what the agent perceives now."""

    @abstractmethod
    def action_texts(self) -> tuple[str, ...] | None:
        """Return one text for each action of a Discrete action space; None for any other space."""

    def spaces(self) -> dict[str, Space[Any]]:
        """Return what stands beside the words, by key; nothing unless overridden.

        A policy reads `numbers`, a Box of float32 and one dimension, and `image`, a Box of uint8, (height, width, 3).
        """
        return {}

    def beside(self, observation: Any) -> dict[str, Any]:
        """Return a value for each key of `spaces()`."""
        return {}

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say, on an episode's last step, whether the agent did what it was told.

        Unless the environment says so itself (`info["is_success"]`), that is an end by its own rules with a
        positive reward.
        """
        if "is_success" in info:
            return bool(info["is_success"])
        return bool(terminated and reward > 0)


class VerbalizedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A plain environment that a `Verbalizer` lets speak the language contract."""

    def __init__(self, verbalizer: Verbalizer):
        super().__init__(verbalizer.env)
        self.verbalizer = verbalizer
        beside: dict[str, Any] = dict(verbalizer.spaces())
        self.observation_space = language_space(**beside)
        self.action_texts = verbalizer.action_texts()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Start an episode and put its first observation into words."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.verbalizer.on_reset()
        return self._words(observation), info

    def step(self, action: Any) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Act, and put what follows into words; `info["is_success"]` is set on the last step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        # An episode that ends by its own rules on the last allowed step has ended: a time limit that says so
        # as well would make learners bootstrap past the end.
        terminated, truncated = bool(terminated), bool(truncated and not terminated)
        if terminated or truncated:
            info["is_success"] = self.verbalizer.is_success(float(reward), terminated, info)
        return self._words(observation), float(reward), terminated, truncated, info

    def _words(self, observation: Any) -> LanguageObservation:
        words: dict[str, Any] = {
            "instruction": self.verbalizer.instruction(observation),
            "observation": self.verbalizer.observation(observation),
        }
        words.update(self.verbalizer.beside(observation))
        return words  # type: ignore[return-value] # a TypedDict knows no further keys


class AutomaticVerbalizer(Verbalizer):
    """Words for any Gymnasium environment: field by field, numbers at three significant digits.

    Where the environment's specification names a reward threshold (as CartPole's does), success is a return
    that reaches it, since rewards there tell nothing about the end: CartPole rewards the step that drops the
    pole as well.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        self._episode = EpisodeReturn(env)
        super().__init__(self._episode)
        self._threshold = env.spec.reward_threshold if env.spec is not None else None

    def instruction(self, observation: Any) -> str:
        """Return a fixed sentence: a plain environment has one task, which only its reward tells."""
        return "collect as much reward as you can"

    def observation(self, observation: Any) -> str:
        """Return the observation's values, with the names of the fields where the space has them."""
        return describe(self.env.observation_space, observation)

    def action_texts(self) -> tuple[str, ...] | None:
        """Return the environment's own action meanings where it has them, else "action 0", "action 1", ..."""
        space = self.env.action_space
        if not isinstance(space, spaces.Discrete):
            return None
        meanings = getattr(self.env.unwrapped, "get_action_meanings", None)
        if callable(meanings):
            return tuple(str(text).lower() for text in meanings())
        return tuple(f"action {index}" for index in range(int(space.n)))

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the return reached the environment's threshold; without one, as any `Verbalizer`."""
        if self._threshold is None or "is_success" in info:
            return super().is_success(reward, terminated, info)
        return self._episode.value >= self._threshold


class EpisodeReturn(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds up the rewards of the running episode in `value`."""

    value = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode at zero."""
        self.value = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act, and add the reward."""
        result = self.env.step(action)
        self.value += float(result[1])
        return result


def describe(space: spaces.Space[Any], value: Any) -> str:
    """Put a `value` of a Gymnasium `space` into words."""
    match space:
        case spaces.Dict():
            parts = [f"{key} {describe(sub, value[key])}" for key, sub in space.spaces.items()]
            return "; ".join(parts)
        case spaces.Tuple():
            return "; ".join(describe(sub, part) for sub, part in zip(space.spaces, value, strict=True))
        case spaces.Text():
            return str(value)
        case spaces.Discrete():
            return str(int(value))
        case spaces.Box() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return " ".join(_number(entry) for entry in np.asarray(value).ravel())
        case _:
            return str(value)


def _number(value: Any) -> str:
    return f"{float(value) + 0.0:.3g}"  # adding zero turns -0.0 into 0.0


VerbalizerFactory = Callable[[gymnasium.Env[Any, Any]], Verbalizer]

_registry: dict[str, VerbalizerFactory] = {}


def register_verbalizer(pattern: str, factory: VerbalizerFactory) -> None:
    """Use `factory` for every environment whose id matches `pattern` (as in a shell: `MyWorld-*`).

    The pattern that was registered last wins, so a user's own goes before Heed's.
    """
    _registry.pop(pattern, None)
    _registry[pattern] = factory


def verbalizer_for(env: gymnasium.Env[Any, Any], env_id: str) -> Verbalizer:
    """Return the verbalizer for `env`.

    Those registered in this process come first, then those of installed packages, then Heed's own, and then
    the automatic one.
    """
    for pattern, factory in reversed(_registry.items()):
        if fnmatchcase(env_id, pattern):
            return factory(env)
    for entry_point in (*entry_points(group=ENTRY_POINT_GROUP), *OWN_VERBALIZERS):
        if fnmatchcase(env_id, entry_point.name):
            plugged: VerbalizerFactory = entry_point.load()
            return plugged(env)
    return AutomaticVerbalizer(env)
