"""Several levels as one language environment: each episode is one of them, drawn by the episode's seed.

    BabyAI-GoToLocal-v0+BabyAI-PickupLoc-v0        as often the one as the other
    BabyAI-GoToLocal-v0@3+BabyAI-PickupLoc-v0      the first three times as often

is such an environment's id, wherever an id is asked for: Gymnasium's own ids hold neither `+` nor `@`.

Levels with the same actions make a mixture with these actions. If they differ, or change from state to state in one of
the levels, the mixture's observations list those that there are now (`ChangingActions`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs.contract import (
    GIVE_TWO_PARTS,
    OPTIONAL_METHODS,
    ChangingActions,
    ContractError,
    action_texts_of,
    language_space,
    method_of,
    require_language_env,
)
from heed.envs.environment_file import parts_of, weight_of
from heed.envs.hold_out import hold_out_of
from heed.envs.wrappers.weighted_draw import DrawsByWeight, WeightedDraw

LEVEL = 0x1E7E1
"""Sets the draw of an episode's level apart from whatever else the episode's seed is used for."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """A part of a mixture."""

    env_id: str
    weight: float = 1.0
    """How often it is drawn, against the others' weights."""


def is_mixture(env_id: str) -> bool:
    """Say whether an id names several levels: Gymnasium's own ids hold no `+`, and that of a path is none."""
    return len(parts_of(env_id)) > 1


def levels_of(env_id: str) -> tuple[Level, ...]:
    """Return the levels that `env_id` names: several for a mixture, else the one that it is.

    Raises:
        ValueError: if a level is missing or is named twice, or a weight is no positive number.
    """
    if not is_mixture(env_id):
        return (Level(env_id=env_id),)
    levels = []
    for part in parts_of(env_id):
        name, weight = weight_of(part)
        if not name:
            raise ValueError(f"{env_id!r} has nothing beside a `+`. A mixture is LEVEL+LEVEL, or LEVEL@3+LEVEL.")
        levels.append(Level(env_id=name, weight=1.0 if weight is None else _weight(weight, env_id)))
    names = [level.env_id for level in levels]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{env_id!r} names {name} twice: give it a weight instead, as in {name}@2.")
    return tuple(levels)


def _weight(text: str, env_id: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"{env_id!r} has the weight {text!r}, but a weight is a positive number: LEVEL@3+LEVEL.")
    return weight


class Mixture(DrawsByWeight, gymnasium.Env[Any, Any]):
    """Plays, in each episode, one of several language environments.

    `info["level"]` names it on every step. Auxiliary observations are there if all levels have them.
    What an environment may offer besides its steps (an expert, what it fulfilled) is there if all levels offer it.

    Args:
        envs: language environments. Where all are `Discrete` with the same action texts in the same order, the mixture
            has these. Where they are `Discrete` otherwise, or one has `ChangingActions`, it has `ChangingActions` of
            the most that a level has, and observations list the level's own. Other action spaces must be the same.
        levels: their names and weights.

    Raises:
        ContractError: if an environment breaks the static part of the contract, or its actions cannot be mixed with
            those of the first.
    """

    draws = "level"
    """What is drawn for each episode, and the key in `info` that names it."""

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]], levels: Sequence[Level]):
        for env in envs:
            require_language_env(env)
        self.envs, self.levels = tuple(envs), tuple(levels)
        self._texts = tuple(action_texts_of(env) for env in envs)
        self.action_space = self._common_actions()
        self._lists_actions = isinstance(self.action_space, ChangingActions)
        self.action_texts = None if self._lists_actions else self._texts[0]
        # A level's own texts stay as they are; listed in an observation, a wrapper may have them in other words.
        self._listed = tuple(
            texts if texts is None else method_of(env, "listed_action_texts") or texts
            for env, texts in zip(envs, self._texts, strict=True)
        )
        self.observation_space = _common_space([env.observation_space for env in envs], self._lists_actions)
        self._keys = tuple(key for key in self.observation_space.spaces if key != "actions")
        modes = [set(env.metadata.get("render_modes") or ()) for env in envs]
        self.metadata = {**envs[0].metadata, "render_modes": sorted(set.intersection(*modes))}
        self.render_mode = envs[0].render_mode
        self._draw = WeightedDraw([level.env_id for level in levels], [level.weight for level in levels])
        self._generator = np.random.default_rng()
        self._index = 0
        self.hold_out = hold_out_of(*envs)
        for name in (*OPTIONAL_METHODS, GIVE_TWO_PARTS):
            methods = [method_of(env, name) for env in envs]
            if None not in methods:
                setattr(self, name, functools.partial(self._ask_level, methods))

    def _common_actions(self) -> spaces.Space[Any]:
        action_spaces = [env.action_space for env in self.envs]
        if all(isinstance(space, spaces.Discrete) for space in action_spaces):
            changing = any(isinstance(space, ChangingActions) for space in action_spaces)
            if not changing and len(set(self._texts)) == 1:
                return action_spaces[0]
            return ChangingActions(max(int(space.n) for space in action_spaces if isinstance(space, spaces.Discrete)))
        for level, space in zip(self.levels, action_spaces, strict=True):
            if space != action_spaces[0]:
                raise ContractError(
                    "The levels of a mixture must have the same actions, or all of them actions to choose one from: "
                    f"{self.levels[0].env_id} has {action_spaces[0]}, but {level.env_id} has {space}."
                )
        return action_spaces[0]

    def _ask_level(self, methods: Sequence[Callable[..., Any]], *arguments: Any) -> Any:
        return methods[self._index](*arguments)

    @property
    def level(self) -> str:
        """The running episode's level."""
        return self.levels[self._index].env_id

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw a level, by the episode's own seed, and start an episode of it."""
        super().reset(seed=seed)
        if seed is not None:
            # The level draws its world from a generator with this very seed: ours must not draw the same.
            self._generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(LEVEL,)))
        else:
            seed = int(self._generator.integers(2**31))
        self._index = self._draw.draw(self._generator)
        observation, info = self.envs[self._index].reset(seed=seed, options=options)
        return self._common(observation), {**info, "level": self.level}

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act in the level that was drawn.

        Raises:
            ValueError: if the level does not have so many actions.
        """
        texts = self._texts[self._index]
        if self._lists_actions and texts is not None and not 0 <= int(action) < len(texts):
            raise ValueError(f"There is no action {int(action)} in {self.level}, which has {len(texts)}: {texts}.")
        observation, reward, terminated, truncated, info = self.envs[self._index].step(action)
        # With every step: a wrapper around the mixture may make it the last one.
        info = {**info, "level": self.level}
        # Gymnasium's own time limit says so too where an episode ends on the last allowed step.
        return self._common(observation), reward, bool(terminated), bool(truncated and not terminated), info

    def _common(self, observation: Any) -> dict[str, Any]:
        common = {key: observation[key] for key in self._keys}
        if self._lists_actions:
            texts = self._listed[self._index]
            common["actions"] = observation["actions"] if texts is None else texts
        return common

    def render(self) -> Any:
        """Return the picture of the level that is played."""
        return self.envs[self._index].render()

    def close(self) -> None:
        """Close every level."""
        for env in self.envs:
            env.close()


def _common_space(members: Sequence[spaces.Space[Any]], lists_actions: bool) -> spaces.Dict:
    """Return words as long as any, and the auxiliary observations that all spaces have alike."""
    dicts = [space.spaces for space in members if isinstance(space, spaces.Dict)]
    first, words = dicts[0], language_space()
    for key in words.spaces:
        lengths = [part.max_length for part in (space[key] for space in dicts) if isinstance(part, spaces.Text)]
        words.spaces[key].max_length = max(lengths)  # type: ignore[attr-defined]
    auxiliary = {
        key: part
        for key, part in first.items()
        if key not in (*words.spaces, "actions") and all(space.get(key) == part for space in dicts)
    }
    return language_space(changing_actions=lists_actions, **{**words.spaces, **auxiliary})
