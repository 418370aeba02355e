"""Environments that now and then say what no prompt can be made of."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs.contract import ChangingActions, language_space

KINDS = {
    "too long": ("instruction", "say yes " * 100),
    "surrogate": ("observation", "step \ud800"),
    "empty instruction": ("instruction", " \n"),
    "empty observation": ("observation", ""),
    "no string": ("instruction", 7),
    "bytes": ("observation", b"step"),
    "action": ("actions", ("yes", "\udfff")),
    "too many actions": ("actions", ("yes", "no", "perhaps")),
    "none": ("observation", None),
}
"""What is wrong, where, and what is said instead."""


class Unreadable(gymnasium.Env[Any, Any]):
    """Say the word that is asked for, in three steps; some episodes hold something that nobody can read.

    Args:
        kind: what, of `KINDS`; "" for nothing.
        share: of the episodes, by their seeds.
        step: in which it comes; 0 is the reset, 3 the last one.
    """

    def __init__(self, kind: str, share: float = 0.3, step: int = 0):
        changing = kind in KINDS and KINDS[kind][0] == "actions"
        self.observation_space = language_space(changing_actions=changing)
        self.action_space = ChangingActions(2) if changing else spaces.Discrete(2)
        self.action_texts = None if changing else ("yes", "no")
        self._kind, self._share, self._breaks_in = kind, share, step

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._number = seed
        self._broken = self.np_random.random() < self._share
        self._right, self._step = int(self.np_random.integers(2)), 0
        return self._perceive(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        right = action == self._right
        return self._perceive(), float(right), self._step == 3, False, {"is_success": bool(right)}

    def expert_action(self) -> int:
        return self._right

    def fulfilled_instructions(self) -> dict[str, float]:
        return {"say anything " * 200: 1.0, "say something": 1.0} if self._step else {}

    def _perceive(self) -> dict[str, Any]:
        words: dict[str, Any] = {
            "instruction": f"say {('yes', 'no')[self._right]}",
            "observation": f"step {self._step} of {self._number}",
        }
        if self.action_texts is None:
            words["actions"] = ("yes", "no")
        if self._broken and self._step == self._breaks_in and self._kind:
            key, said = KINDS[self._kind]
            words[key] = said
        return words
