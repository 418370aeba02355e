"""Lets several ask what a step has fulfilled, where the environment tells each instruction once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from heed.envs.contract import fulfilled_instructions_of


class AskedOnce(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Asks `fulfilled_instructions` at most once after each reset and step, and gives everybody the same answer.

    BabyAI's levels tell an instruction once in an episode: who asked second would hear nothing.

    Args:
        env: an environment with `fulfilled_instructions`.

    Raises:
        ContractError: if it has none.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self._ask = fulfilled_instructions_of(env)
        self._answer: Mapping[str, float] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._answer = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        self._answer = None
        return self.env.step(action)

    def fulfilled_instructions(self) -> Mapping[str, float]:
        """Return what the last step fulfilled."""
        if self._answer is None:
            self._answer = dict(self._ask())
        return self._answer
