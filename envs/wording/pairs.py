"""Which two parts of an instruction a training puts together, and which only an evaluation does."""

from __future__ import annotations

import re
import zlib

_ARTICLE = re.compile(r"\b(a|an|the) ")


def is_kept_for_evaluations(one: str, other: str) -> bool:
    """Say whether two parts are never put together in training, whatever their order: about two thirds of all pairs.

    Which article a part has does not matter: "go to a ball" and "go to the ball" are one part.

    Args:
        one: an instruction without parts, such as "go to the ball".
        other: another.
    """
    pair = "\n".join(sorted(_ARTICLE.sub("", part.casefold()) for part in (one, other)))
    return zlib.crc32(pair.encode()) % 3 > 0
