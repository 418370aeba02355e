"""Several levels as one language environment: each episode is one of them, drawn by the episode's seed.

    BabyAI-GoToLocal-v0+BabyAI-PickupLoc-v0        as often the one as the other
    BabyAI-GoToLocal-v0@3+BabyAI-PickupLoc-v0      the first three times as often

is such an environment's id, wherever an id is asked for: Gymnasium's own ids hold neither `+` nor `@`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs.contract import ContractError, action_texts_of, language_space, require_language_env
from heed.envs.environment_file import parts_of, weight_of

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


class Mixture(gymnasium.Env[Any, Any]):
    """Plays, in each episode, one of several language environments.

    `info["level"]` names it on the first and on the last step. Keys beside the words are there if all levels have them.

    Args:
        envs: language environments with the same actions.
        levels: their names and weights.

    Raises:
        ContractError: if an environment breaks the static part of the contract, or has other actions than the first.
    """

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]], levels: Sequence[Level]):
        for env in envs:
            require_language_env(env)
        self.envs, self.levels = tuple(envs), tuple(levels)
        self.action_space = envs[0].action_space
        self.action_texts = action_texts_of(envs[0])
        for env, level in zip(self.envs, self.levels, strict=True):
            self._require_same_actions(env, level)
        self.observation_space = _common_space([env.observation_space for env in envs])
        self._keys = tuple(self.observation_space.spaces)
        modes = [set(env.metadata.get("render_modes") or ()) for env in envs]
        self.metadata = {**envs[0].metadata, "render_modes": sorted(set.intersection(*modes))}
        self.render_mode = envs[0].render_mode
        self._bounds = np.cumsum([level.weight for level in levels])
        self._generator = np.random.default_rng()
        self._index = 0

    def _require_same_actions(self, env: gymnasium.Env[Any, Any], level: Level) -> None:
        if isinstance(self.action_space, spaces.Discrete) and isinstance(env.action_space, spaces.Discrete):
            ours, theirs = self.action_texts, action_texts_of(env)
        else:
            ours, theirs = self.action_space, env.action_space  # type: ignore[assignment]
        if ours != theirs:
            raise ContractError(
                f"The levels of a mixture must have the same actions, in the same order: {self.levels[0].env_id} has "
                f"{ours}, but {level.env_id} has {theirs}."
            )

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
        drawn = self._generator.random() * self._bounds[-1]
        self._index = int(np.searchsorted(self._bounds, drawn, side="right"))
        observation, info = self.envs[self._index].reset(seed=seed, options=options)
        return self._common(observation), {**info, "level": self.level}

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act in the level that was drawn."""
        observation, reward, terminated, truncated, info = self.envs[self._index].step(action)
        if terminated or truncated:
            info = {**info, "level": self.level}
        # Gymnasium's own time limit says so too where an episode ends on the last allowed step.
        return self._common(observation), reward, bool(terminated), bool(truncated and not terminated), info

    def _common(self, observation: Any) -> dict[str, Any]:
        return {key: observation[key] for key in self._keys}

    def render(self) -> Any:
        """Return the picture of the level that is played."""
        return self.envs[self._index].render()

    def close(self) -> None:
        """Close every level."""
        for env in self.envs:
            env.close()


def _common_space(members: Sequence[spaces.Space[Any]]) -> spaces.Dict:
    """Return words as long as any, and beside them what all spaces have alike."""
    dicts = [space.spaces for space in members if isinstance(space, spaces.Dict)]
    first, words = dicts[0], language_space()
    for key in words.spaces:
        lengths = [part.max_length for part in (space[key] for space in dicts) if isinstance(part, spaces.Text)]
        words.spaces[key].max_length = max(lengths)  # type: ignore[attr-defined]
    beside = {
        key: part
        for key, part in first.items()
        if key not in words.spaces and all(space.get(key) == part for space in dicts)
    }
    return spaces.Dict({**words.spaces, **beside})
