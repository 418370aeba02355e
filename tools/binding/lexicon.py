"""Words of WordNet (Fellbaum 1998), some of which are held out from pretraining.

The files `index.noun`, `data.noun` and so on are those of WordNet's own distribution: Debian's `wordnet-base`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["noun", "adj", "verb"]
Split = Literal["train", "held out"]

SHORTEST, LONGEST = 3, 11
"""Letters of a word."""

ONE_IN = 10
"""One word in so many is held out, by its letters."""


class Synset(NamedTuple):
    """Words of one meaning."""

    words: tuple[str, ...]
    above: tuple[str, ...]
    """Keys of more general meanings."""


@dataclass(frozen=True)
class Lexicon:
    """Words of one split by kind, and what they mean."""

    words: dict[Kind, tuple[str, ...]]
    """Those that occur in WordNet's own tagged texts, so that nobody meets only rare ones."""
    first_meaning: dict[tuple[Kind, str], str]
    """The key of a word's most frequent meaning."""
    synsets: dict[tuple[Kind, str], Synset]

    def synonyms(self, kind: Kind, word: str) -> list[str]:
        """Return other words of a word's most frequent meaning."""
        return [other for other in self.synsets[kind, self.first_meaning[kind, word]].words if other != word]

    def kinds_of(self, noun: str) -> list[str]:
        """Return the keys of a noun's more general meanings, the nearest first."""
        keys, key = [], self.first_meaning["noun", noun]
        while above := self.synsets["noun", key].above:
            key = above[0]
            if key in keys:
                break
            keys.append(key)
        return keys


def load_lexicon(folder: Path, split: Split, *, evaluated: Collection[str] = ()) -> Lexicon:
    """Read WordNet's files.

    Args:
        folder: of `index.noun`, `data.noun`, and those of `adj` and `verb`.
        split: which words.
        evaluated: words that Heed's evaluations use, which are never trained on.

    Raises:
        FileNotFoundError: if a file is missing.
    """
    words: dict[Kind, tuple[str, ...]] = {}
    meanings: dict[tuple[Kind, str], str] = {}
    synsets: dict[tuple[Kind, str], Synset] = {}
    kinds: tuple[Kind, ...] = ("noun", "adj", "verb")
    for kind in kinds:
        synsets |= {(kind, key): synset for key, synset in _synsets(folder / f"data.{kind}")}
        chosen = []
        for word, tagged, key in _index(folder / f"index.{kind}"):
            meanings[kind, word] = key
            is_held_out = word in evaluated or zlib.crc32(word.encode()) % ONE_IN == 0
            if tagged and is_held_out == (split == "held out"):
                chosen.append(word)
        words[kind] = tuple(sorted(chosen))
    return Lexicon(words, meanings, synsets)


def _index(path: Path) -> Iterable[tuple[str, int, str]]:
    """Go through the words of an index: each with how often it was tagged, and its most frequent meaning."""
    for fields in _lines(path):
        word, pointers = fields[0], int(fields[3])
        if word.isalpha() and word.islower() and SHORTEST <= len(word) <= LONGEST:
            yield word, int(fields[5 + pointers]), fields[6 + pointers]


def _synsets(path: Path) -> Iterable[tuple[str, Synset]]:
    for fields in _lines(path):
        count = int(fields[3], 16)
        words = tuple(word.split("(")[0].replace("_", " ").lower() for word in fields[4 : 4 + 2 * count : 2])
        start = 5 + 2 * count
        pointers = [fields[start + 4 * index : start + 4 * index + 2] for index in range(int(fields[start - 1]))]
        yield fields[0], Synset(words, tuple(key for relation, key in pointers if relation == "@"))


def _lines(path: Path) -> Iterable[list[str]]:
    """Go through a file's lines without its licence, which is indented, and without explanations."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith(" "):
                yield line.split(" | ")[0].split()


def words_of_files(paths: Iterable[Path]) -> set[str]:
    """Return all words that files of data or code contain, in lower case."""
    found: set[str] = set()
    for path in paths:
        found.update(re.findall(r"[^\W\d_]+", path.read_text(encoding="utf-8").lower()))
    return found
