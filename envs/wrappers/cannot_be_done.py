"""An action to say that an instruction cannot be done, and instructions of which that is true.

"Go to the red ball" in a room without one: an agent that can only act has to wander until its time is over. With this
wrapper it has one action more, which ends the episode and is success where nothing else could be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs.contract import (
    SAID_CANNOT_BE_DONE,
    ChangingActions,
    ContractError,
    action_texts_of,
    expert_of,
    fulfilled_instructions_of,
    impossible_instructions_of,
    language_space,
    method_of,
    require_language_env,
)
from heed.envs.hold_out import hold_out_of
from heed.envs.wrappers.shown import ShownInstruction

CANNOT_BE_DONE = "this cannot be done"
"""The text of the action."""
DONE = "done"
"""An action of the environment by this text says that the instruction is done."""


class CannotBeDone(ShownInstruction):
    """Adds an action to say that the instruction cannot be done, and gives some episodes such an instruction.

    - The action is the last one, "this cannot be done"; where actions change, the last that an observation lists. It
      ends the episode without a step of the environment.
    - Where the environment has an action "done", that ends the episode too: it says that the instruction is done.
      Whether it is, the environment says as of any step.
    - In an episode whose instruction cannot be done, success is to say so, and brings `reward`. The environment's own
      rewards and successes are of an instruction that nobody was given, and count for nothing.
    - In any other, to say so is a failure. What is said and not true costs `penalty`.

    `info["said_cannot_be_done"]`, on the last step of every episode, is whether the agent said so.

    Args:
        env: a language environment with actions to choose one from; with a `share` of such episodes it lists them
            itself (`impossible_instructions`).
        share: of the episodes, drawn by their seed, that get an instruction which cannot be done. With 0 it is only
            the action that is added.
        reward: for saying so where it is true.
        penalty: for saying so where it is not, and for saying "done" where it is not.

    Raises:
        ContractError: if the environment lists no such instructions, has no actions to choose from, has an action of
            this text already, or breaks the static part of the language contract.
        ValueError: if `share` is none.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], share: float = 0.15, *, reward: float = 1.0, penalty: float = 0.5):
        require_language_env(env)
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}, but must be between 0 and 1.")
        if not isinstance(env.action_space, spaces.Discrete):
            raise ContractError(f"{env} has no actions to choose one from, to which one could be added.")
        self._impossible = impossible_instructions_of(env)
        if share and self._impossible is None:
            raise ContractError(
                f"{env} does not tell what cannot be done in an episode's world: give it a method "
                "`impossible_instructions()`, as the page on environments says."
            )
        super().__init__(env, purpose="cannot-be-done")
        self.share, self._reward, self._penalty = share, reward, penalty
        self.is_impossible = False
        """Whether the running episode's instruction cannot be done."""
        self._hold_out = hold_out_of(env)
        texts = action_texts_of(env)
        self._changing = isinstance(env.action_space, ChangingActions)
        if self._changing:
            assert isinstance(env.observation_space, spaces.Dict)
            beside = {key: part for key, part in env.observation_space.spaces.items() if key != "actions"}
            self.observation_space = language_space(changing_actions=True, **beside)
            self.action_space = ChangingActions(int(env.action_space.n) + 1)
        else:
            assert texts is not None  # the contract
            self._require_free(texts)
            self.action_space = spaces.Discrete(int(env.action_space.n) + 1)
            self.action_texts = (*texts, CANNOT_BE_DONE)
        self._texts: tuple[str, ...] = texts or ()  # of the environment's actions now
        self._last: dict[str, Any] = {}  # observation of the environment
        self._begun: dict[str, Any] = {}  # info of the reset
        self._said = False
        self._expert = expert_of(env)
        if self._expert is not None:
            self.expert_action = self._advise
        if method_of(env, "fulfilled_instructions") is not None:
            self._ask = fulfilled_instructions_of(env)
            self.fulfilled_instructions = self._tell_before_said

    def choose(self, true: str) -> str:
        """Draw whether the instruction cannot be done, and which that is."""
        self.is_impossible = False
        if not self.share or self._impossible is None or self.generator.random() >= self.share:
            return true
        listed = self._hold_out.allowed(self._impossible())
        if not listed:
            return true
        self.is_impossible = True
        return listed[int(self.generator.integers(len(listed)))]

    def see(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Return the observation with the instruction, and the action among those that there are."""
        self._last = observation
        seen = super().see(observation) if self.is_impossible else dict(observation)
        if self._changing:
            self._texts = observation["actions"]
            self._require_free(self._texts)
            seen["actions"] = (*self._texts, CANNOT_BE_DONE)
        return seen

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode."""
        self._said = False
        observation, self._begun = super().reset(seed=seed, options=options)
        return observation, self._begun

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act, or say that it cannot be done."""
        number = int(action)
        if number == len(self._texts):
            self._said = True
            reward = self._reward if self.is_impossible else -self._penalty
            # What was told at the beginning is what the episode is about, such as a mixture's level.
            info = {**self._begun, "is_success": self.is_impossible, SAID_CANNOT_BE_DONE: True}
            return self.see(self._last), reward, True, False, info
        says_done = 0 <= number < len(self._texts) and self._texts[number] == DONE
        observation, reward, terminated, truncated, info = super().step(action)
        if self.is_impossible:
            reward = 0.0
        if says_done and not (terminated or truncated):
            terminated = True
            info = {**info, "is_success": bool(info.get("is_success", False))}
            if self.is_impossible or not info["is_success"]:
                reward = -self._penalty
        if terminated or truncated:
            info = {**info, "instruction": self.true, "shown": self.shown, SAID_CANNOT_BE_DONE: False}
            if self.is_impossible:
                info["is_success"] = False
        return observation, reward, terminated, truncated, info

    def _require_free(self, texts: tuple[str, ...]) -> None:
        if CANNOT_BE_DONE in texts:
            raise ContractError(f"{self.env} has an action {CANNOT_BE_DONE!r} of its own: none can be added.")

    def _advise(self) -> int:
        """Return the environment's expert's action, or that it cannot be done: an expert need not look for that."""
        if self.is_impossible:
            return len(self._texts)
        assert self._expert is not None
        return self._expert()

    def _tell_before_said(self) -> Mapping[str, float]:
        """Return what the last step fulfilled: to say something fulfils nothing."""
        return {} if self._said else self._ask()
