"""The vector of a word: what it means, and how it is spelled.

*Meaning* is the word's vector of the multilingual sentence encoder (`heed.policies.models.use`), less the mean of
many words, of length 1. Words of like meaning lie close to each other, also those of different languages.

*Spelling* is the sum of the hashed vectors of its one to three letters in a row (Bojanowski et al. 2017, arXiv
1607.04606, of which these are the untrained part), of length 1. Misspelt words lie close to what was meant.

*Numbers* stand apart: their meaning is a random Fourier feature of their value (Rahimi and Recht 2007), so near numbers
have near vectors. It is computed in microseconds and never kept, so texts full of numbers neither fill a cache nor slow
it down.

Shapes: V different words, E numbers of a vector.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from heed.policies.models.use import USE_WIDTH, use_vectors
from heed.policies.words.splitting import NUMBER

MEANING, SPELLING = USE_WIDTH, 128
"""How many numbers of a vector tell what a word means, and how many how it is spelled."""

WIDTH = MEANING + SPELLING
"""E"""

MOST_KEPT = 30_000
"""Words whose vectors are kept, 77 MB, and phrases, 61 MB."""

_GRAMS = ((1, 0.7), (2, 1.0), (3, 1.0))
"""How many letters in a row count, and how much."""

_frequencies = np.exp(np.random.default_rng(7).uniform(np.log(0.02), np.log(3.0), MEANING // 2))


class WordVectors:
    """Computes the vectors of words, each once, and of phrases.

    Args:
        mean: of the encoder's vectors of many words, (MEANING,): what all words have in common.
        encode: the sentence encoder.
    """

    def __init__(
        self,
        mean: npt.NDArray[np.float32],
        encode: Callable[[Sequence[str]], npt.NDArray[np.float32]] = use_vectors,
    ):
        self._mean = mean
        self._encode = encode
        self._words = _Rows(WIDTH, self._vectors_of)
        self._phrases = _Rows(MEANING, self._meanings_of)

    def __len__(self) -> int:
        return len(self._words) + len(self._phrases)

    def of_phrases(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return what phrases mean as a whole, (N, MEANING), of length 1; numbers in them do not count.

        Raises:
            heed.policies.models.use.UseError: if the sentence encoder is missing.
        """
        return self._phrases.of(phrases)

    def _meanings_of(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        meanings = self._encode(texts) - self._mean
        meanings /= np.maximum(np.linalg.norm(meanings, axis=1, keepdims=True), 1e-6)
        return meanings

    def _vectors_of(self, words: Sequence[str]) -> npt.NDArray[np.float32]:
        spellings = np.stack([spelling_of(word) for word in words])
        return np.concatenate([self._meanings_of(words), spellings], axis=1, dtype=np.float32)

    def of(self, words: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of words, (V, E); their two parts are of length 1 each.

        Raises:
            heed.policies.models.use.UseError: if the sentence encoder is missing.
        """
        vectors = np.empty((len(words), WIDTH), dtype=np.float32)
        places = [index for index, word in enumerate(words) if not NUMBER.fullmatch(word)]
        is_number = np.ones(len(words), dtype=bool)
        is_number[places] = False
        numbers = np.flatnonzero(is_number).tolist()
        if numbers:
            texts = [words[index] for index in numbers]
            vectors[numbers, :MEANING] = meanings_of_numbers([float(text) for text in texts])
            vectors[numbers, MEANING:] = [spelling_of(text) for text in texts]
        if places:
            vectors[places] = self._words.of([words[index] for index in places])
        return vectors


class _Rows:
    """Vectors of texts in one table, computed once each; when it is full, all are computed anew."""

    def __init__(self, width: int, compute: Callable[[Sequence[str]], npt.NDArray[np.float32]]):
        self._compute = compute
        self._places: dict[str, int] = {}
        self._table = np.empty((0, width), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._places)

    def of(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of texts, (N, width)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._places]
        if len(self._places) + len(new) > MOST_KEPT:
            self._places, new = {}, list(dict.fromkeys(texts))
        if new:
            used, needed = len(self._places), len(self._places) + len(new)
            if needed > len(self._table):
                grown = np.empty((max(2 * needed, 256), self._table.shape[1]), dtype=np.float32)
                grown[:used] = self._table[:used]
                self._table = grown
            self._table[used:needed] = self._compute(new)
            self._places |= {text: used + index for index, text in enumerate(new)}
        vectors: npt.NDArray[np.float32] = self._table[[self._places[text] for text in texts]]
        return vectors


def meanings_of_numbers(values: Sequence[float]) -> npt.NDArray[np.float32]:
    """Return vectors of numbers, (V, MEANING), of length 1; the nearer two numbers are, the nearer are their vectors.

    Frequencies are spread evenly over the logarithms from 0.02 to 3, so numbers of one to three digits are told apart.
    """
    angles = np.clip(np.asarray(values, dtype=np.float64), -1e6, 1e6)[:, None] * _frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    meanings: npt.NDArray[np.float32] = (waves / (MEANING / 2) ** 0.5).astype(np.float32)
    return meanings


def spelling_of(word: str) -> npt.NDArray[np.float32]:
    """Return the vector of a word's letters, (SPELLING,), of length 1."""
    vector = np.zeros(SPELLING, dtype=np.float32)
    bordered = f"^{word}$"
    for length, weight in _GRAMS:
        for start in range(len(bordered) - length + 1):
            code = zlib.crc32(bordered[start : start + length].encode())
            vector[code % SPELLING] += weight if code >> 16 & 1 else -weight
    vector /= max(float(np.linalg.norm(vector)), 1e-6)
    return vector
