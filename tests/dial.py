"""A modality that a user might add: the few numbers of a dial, read as soft tokens in the sequence; and its world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from heed.envs import LanguageVecEnv, language_space
from heed.policies import Modality, register_modality
from heed.policies.modalities.modality import Enters


@register_modality
@dataclass(frozen=True)
class Dial(Modality):
    """Each number is a token of its own."""

    key: ClassVar[str] = "dial"
    enters: ClassVar[Enters] = "sequence"

    count: int

    @classmethod
    def of(cls, space: spaces.Space[Any], action_space: spaces.Space[Any]) -> Dial:
        assert space.shape is not None
        return cls(space.shape[0])

    @property
    def columns(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count,)

    @property
    def soft_tokens(self) -> int:
        return self.count

    def pack(self, values: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        return np.stack(list(values)).astype(np.float32).view(np.int32)

    def unpack(self, packed: Tensor) -> Tensor:
        return packed.contiguous().view(torch.float32)

    def embedder(self, width: int) -> nn.Module:
        return nn.Sequential(nn.Unflatten(1, (self.count, 1)), nn.Linear(1, width))


class Dials(gymnasium.Env[Any, Any]):
    """One step: press what the needle points at. Words do not say where that is."""

    action_texts = ("press left", "press right")

    def __init__(self) -> None:
        self.observation_space = language_space(dial=spaces.Box(-1, 1, (2,), np.float32))
        self.action_space = spaces.Discrete(2)
        self._side = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._side = int(self.np_random.integers(2))
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        success = int(action) == self._side
        return self._shown(), float(success), True, False, {"is_success": success}

    def _shown(self) -> dict[str, Any]:
        needle = np.array([2 * self._side - 1, 0.5], dtype=np.float32)
        return {"instruction": "press where the needle points", "observation": "a dial", "dial": needle}


def make_dials(n_envs: int, seed: int = 0) -> LanguageVecEnv:
    """Return `n_envs` of them, vectorised."""
    return LanguageVecEnv([Dials] * n_envs, seed=seed)
