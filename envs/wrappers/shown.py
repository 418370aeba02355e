"""Wrappers that show another instruction than the true one, and tell through `info` which is which.

Each draws what it draws from the episode's own seed. A step costs two small dictionaries; what an episode has fulfilled
is asked for only around instructions of which that is to be told.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from heed.envs.contract import (
    SAID_CANNOT_BE_DONE,
    ContractError,
    ExpertError,
    action_texts_of,
    can_be_told,
    expert_of,
    fulfilled_instructions_of,
    impossible_instructions_of,
)
from heed.envs.hold_out import hold_out_of
from heed.envs.wording.pairs import is_kept_for_evaluations

Observation = dict[str, Any]
Reword = Callable[[str, np.random.Generator], str]
"""Returns an instruction in other words; what it draws comes from the generator."""


def generator_of(seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of an episode's draws for one purpose, unrelated to those for others.

    The environment draws its world from a generator with the very seed: another must not draw the same.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()),)))


class ShownInstruction(gymnasium.Wrapper[Any, Any, Any, Any], ABC):
    """Shows an instruction in place of the true one.

    `info["instruction"]` and `info["shown"]` are on the first and the last step of every episode.

    Args:
        env: a language environment.
        purpose: sets the draws apart from others of the same seed; an axis's name.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, purpose: str):
        super().__init__(env)
        self.true = ""
        """The running episode's true instruction."""
        self.shown = ""
        """What is shown in its place, or beside it."""
        self.generator = np.random.default_rng()
        self._purpose = purpose

    @abstractmethod
    def choose(self, true: str) -> str:
        """Return what is shown in the episode that begins, with the draws of `self.generator`."""

    def see(self, observation: Observation) -> Observation:
        """Return an observation as the agent sees it."""
        return {**observation, "instruction": self.shown}

    def judge(self, terminated: bool, truncated: bool, info: dict[str, Any]) -> tuple[bool, bool, dict[str, Any]]:
        """Return the end of a step, with what is to be told of it."""
        return terminated, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode and choose what is shown, by the episode's own seed."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self.generator = generator_of(seed, self._purpose)
        self.true = observation["instruction"]
        self.shown = self.choose(self.true)
        return self.see(observation), {**info, "instruction": self.true, "shown": self.shown}

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Act, and go on showing it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        terminated, truncated, info = self.judge(terminated, truncated, info)
        if terminated or truncated:
            info = {**info, "instruction": self.true, "shown": self.shown}
        return self.see(observation), reward, terminated, truncated, info


class Reworded(ShownInstruction):
    """Shows the true instruction in other words, and again where it changes within the episode."""

    def __init__(self, env: gymnasium.Env[Any, Any], reword: Reword, *, purpose: str):
        super().__init__(env, purpose=purpose)
        self._reword = reword

    def choose(self, true: str) -> str:
        """Return it in other words."""
        return self._reword(true, self.generator)

    def see(self, observation: Observation) -> Observation:
        """Return the observation with the instruction in other words."""
        if observation["instruction"] != self.true:
            self.true = observation["instruction"]
            self.shown = self.choose(self.true)
        return super().see(observation)


class RenamedWordsEverywhere(Reworded):
    """Shows instruction, observation and the actions that it lists with the same words renamed."""

    def __init__(self, env: gymnasium.Env[Any, Any], rename: Callable[[str], str], *, purpose: str):
        super().__init__(env, lambda words, _: rename(words), purpose=purpose)
        self._rename = rename

    @property
    def listed_action_texts(self) -> tuple[str, ...] | None:
        """Fixed action texts as a mixture of levels with different actions lists them."""
        texts = action_texts_of(self.env)
        return None if texts is None else self._renamed(texts)

    def see(self, observation: Observation) -> Observation:
        """Return all of them in other words.

        Raises:
            ContractError: if two actions would be called alike.
        """
        renamed = {**super().see(observation), "observation": self._rename(observation["observation"])}
        if "actions" in observation:
            renamed["actions"] = self._renamed(observation["actions"])
        return renamed

    def _renamed(self, texts: Sequence[str]) -> tuple[str, ...]:
        renamed = tuple(map(self._rename, texts))
        if len(set(renamed)) < len(renamed):
            raise ContractError(
                f"With other names two actions would be called alike: {list(renamed)}. Give words names that the "
                "environment does not use."
            )
        return renamed


class OtherInstruction(ShownInstruction):
    """Knows another instruction beside the true one, and where it can tell, whether that was fulfilled.

    The other one is drawn from those that can be done in this very world, where the environment lists them, and else
    from a pool; of one from a pool nothing is told.

    Args:
        env: a language environment.
        pool: instructions of the same level; those equal to the episode's own are passed over.
        purpose: as in `ShownInstruction`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], pool: Sequence[str], *, purpose: str):
        super().__init__(env, purpose=purpose)
        self.other: str | None = None
        """The other instruction, or None where this world has none and the pool neither."""
        self.fulfilled: bool | None = None
        """Whether it was fulfilled in this episode up to now; None where that cannot be told."""
        self._hold_out = hold_out_of(env)
        self._pool = sorted(set(self._hold_out.allowed(pool)))
        self._possible = can_be_told(env)
        self._ask: Callable[[], Mapping[str, float]] | None = fulfilled_instructions_of(env) if self._possible else None

    def choose(self, true: str) -> str:
        """Draw the other instruction, and show it."""
        listed = self._hold_out.allowed(self._possible()) if self._possible else ()
        possible = self.fitting(true, list(listed))
        others = possible or [words for words in self._pool if words != true]
        self.other = others[int(self.generator.integers(len(others)))] if others else None
        self.fulfilled = False if possible else None
        if self.fulfilled is not None and self._ask is not None:
            self._ask()  # it wants to be asked at the beginning as well
        return true if self.other is None else self.show(true, self.other)

    def fitting(self, true: str, listed: Sequence[str]) -> list[str]:
        """Return those of the instructions that can be done from which the other one is drawn."""
        # What is a part of the true one ("..., then ...") would be right to do.
        return [words for words in listed if words not in true]

    def show(self, true: str, other: str) -> str:
        """Return what is shown of the two."""
        return other

    def judge(self, terminated: bool, truncated: bool, info: dict[str, Any]) -> tuple[bool, bool, dict[str, Any]]:
        """See whether the step fulfilled the other instruction; tell it when the episode ends."""
        if self.fulfilled is False and self._ask is not None:
            self.fulfilled = self.other in self._ask()
        if (terminated or truncated) and self.fulfilled is not None:
            info = {**info, "shown_success": self.fulfilled}
        return terminated, truncated, info


class EitherInstruction(OtherInstruction):
    """Shows the other instruction; the episode ends as soon as either is fulfilled."""

    def judge(self, terminated: bool, truncated: bool, info: dict[str, Any]) -> tuple[bool, bool, dict[str, Any]]:
        """End the episode where the other instruction was fulfilled."""
        terminated, truncated, info = super().judge(terminated, truncated, info)
        if self.fulfilled and not terminated:
            terminated, truncated, info = True, False, {"is_success": False, **info, "shown_success": True}
        return terminated, truncated, info


class InjectedInstruction(EitherInstruction):
    """Shows the true instruction, and the other one as a text within every observation."""

    def __init__(self, env: gymnasium.Env[Any, Any], pool: Sequence[str], *, text: str, purpose: str):
        super().__init__(env, pool, purpose=purpose)
        self._text = text

    def see(self, observation: Observation) -> Observation:
        """Return the observation with the text before it: the end of a long one may be cut from the prompt."""
        if self.other is None:
            return dict(observation)
        text = self._text.format(instruction=self.other)
        return {**observation, "observation": f"{text}; {observation['observation']}"}


class ChangingInstruction(OtherInstruction):
    """Shows the other instruction first, and the true one after some steps."""

    def __init__(self, env: gymnasium.Env[Any, Any], pool: Sequence[str], *, after: Sequence[int], purpose: str):
        super().__init__(env, pool, purpose=purpose)
        self._after = after
        self._left = 0  # observations that still show the other one

    def choose(self, true: str) -> str:
        """Draw the other instruction, and for how many steps it stands."""
        shown = super().choose(true)
        self._left = int(self.generator.integers(self._after[0], self._after[1] + 1))
        return shown

    def see(self, observation: Observation) -> Observation:
        """Return the observation with the instruction that stands now."""
        self._left -= 1
        return super().see(observation) if self._left >= 0 else dict(observation)


class LongerInstruction(OtherInstruction):
    """Shows another instruction to be followed first, and then the true one; success is both in this order.

    Args:
        env: a language environment.
        form: of the sentence, with places for `{first}` and `{second}`.
        anew: show only pairs that no training puts together (`heed.envs.wording.pairs`), and in a world without such a
            pair the true instruction alone.
        purpose: as in `ShownInstruction`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, form: str, anew: bool = True, purpose: str):
        super().__init__(env, (), purpose=purpose)
        self._anew = anew
        self._form = form
        if expert_of(env) is not None:
            self.expert_action = self._refuse_to_advise

    def fitting(self, true: str, listed: Sequence[str]) -> list[str]:
        """Return those that make a new pair, or all."""
        possible = super().fitting(true, listed)
        return [words for words in possible if not self._anew or is_kept_for_evaluations(true, words)]

    def show(self, true: str, other: str) -> str:
        """Return both in one sentence."""
        return self._form.format(first=other, second=true)

    def judge(self, terminated: bool, truncated: bool, info: dict[str, Any]) -> tuple[bool, bool, dict[str, Any]]:
        """Count the true instruction only if the first one was fulfilled before."""
        terminated, truncated, info = super().judge(terminated, truncated, info)
        if (terminated or truncated) and self.fulfilled is not None:
            info = {**info, "is_success": bool(info["is_success"] and self.fulfilled)}
        return terminated, truncated, info

    def _refuse_to_advise(self) -> int:
        raise ExpertError("The expert knows of the true instruction only, not of the one that comes before it.")


class ImpossibleInstruction(ShownInstruction):
    """Shows an instruction about something that this world does not hold; nobody fulfils it.

    Where the agent can say that it cannot be done (`heed.envs.CannotBeDone`), that is success, and nothing else is.

    Args:
        env: a language environment.
        pool: instructions of the level, where the environment does not list impossible ones itself: one that is not
            possible is shown.
        purpose: as in `ShownInstruction`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], pool: Sequence[str], *, purpose: str):
        super().__init__(env, purpose=purpose)
        self._hold_out = hold_out_of(env)
        self._pool = sorted(set(self._hold_out.allowed(pool)))
        self._impossible = impossible_instructions_of(env)
        self._possible = can_be_told(env)
        self._is_known = False

    def choose(self, true: str) -> str:
        """Draw an impossible instruction, or show the true one where everything is possible."""
        if self._impossible is not None:
            impossible = list(self._hold_out.allowed(self._impossible()))
        else:
            possible = {true, *(self._possible() if self._possible else self._pool)}
            impossible = [words for words in self._pool if words not in possible]
        self._is_known = bool(impossible)
        return impossible[int(self.generator.integers(len(impossible)))] if impossible else true

    def judge(self, terminated: bool, truncated: bool, info: dict[str, Any]) -> tuple[bool, bool, dict[str, Any]]:
        """Tell that what was shown was not fulfilled, and whether the agent said so, where it could."""
        if (terminated or truncated) and self._is_known:
            info = {**info, "shown_success": False}
            if SAID_CANNOT_BE_DONE in info:
                info["is_success"] = bool(info[SAID_CANNOT_BE_DONE])
        return terminated, truncated, info
