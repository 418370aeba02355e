"""From a text to its words, in segments.

A segment is what stands between two punctuation marks: a clause, an entry of a list, a line. What belongs together in
an observation, such as a thing and its place, mostly stands in one segment.

Languages that write no spaces, such as Chinese, Japanese and Thai, are cut by the sentence encoder's vocabulary.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from heed.policies.models.use import use_pieces

_ENDS = frozenset(";；\n.。,，、|!！")
"""What ends a segment and is no word."""

_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Characters of languages that write no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""

_WORD = re.compile(
    r"(?:(?<!\w)[-+])?\d+(?:\.\d+)?"  # a number: its unit, or a letter before it, stands apart
    rf"|[{_UNSPACED}]+"
    rf"|[^\W\d_{_UNSPACED}]+(?:['’][^\W\d_]{{1,2}}(?![^\W\d_]))?"  # "don't" is a word, "l'objet" are two
    r"|[:=?？<>()]"
    rf"|[{re.escape(''.join(_ENDS))}]"
)

_NO_SPACES = re.compile(rf"[{_UNSPACED}]")

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
"""A word that is a number."""


class Word(NamedTuple):
    """A word of a text."""

    text: str
    """In lower case."""
    segment: int
    """Which segment of the text it stands in, counted from 0."""
    place: int
    """In its segment."""
    start: int
    """Its first character in the text."""


def split(text: str) -> list[Word]:
    """Return the words of a text."""
    words: list[Word] = []
    segment = place = 0
    for match in _WORD.finditer(text):
        found, start = match.group(), match.start()
        if found in _ENDS:
            segment, place = (segment + 1, 0) if place else (segment, 0)
            continue
        for piece in use_pieces(found) if _NO_SPACES.match(found) else (found,):
            words.append(Word(piece.lower(), segment, place, start))
            place, start = place + 1, start + len(piece)
    return words


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return [word.text for word in split(text)]
