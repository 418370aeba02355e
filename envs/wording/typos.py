"""Typos of a keyboard: the key beside the right one, one key more, a digit that looks alike, a space within a word.

An evaluation swaps, drops and doubles letters (`heed.evaluation.axes.wording`): none of its typos is one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from heed.envs.wording.words import drawn, long_words

SHARE = 0.4
"""Of the words that are long enough, how many get a typo on average; at least one does."""

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_LOOK_ALIKE = {"o": "0", "l": "1", "e": "3", "s": "5", "b": "8"}


def _keys_beside(letter: str) -> str:
    """Return the keys beside a letter's in its row."""
    for row in _ROWS:
        place = row.find(letter)
        if place >= 0:
            return row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
    return ""


def mistyped(word: str, generator: np.random.Generator, *, valid: Collection[str]) -> str:
    """Return a word with one typo; as it is where it has no letter of the keyboard.

    Args:
        word: of two letters at least.
        generator: of the draw among all such typos.
        valid: words in lower case that are not to come out.
    """
    ways = [way for way in typos_of(word, valid) if way]
    return drawn(drawn(ways, generator), generator) if ways else word


def typos_of(word: str, valid: Collection[str]) -> list[list[str]]:
    """Return all typos of a word, those of each kind sorted."""
    beside = [_keys_beside(letter.lower()) for letter in word]
    other_key = {word[:i] + key + word[i + 1 :] for i in range(len(word)) for key in beside[i]}
    one_more = {
        word[: i + 1] + key + word[i + 1 :]
        for i in range(len(word))
        for key in beside[i]
        if key not in word[i : i + 2].lower()  # that would be a letter doubled
    }
    look_alike = {
        word[:i] + _LOOK_ALIKE[word[i].lower()] + word[i + 1 :]
        for i in range(len(word))
        if word[i].lower() in _LOOK_ALIKE
    }
    split = {f"{word[:i]} {word[i:]}" for i in range(1, len(word))}
    return [
        sorted(typo for typo in kind if not any(part in valid for part in typo.lower().split()))
        for kind in (other_key, one_more, look_alike, split)
    ]


def with_typos(
    text: str,
    generator: np.random.Generator,
    *,
    share: float,
    mistype: Callable[[str, np.random.Generator], str],
) -> str:
    """Return a text with typos in some of its words of three letters and more; one of shorter words stays.

    Args:
        text: such as an instruction.
        generator: of the draws.
        share: of the words, how many get one on average; at least one does.
        mistype: returns a word with a typo.
    """
    words = long_words(text)
    if not words:
        return text
    chosen = [match for match in words if generator.random() < share]
    chosen = chosen or [words[int(generator.integers(len(words)))]]
    for match in reversed(chosen):
        text = f"{text[: match.start()]}{mistype(match.group(), generator)}{text[match.end() :]}"
    return text
