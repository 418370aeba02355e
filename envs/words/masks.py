"""Action masks as lists of admissible actions: `MaskedActions` around any verbalizer.

Two conventions are common: a method `action_masks()` of the environment (as sb3-contrib's MaskablePPO asks it), and
`info["action_mask"]` after each reset and step (as Gymnasium's Taxi has it). Both give, for each action, whether it can
be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Space

from heed.envs.contract import ContractError
from heed.envs.words.verbalize import Verbalizer


class MaskedActions(Verbalizer):
    """The words of another verbalizer, with the actions that the environment's mask lets pass.

        register_verbalizer("Taxi-*", lambda env: MaskedActions(TaxiVerbalizer(env)))

    Args:
        verbalizer: has texts for the actions.
    """

    def __init__(self, verbalizer: Verbalizer):
        self._mask = RememberedMask(verbalizer.env)
        super().__init__(self._mask)
        self.verbalizer = verbalizer

    def on_reset(self) -> None:
        """Let the other one forget the last episode."""
        self.verbalizer.on_reset()

    def instruction(self, observation: Any) -> str:
        """Return the other one's."""
        return self.verbalizer.instruction(observation)

    def observation(self, observation: Any) -> str:
        """Return the other one's."""
        return self.verbalizer.observation(observation)

    def action_texts(self) -> tuple[str, ...] | None:
        """Return the other one's."""
        return self.verbalizer.action_texts()

    def spaces(self) -> dict[str, Space[Any]]:
        """Return the other one's."""
        return self.verbalizer.spaces()

    def auxiliary(self, observation: Any) -> dict[str, Any]:
        """Return the other one's."""
        return self.verbalizer.auxiliary(observation)

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Ask the other one."""
        return self.verbalizer.is_success(reward, terminated, info)

    def admissible_actions(self, observation: Any) -> Sequence[int] | None:
        """Return the actions that the mask lets pass.

        Raises:
            ContractError: if the environment has no mask.
        """
        return [int(action) for action in np.flatnonzero(self._mask.mask())]


class RememberedMask(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Knows the mask of the actions that can be done now."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self._told: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Remember the first mask."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._told = info.get("action_mask")
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Remember the mask that follows."""
        result = self.env.step(action)
        self._told = result[4].get("action_mask")
        return result

    def mask(self) -> Any:
        """Return for each action whether it can be done now.

        Raises:
            ContractError: if the environment does not say.
        """
        if self._told is not None:
            return self._told
        try:
            return self.env.get_wrapper_attr("action_masks")()
        except AttributeError:
            raise ContractError(
                f"{self.env} has no action mask: neither `info['action_mask']` after a reset and each step nor a "
                "method `action_masks()`. Override `admissible_actions` of its verbalizer, without MaskedActions."
            ) from None
