"""Instructions of two parts in levels that give instructions of one: `heed train --augment longer`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from heed.envs.contract import GIVE_TWO_PARTS, ContractError, method_of, require_language_env
from heed.envs.wrappers.shown import generator_of


class TwoParts(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Makes the instruction of some episodes one of two parts: "go to the ball after you pick up the key".

    The environment makes it (`give_two_parts`), and decides whether both were done, and in the right order. So its
    expert, its rewards and all that it tells of instructions are of both parts.

    Args:
        env: a language environment with `give_two_parts`.
        share: of the episodes, drawn by their seed. In those in which the environment cannot, its instruction stays.

    Raises:
        ContractError: if the environment has no such method, or breaks the static part of the language contract.
        ValueError: if `share` is none.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], share: float = 0.25):
        require_language_env(env)
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}, but must be between 0 and 1.")
        super().__init__(env)
        give = method_of(env, GIVE_TWO_PARTS)
        if give is None:
            raise ContractError(
                f"{env} cannot make an instruction of two parts: give it a method `give_two_parts(generator)`, as the "
                "page on environments says. BabyAI's levels have one."
            )
        self.share = share
        self._give = give
        self._generator = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode, and draw whether its instruction gets a second part, and which."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._generator = generator_of(seed, "two-parts")
        if self._generator.random() < self.share:
            words = self._give(self._generator)
            if words is not None:
                observation = {**observation, "instruction": words}
        return observation, info
