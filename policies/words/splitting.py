"""From a text to its words, in segments.

A segment is what stands between two punctuation marks: a clause, an entry of a list, a line. What belongs together in
an observation, such as a thing and its place, mostly stands in one segment.

Languages that write no spaces, such as Chinese, Japanese and Thai, are cut by the sentence encoder's vocabulary.
"""

from __future__ import annotations

import re

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

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
"""A word that is a number."""


def segments_of(text: str) -> list[list[str]]:
    """Return the words of a text in lower case, in segments; none where there are no words."""
    segments: list[list[str]] = [[]]
    for word in _WORD.findall(text.lower()):
        if word in _ENDS:
            if segments[-1]:
                segments.append([])
        elif re.match(rf"[{_UNSPACED}]", word):
            segments[-1] += use_pieces(word)
        else:
            segments[-1].append(word)
    return segments if segments[-1] else segments[:-1]


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return [word for segment in segments_of(text) for word in segment]
