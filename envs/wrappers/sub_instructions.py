"""A reward for each part of an instruction: "open the door, then pick up the ball" pays when the door is open.

The last part that is done brings nothing more: it is the success, which the environment rewards itself. Each part is
paid once in an episode, and only when its turn has come, so the sum is bounded by the parts but one.

This is no potential-based shaping (Ng, Harada and Russell 1999), which would leave the best policy what it was: who has
done a part keeps what it brought. With rewards that are small beside the success, and since a part that was paid is on
the way to it, that is seldom a matter; set it to 0 for the last of a training if it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium

from heed.envs.babyai.grammar import JOINTS
from heed.envs.contract import ContractError, fulfilled_instructions_of, method_of, number_of, require_language_env
from heed.envs.wrappers.asked_once import AskedOnce

Stages = tuple[tuple[str, ...], ...]
"""Parts in the order in which they are to be done; those of one stage in any order."""


def split_instruction(instruction: str) -> Stages:
    """Split at BabyAI's joints, the words ", then ", " after you " and " and ", whatever stands between them."""
    first, joint, second = instruction.partition(JOINTS["then"])
    if joint:
        return split_instruction(first) + split_instruction(second)
    first, joint, second = instruction.partition(JOINTS["after"])
    if joint:
        return split_instruction(second) + split_instruction(first)
    return (tuple(instruction.split(JOINTS["and"])),)


class SubInstructionRewards(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds a reward where a part of the instruction is done, but for the last one.

    On a step that did one, `info["fulfilled_parts"]` names what was done and `info["sub_instruction_reward"]` is what
    was added. Success stays the environment's.

    An environment that offers `fulfilled_parts` is asked, as BabyAI's levels, whose own verifiers then decide. Of any
    other the instruction is split, and `fulfilled_instructions` tells what was done. If that tells an instruction only
    once in an episode, a part that was done before its turn brings nothing later.

    Args:
        env: a language environment with `fulfilled_parts` or `fulfilled_instructions`.
        reward: for each part.
        split: of an instruction into the stages of its parts; not asked where the environment offers `fulfilled_parts`.

    Raises:
        ContractError: if the environment tells neither, or breaks the static part of the language contract.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        reward: float = 0.1,
        *,
        split: Callable[[str], Sequence[Sequence[str]]] = split_instruction,
    ):
        require_language_env(env)
        own: Callable[[], tuple[str, ...]] | None = method_of(env, "fulfilled_parts")
        tells = method_of(env, "fulfilled_instructions") is not None
        if own is None and not tells:
            raise ContractError(
                f"{env} does not tell which parts of an instruction are done: give it a method "
                "`fulfilled_instructions()` or `fulfilled_parts()`, as the page on environments says."
            )
        super().__init__(AskedOnce(env) if tells else env)
        self.reward = reward
        self._parts: _OwnParts | _SplitParts = (
            _OwnParts(own) if own is not None else _SplitParts(fulfilled_instructions_of(self.env), split)
        )
        self._instruction = ""
        self._paid_now = False  # with the last step
        self._paid_before = False  # with an earlier one
        if tells:
            self.fulfilled_instructions = self._tell_before_paid

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode, in which nothing is done."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._begin(observation["instruction"])
        self._paid_before = self._paid_now = False
        return observation, info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act, and add what the parts that are done now bring."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._paid_before = self._paid_before or self._paid_now
        done = self._parts.done_now()
        # What ends the episode with success is paid by the environment, also where it was two parts at once.
        self._paid_now = bool(done) and not (terminated and info.get("is_success"))
        if self._paid_now:
            added = self.reward * len(done)
            reward = number_of(reward) + added
            info = {**info, "fulfilled_parts": done, "sub_instruction_reward": added}
        if observation["instruction"] != self._instruction:
            self._begin(observation["instruction"])
        return observation, reward, terminated, truncated, info

    def _begin(self, instruction: str) -> None:
        self._instruction = instruction
        self._parts.begin(instruction)

    def _tell_before_paid(self) -> Mapping[str, float]:
        """Return what was fulfilled, unless rewards came that other instructions would not have brought."""
        return {} if self._paid_before else fulfilled_instructions_of(self.env)()


class _OwnParts:
    """Parts that the environment tells itself."""

    def __init__(self, tell: Callable[[], tuple[str, ...]]):
        self._tell = tell
        self._before: list[str] = []

    def begin(self, instruction: str) -> None:
        self._before = list(self._tell())

    def done_now(self) -> tuple[str, ...]:
        """Return the parts that the last step did; two may have the same words."""
        told = list(self._tell())
        new = list(told)
        for part in self._before:
            if part in new:
                new.remove(part)
        self._before = told
        return tuple(new)


class _SplitParts:
    """Parts that come from splitting the instruction, each told of as an instruction of its own."""

    def __init__(self, tell: Callable[[], Mapping[str, float]], split: Callable[[str], Sequence[Sequence[str]]]):
        self._tell = tell
        self._split = split
        self._stages: list[list[str]] = []

    def begin(self, instruction: str) -> None:
        self._tell()  # it wants to be asked at the beginning as well
        self._stages = [list(stage) for stage in self._split(instruction)]

    def done_now(self) -> tuple[str, ...]:
        """Return the parts that the last step did, of stages that had their turn."""
        told, done = self._tell(), []
        while self._stages:
            now = [part for part in dict.fromkeys(self._stages[0]) if part in told]
            for part in now:
                self._stages[0].remove(part)
            done += now
            if self._stages[0]:
                break
            self._stages.pop(0)
        return tuple(done)
