"""Phrases held out at training: instructions that name one are never given, and an evaluation gives only those.

"purple key" is held out of BabyAI-GoToLocal-v0 if no episode of the training says it. The agent then sees purple things
and keys, and is told of both, but never of a purple key; whether it can follow an instruction about one tells whether
it has learned the words or whole phrases. Its observations still name purple keys.

An episode whose instruction does not fit is drawn anew, from seeds that follow from the episode's own. So an episode is
the same for the same seed and actions, as everywhere in Heed, and a training resumes exactly.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from heed.envs.contract import fulfilled_instructions_of

HOLD_OUT = 0x401D
"""Sets the seeds that an episode is drawn anew from apart from whatever else its seed is used for."""

MOST_DRAWS = 10_000
"""Of one episode's instruction. A phrase of one in a thousand instructions is met within so many but once in 20 000."""


class HoldOutError(ValueError):
    """Phrases cannot be held out of an environment. The message says which and why."""


@functools.lru_cache(maxsize=256)
def _pattern(phrase: str) -> re.Pattern[str]:
    # In ASCII's sense of a letter, so that a phrase is found where a script writes no spaces.
    return re.compile(rf"(?<!\w){re.escape(phrase.strip())}(?!\w)", re.IGNORECASE | re.ASCII)


def names_one_of(phrases: Sequence[str], instruction: str) -> bool:
    """Say whether an instruction names one of the phrases, as whole words."""
    return any(_pattern(phrase).search(instruction) for phrase in phrases)


def checked_phrases(phrases: Sequence[str]) -> tuple[str, ...]:
    """Return `phrases` as a tuple.

    Raises:
        HoldOutError: if they are one string, or one is empty.
    """
    if isinstance(phrases, str):
        raise HoldOutError(f"The phrases to hold out are a list such as ['purple key'], not the text {phrases!r}.")
    for phrase in phrases:
        if not str(phrase).strip():
            raise HoldOutError(f"A phrase to hold out is some words such as 'purple key', not {phrase!r}.")
    return tuple(map(str, phrases))


class _DrawnAnew(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Draws episodes until the instruction names one of some phrases, or none of them.

    Args:
        env: a language environment.
        phrases: such as "purple key".
        named: whether the instruction is to name one.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], phrases: Sequence[str], *, named: bool):
        super().__init__(env)
        self.phrases = checked_phrases(phrases)
        self._named = named

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode whose instruction fits.

        Raises:
            HoldOutError: if none comes.
        """
        observation, info = self.env.reset(seed=seed, options=_copy(options))
        for draw in range(MOST_DRAWS):
            if names_one_of(self.phrases, observation["instruction"]) == self._named:
                return observation, info
            again = None if seed is None else _drawn_anew(seed, draw)
            observation, info = self.env.reset(seed=again, options=_copy(options))
        raise HoldOutError(
            f"{self._what()}: none of {MOST_DRAWS} instructions did, the last of them {observation['instruction']!r}."
        )

    def _what(self) -> str:
        return f"An instruction was to name {'one' if self._named else 'none'} of {', '.join(self.phrases)}"


class WithoutPhrases(_DrawnAnew):
    """Gives no instruction that names one of the phrases, and tells of none that was fulfilled beside it.

    Args:
        env: a language environment.
        phrases: such as "purple key".

    Raises:
        HoldOutError: if a phrase is empty.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], phrases: Sequence[str]):
        super().__init__(env, phrases, named=False)
        try:
            fulfilled = fulfilled_instructions_of(env)
        except ValueError:
            return

        def fulfilled_instructions() -> Mapping[str, float]:
            # Hindsight would else teach what is held out.
            return {words: reward for words, reward in fulfilled().items() if not names_one_of(self.phrases, words)}

        self.fulfilled_instructions = fulfilled_instructions


class OnlyWithPhrases(_DrawnAnew):
    """Gives only instructions that name one of the phrases; else as `WithoutPhrases`."""

    def __init__(self, env: gymnasium.Env[Any, Any], phrases: Sequence[str]):
        super().__init__(env, phrases, named=True)


def _copy(options: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if options is None else dict(options)  # an environment may take out of it what it has read


def _drawn_anew(seed: int, draw: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(HOLD_OUT, draw)).generate_state(1)[0])
