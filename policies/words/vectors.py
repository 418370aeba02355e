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

MOST_WORDS = 30_000
"""Words whose vectors are kept: 77 MB. When they are full, all are computed anew."""

_GRAMS = ((1, 0.7), (2, 1.0), (3, 1.0))
"""How many letters in a row count, and how much."""

_frequencies = np.exp(np.random.default_rng(7).uniform(np.log(0.02), np.log(3.0), MEANING // 2))


class WordVectors:
    """Computes the vectors of words, each once.

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
        self._rows: dict[str, int] = {}
        self._vectors = np.zeros((0, WIDTH), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def clear_cache(self) -> None:
        """Forget all vectors."""
        self._rows, self._vectors = {}, np.zeros((0, WIDTH), dtype=np.float32)

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
            rows = self._rows_of([words[index] for index in places])
            vectors[places] = self._vectors[rows]
        return vectors

    def _rows_of(self, words: Sequence[str]) -> list[int]:
        new = [word for word in dict.fromkeys(words) if word not in self._rows]
        if len(self._rows) + len(new) > MOST_WORDS:
            self.clear_cache()
            new = list(dict.fromkeys(words))
        if new:
            meanings = self._encode(new) - self._mean
            meanings /= np.maximum(np.linalg.norm(meanings, axis=1, keepdims=True), 1e-6)
            added = np.concatenate([meanings, [spelling_of(word) for word in new]], axis=1, dtype=np.float32)
            needed = len(self._rows) + len(new)
            if needed > len(self._vectors):
                grown = np.empty((max(2 * needed, 256), WIDTH), dtype=np.float32)
                grown[: len(self._rows)] = self._vectors[: len(self._rows)]
                self._vectors = grown
            self._vectors[len(self._rows) : needed] = added
            for word in new:
                self._rows[word] = len(self._rows)
        return [self._rows[word] for word in words]


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
