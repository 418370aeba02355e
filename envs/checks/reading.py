"""Checks of what a language model's tokenizer makes of the words.

`heed.envs` knows no language model: who has one gives a `Reader`, as `heed check-env` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gymnasium import spaces

from heed.envs.checks.check import Check, failed, passed, short
from heed.envs.checks.playing import Episode

LONGEST = 100
"""Of so many of the longest observations the tokens are counted."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How a language model reads."""

    name: str
    action_tokens: Callable[[str], Sequence[int]]
    """The tokens of an action's text, as it follows a prompt."""
    text: Callable[[Sequence[int]], str]
    """The text of tokens."""
    prompt_tokens: Callable[[str, str], Sequence[int]]
    """The tokens of the prompt with an instruction and an observation, however many they are."""
    max_prompt_tokens: int
    """How long a prompt may be."""
    unread_keys: Callable[[spaces.Dict], Sequence[str]]
    """The keys of observations that no policy reads."""


def check_keys(reader: Reader, space: spaces.Dict) -> Check:
    """Check whether a policy sees all that observations hold."""
    unread = reader.unread_keys(space)
    note = ""
    if unread:
        note = (
            f"A policy does not see what is under {', '.join(unread)}: put it into words, or register a modality "
            "(heed.policies.register_modality)."
        )
    return passed("all of an observation is read", f"the keys {', '.join(space.spaces)}", note=note)


def check_tokens(reader: Reader, action_texts: Sequence[str] | None, played: Sequence[Episode]) -> Iterator[Check]:
    """Check what a language model can tell apart, and whether it reads all that is said.

    Args:
        reader: the language model's.
        action_texts: of an environment that has the same actions everywhere.
        played: episodes.
    """
    lists = [tuple(action_texts)] if action_texts else sorted({one for episode in played for one in episode.actions})
    if lists:
        yield _check_action_tokens(reader, lists)
    yield _check_prompts(reader, played)


def _check_action_tokens(reader: Reader, lists: Sequence[tuple[str, ...]]) -> Check:
    name = "action texts differ as tokens"
    tokens = {text: tuple(reader.action_tokens(text)) for text in sorted({text for one in lists for text in one})}
    for texts in lists:
        first: dict[tuple[int, ...], str] = {}
        for text in texts:
            same = first.setdefault(tokens[text], text)
            if same != text:
                return failed(
                    name,
                    f"{same!r} and {text!r} are the same tokens to {reader.name}",
                    "Choose words that differ in more than case, spaces or signs that it does not know.",
                )
    lengths = [len(one) for one in tokens.values()]
    return passed(
        name,
        f"{len(tokens)} texts of {min(lengths)} to {max(lengths)} tokens of {reader.name}",
        note=_lost(reader, {text: tokens[text] for text in tokens}),
    )


def _lost(reader: Reader, tokens: dict[str, tuple[int, ...]]) -> str:
    """Return a note where tokens do not hold all characters of their text."""
    for text, ids in tokens.items():
        lost = sorted({sign for sign in text if not sign.isspace()} - set(reader.text(ids)))
        if lost:
            return f"{reader.name} does not see {', '.join(map(repr, lost[:5]))}, as in {short(text)}."
    return ""


def _check_prompts(reader: Reader, played: Sequence[Episode]) -> Check:
    name = "prompts fit"
    said = sorted({words for episode in played for words in episode.words}, key=lambda words: sum(map(len, words)))
    longest = {words: tuple(reader.prompt_tokens(*words)) for words in said[-LONGEST:]}
    bare = max(len(reader.prompt_tokens(instruction, "")) for instruction, _ in longest)
    most = max(map(len, longest.values()))
    detail = f"up to {most} tokens of {reader.name}, where {reader.max_prompt_tokens} are read"
    if bare > reader.max_prompt_tokens:
        fix = "Shorten the instruction, or raise --max-prompt-tokens."
        return failed(name, f"{detail}; an instruction alone needs {bare}", fix)
    if most > reader.max_prompt_tokens:
        note = f"The end of long observations is cut off: train with --max-prompt-tokens {most}, or say it shorter."
        return passed(name, detail, note=note)
    texts = {f"{instruction} {observation}": longest[instruction, observation] for instruction, observation in longest}
    return passed(name, detail, note=_lost(reader, texts))
