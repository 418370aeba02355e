"""An instruction that changes in the middle of an episode: "go to the red ball", and after some steps the blue one.

As on the evaluation's axis changed-midway, whose mechanism this is (`heed.envs.wrappers.shown`), the environment's own
instruction is the second of the two: all rewards and ends of the environment are about it. The first is one of those
that can be done in the same world. What a training needs beside it, and an evaluation of the second instruction does
not: who does what the first says while it stands has succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium

from heed.envs.contract import ContractError, ExpertError, can_be_told, expert_of, method_of, require_language_env
from heed.envs.wrappers import shown
from heed.envs.wrappers.asked_once import AskedOnce


class ChangingInstruction(shown.ChangingInstruction):
    """Gives another instruction first, and the environment's own after a number of steps drawn by the episode's seed.

    - While the first stands, doing it ends the episode with success and the reward that the environment tells for it.
    - Whoever does the second before it was given did nothing that was asked, and the environment cannot go on: the
      episode is truncated, without success and without the reward (`info["done_before_given"]`).
    - After the change, the environment's own rewards and ends count, and no others.

    In a world in which nothing else can be done, the own instruction is given from the beginning. On the first and last
    step `info["shown"]` is the first instruction and `info["instruction"]` the second. An expert is silent while the
    first stands, since it knows the second only.

    Args:
        env: a language environment with `possible_instructions` and `fulfilled_instructions`.
        at: between how many steps and how many, both included, the change comes.

    Raises:
        ContractError: if the environment does not tell, or breaks the static part of the language contract.
        ValueError: if `at` is no range of steps.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, at: Sequence[int] = (5, 20)):
        require_language_env(env)
        if len(at) != 2 or not 1 <= at[0] <= at[1]:
            raise ValueError(f"at is {tuple(at)}, but must be two numbers of steps from 1 on, such as (5, 20).")
        if can_be_told(env) is None:
            raise ContractError(
                f"{env} does not tell what else can be done in an episode's world, and whether that was done: give it "
                "the methods `possible_instructions()` and `fulfilled_instructions()`, as the page on environments "
                "says."
            )
        super().__init__(AskedOnce(env), (), after=at, purpose="changing-instruction")
        self._expert = expert_of(env)
        if self._expert is not None:
            self.expert_action = self._advise
        self._tell_parts = method_of(env, "fulfilled_parts")
        self._done_before: tuple[str, ...] = ()  # parts of the second instruction, before it was given
        if self._tell_parts is not None:
            self.fulfilled_parts = self._parts_since_given

    @property
    def first_stands(self) -> bool:
        """Whether the newest observation shows the first instruction."""
        return self.other is not None and self._left >= 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode, and choose what stands first."""
        self._done_before = ()
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act, under the instruction that the newest observation showed."""
        stood = self.first_stands
        observation, reward, terminated, truncated, info = super().step(action)
        if stood and self.fulfilled and self._ask is not None:
            reward = self._ask()[str(self.other)]
        elif stood and info.get("done_before_given"):
            reward = 0.0
        if stood and self._tell_parts is not None:
            self._done_before = self._tell_parts()
        return observation, reward, terminated, truncated, info

    def judge(self, terminated: bool, truncated: bool, info: dict[str, Any]) -> tuple[bool, bool, dict[str, Any]]:
        """End the episode where the first instruction was done while it stood, or the second before it was given."""
        terminated, truncated, info = super().judge(terminated, truncated, info)
        if self.first_stands and self.fulfilled:
            return True, False, {**info, "is_success": True, "shown_success": True}
        if self.first_stands and terminated and info.get("is_success"):
            return False, True, {**info, "is_success": False, "done_before_given": True}
        return terminated, truncated, info

    def _parts_since_given(self) -> tuple[str, ...]:
        """Return which parts of the second instruction were done since it was given."""
        since = [] if self.first_stands or self._tell_parts is None else list(self._tell_parts())
        for part in self._done_before:
            if part in since:
                since.remove(part)
        return tuple(since)

    def _advise(self) -> int:
        if self.first_stands:
            raise ExpertError("The expert knows the second instruction only, and the first one still stands.")
        assert self._expert is not None
        return self._expert()
