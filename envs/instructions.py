"""Instructions as something that an evaluation can change while the world stays as it is.

*Blank* hides the instruction; *swapped* shows another valid instruction of the same level. In both the
success test stays with the true one, so an agent that follows instructions loses success, and one that never
listened does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import numpy as np

Instructions = Literal["true", "blank", "swapped"]
"""Which instruction the agent is shown."""

SWAP = 0x5A4B
"""Sets the draw of the swapped instruction apart from whatever else an episode's seed is used for."""


class BlankInstruction(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Shows the agent an empty instruction."""

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Return the observation with an empty instruction."""
        return {**observation, "instruction": ""}


class SwappedInstruction(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows the agent, for each episode, an instruction of the level other than the true one.

    Args:
        env: a language environment.
        pool: instructions of the same level; those equal to the episode's own are passed over.

    Raises:
        ValueError: if the pool holds fewer than two different instructions.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], pool: Sequence[str]):
        super().__init__(env)
        self._pool = sorted(set(pool))
        if len(self._pool) < 2:
            raise ValueError(f"This level has one instruction only ({self._pool}): none to swap it with.")
        self._shown = ""
        self._generator = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode and choose the instruction to show, by the episode's own seed."""
        observation, info = self.env.reset(seed=seed, options=options)
        others = [text for text in self._pool if text != observation["instruction"]]
        if seed is not None:
            # The environment draws its level from a generator with this very seed: ours must not draw the same.
            self._generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SWAP,)))
        self._shown = others[int(self._generator.integers(len(others)))]
        return {**observation, "instruction": self._shown}, info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act, and go on showing the swapped instruction."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return {**observation, "instruction": self._shown}, reward, terminated, truncated, info
