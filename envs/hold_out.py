"""Phrases held out at training: no words that the agent is told name one, and an evaluation gives only those.

"purple key" is held out of BabyAI-GoToLocal-v0 if no episode of the training says it. The agent then sees purple things
and keys, and is told of both, but never of a purple key; whether it can follow an instruction about one tells whether
it has learned the words or whole phrases. The hold-out is about what the agent is *told*: observations and action texts
still name purple keys, and so do the transcripts of `History`, which are made of these.

`HoldOut` is the one filter, and an environment that has one says so (`hold_out_of`). Whatever chooses an instruction
asks it: `WithoutPhrases` around each level for the level's own, `Instructions` for its tasks, the wrappers of
`heed.envs.wrappers.shown` for those that they show; recorded demonstrations go through `HoldOut.demonstrations`. Around
each of a training's wrappers stands another `WithoutPhrases`, so that one that knows nothing of this cannot show a
phrase either.

An episode whose instruction does not fit is drawn anew, from seeds that follow from the episode's own. So an episode is
the same for the same seed and actions, as everywhere in Heed, and a training resumes exactly.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import gymnasium

from heed.envs.contract import OPTIONAL_METHODS, method_of
from heed.envs.seeds import seed_drawn_anew

HOLD_OUT = 0x401D
"""Sets the seeds that an episode is drawn anew from apart from whatever else its seed is used for."""

MOST_DRAWS = 10_000
"""Of one episode's instruction. A phrase of one in a thousand instructions is met within so many but once in 20 000."""

TELLING_METHODS = tuple(name for name in OPTIONAL_METHODS if name != "expert_action")
"""What an environment may offer that speaks of instructions."""


class HoldOutError(ValueError):
    """Phrases cannot be held out of an environment. The message says which and why."""


class Instructed(Protocol):
    """What has an instruction, such as a demonstration."""

    @property
    def instruction(self) -> str:
        """What was to be done."""


Told = TypeVar("Told", bound=Instructed)


@dataclass(frozen=True)
class HoldOut:
    """The filter that all instructions of a training go through. An empty one lets everything pass.

    Raises:
        HoldOutError: if the phrases are one string, or one is empty.
    """

    phrases: tuple[str, ...] = ()
    """Such as "purple key"."""

    def __post_init__(self) -> None:
        """Refuse what are no phrases."""
        object.__setattr__(self, "phrases", checked_phrases(self.phrases))

    def __bool__(self) -> bool:
        return bool(self.phrases)

    def names(self, words: str) -> bool:
        """Say whether some words name one of the phrases."""
        return bool(self.phrases) and names_one_of(self.phrases, words)

    def allowed(self, instructions: Iterable[str]) -> tuple[str, ...]:
        """Return those of some instructions that name none."""
        return tuple(words for words in instructions if not self.names(words))

    def demonstrations(self, episodes: Sequence[Told]) -> list[Told]:
        """Return those of some episodes whose instruction names none."""
        return [episode for episode in episodes if not self.names(episode.instruction)]


@functools.lru_cache(maxsize=256)
def _pattern(phrase: str) -> re.Pattern[str]:
    # In ASCII's sense of a letter, so that a phrase is found where a script writes no spaces.
    words = r"\s+".join(map(re.escape, _plain(phrase).split()))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.ASCII)


def _plain(text: str) -> str:
    """Return a text as it is compared: without regard to capitals, and to how a letter with its accent is stored."""
    return unicodedata.normalize("NFC", text).casefold()


def names_one_of(phrases: Sequence[str], instruction: str) -> bool:
    """Say whether an instruction names one of the phrases, as whole words, whatever space is between them."""
    plain = _plain(instruction)
    return any(_pattern(phrase).search(plain) for phrase in phrases)


def checked_phrases(phrases: Sequence[Any]) -> tuple[str, ...]:
    """Return `phrases` as a tuple.

    Raises:
        HoldOutError: if they are one string, or one is empty.
    """
    if isinstance(phrases, str):
        raise HoldOutError(f"The phrases to hold out are a list such as ['purple key'], not the text {phrases!r}.")
    for phrase in phrases:
        if not isinstance(phrase, str) or not phrase.strip():
            raise HoldOutError(f"A phrase to hold out is some words such as 'purple key', not {phrase!r}.")
    return tuple(phrases)


NOTHING = HoldOut()
"""Holds nothing out."""


def hold_out_of(*envs: gymnasium.Env[Any, Any]) -> HoldOut:
    """Return what is held out of environments: all that one of them, or a wrapper around it, holds out."""
    found = [phrase for env in envs for phrase in (method_of(env, "hold_out") or NOTHING).phrases]
    return HoldOut(tuple(dict.fromkeys(found))) if found else NOTHING


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
            again = None if seed is None else seed_drawn_anew(seed, HOLD_OUT, draw)
            observation, info = self.env.reset(seed=again, options=_copy(options))
        raise HoldOutError(
            f"{self._what()}: none of {MOST_DRAWS} instructions did, the last of them {observation['instruction']!r}."
        )

    def _what(self) -> str:
        return f"An instruction was to name {'one' if self._named else 'none'} of {', '.join(self.phrases)}"


class WithoutPhrases(_DrawnAnew):
    """Tells of nothing that names one of the phrases, in any way in which an environment can tell of instructions.

    - An episode whose instruction names one is drawn anew.
    - Where the instruction of a running episode becomes such a one, the episode ends there, truncated and without
      success (`info["held_out"]`), and its last observation still shows the instruction before.
    - What the environment lists, of instructions that are possible, impossible, fulfilled, or parts of its own, is
      without them: hindsight would else teach what is held out, and a wrapper show it.

    Args:
        env: a language environment.
        phrases: such as "purple key".

    Raises:
        HoldOutError: if a phrase is empty.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], phrases: Sequence[str]):
        super().__init__(env, phrases, named=False)
        self.hold_out = HoldOut(self.phrases)
        self._shown = ""
        for name in TELLING_METHODS:
            tell = method_of(env, name)
            if tell is not None:
                setattr(self, name, functools.partial(self._tell, tell))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode whose instruction names none.

        Raises:
            HoldOutError: if none comes.
        """
        observation, info = super().reset(seed=seed, options=options)
        self._shown = observation["instruction"]
        return observation, info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act; end the episode where it would go on with an instruction that names one."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        instruction = observation["instruction"]
        if instruction == self._shown:
            return observation, reward, terminated, truncated, info
        if not self.hold_out.names(instruction):
            self._shown = instruction
            return observation, reward, terminated, truncated, info
        observation = {**observation, "instruction": self._shown}
        if not (terminated or truncated):
            truncated, info = True, {**info, "is_success": False, "held_out": True}
        return observation, reward, terminated, truncated, info

    def _tell(self, tell: Any) -> Any:
        told = tell()
        if isinstance(told, Mapping):
            return {words: reward for words, reward in told.items() if not self.hold_out.names(words)}
        return self.hold_out.allowed(told)


class OnlyWithPhrases(_DrawnAnew):
    """Gives only instructions that name one of the phrases; else as `WithoutPhrases`."""

    def __init__(self, env: gymnasium.Env[Any, Any], phrases: Sequence[str]):
        super().__init__(env, phrases, named=True)


def _copy(options: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if options is None else dict(options)  # an environment may take out of it what it has read
