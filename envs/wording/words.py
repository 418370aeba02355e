"""Words of a text: which there are, which stand for others, and a draw among options."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np

from heed.envs.babyai.grammar import COLORS, KINDS, PLACES, VERBS

Option = TypeVar("Option")

VOCABULARY = frozenset(" ".join((*COLORS, *KINDS, *PLACES, *VERBS, "a the next to then and after you")).split())
"""The words of BabyAI's grammar."""

SHORTEST_WITH_TYPO = 3
"""Letters of the shortest word that a typo may be in."""


def drawn(options: Sequence[Option], generator: np.random.Generator) -> Option:
    """Return one of the options, each as likely as the others."""
    return options[int(generator.integers(len(options)))]


def long_words(text: str) -> list[re.Match[str]]:
    """Return the words of a text that are long enough for a typo."""
    return list(re.finditer(rf"[^\W\d_]{{{SHORTEST_WITH_TYPO},}}", text))


def has_one(text: str, words: Collection[str]) -> bool:
    """Say whether a text has one of some words in it, as a whole word."""
    return any(re.search(rf"\b{re.escape(word)}\b", text) for word in words)


def replacer(names: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces whole words in a text, all at once, with the right "a" or "an" before them.

    Args:
        names: words, each with the one that stands for it.
    """
    if not names:
        return lambda text: text
    pattern = re.compile(rf"(?:\b(an?) )?\b({'|'.join(map(re.escape, names))})\b")

    def renamed(match: re.Match[str]) -> str:
        article, word = match.groups()
        name = names[word]
        return name if article is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"

    return functools.lru_cache(maxsize=10_000)(lambda text: pattern.sub(renamed, text))


def replaced(text: str, generator: np.random.Generator, others: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Return a text with the words of one kind, or of several, replaced by one each of those that stand for them.

    Args:
        text: such as an instruction.
        generator: of the draws, first of the kinds and then of the words.
        others: by kind, such as "colors": words, each with those that stand for it.
    """
    here = [kind for kind in others if has_one(text, others[kind])]
    ways = [[kind] for kind in here] + ([here] if len(here) > 1 else [])
    chosen_kinds = ways[int(generator.integers(len(ways)))] if ways else []
    chosen = {
        word: options[int(generator.integers(len(options)))]
        for kind in chosen_kinds
        for word, options in others[kind].items()
    }
    return replacer(chosen)(text)
