"""The vectors of words: what lies near to what, and what is kept of them."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from heed.policies.models.use import USE_WIDTH, use_vectors
from heed.policies.words import vectors as vectors_module
from heed.policies.words.vectors import MEANING, SPELLING, WIDTH, WordVectors, meanings_of_numbers, spelling_of

NO_MEAN = np.zeros(MEANING, dtype=np.float32)


class Encoder:
    """In the sentence encoder's place: a vector that is drawn by a word's letters. It counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked += texts
        drawn = [np.random.default_rng(list(text.encode())).normal(size=USE_WIDTH) for text in texts]
        return np.array(drawn, dtype=np.float32)


def nearest(spelt: str, words: Sequence[str]) -> str:
    return max(words, key=lambda word: float(spelling_of(word) @ spelling_of(spelt)))


@pytest.mark.parametrize(
    ("spelt", "meant"),
    [("purpel", "purple"), ("gren", "green"), ("bal", "ball"), ("keyy", "key"), ("yelow", "yellow"), ("docr", "door")],
)
def test_a_misspelt_word_is_nearest_to_what_was_meant(spelt: str, meant: str) -> None:
    words = ["purple", "green", "grey", "red", "blue", "yellow", "ball", "box", "key", "door", "left", "right"]
    assert nearest(spelt, words) == meant


def test_a_spelling_by_hand() -> None:
    """Of one letter in `^a$`: the pairs "^a" and "a$", the triple "^a$", and the letters alone, hashed with signs."""
    expected = np.zeros(SPELLING)
    for gram, weight in (("^", 0.7), ("a", 0.7), ("$", 0.7), ("^a", 1.0), ("a$", 1.0), ("^a$", 1.0)):
        code = zlib.crc32(gram.encode())
        expected[code % SPELLING] += weight * (1 if (code >> 16) % 2 else -1)
    np.testing.assert_allclose(spelling_of("a"), expected / np.linalg.norm(expected), rtol=1e-6)
    assert np.isfinite(spelling_of("")).all()


def test_near_numbers_are_nearer_than_far_ones() -> None:
    one, two, three, nine, far = meanings_of_numbers([1, 2, 3, 9, 500])
    np.testing.assert_allclose(np.linalg.norm([one, two, far], axis=1), 1, rtol=1e-5)
    assert one @ two > one @ three > one @ nine
    assert abs(one @ far) < 0.3
    assert np.isfinite(meanings_of_numbers([1e300, -1e300])).all()
    below, above = meanings_of_numbers([-2, 2])
    assert below @ above < two @ three


def test_a_words_vector_is_its_meaning_less_the_mean_and_its_spelling() -> None:
    encode = Encoder()
    mean = (np.arange(MEANING) / MEANING).astype(np.float32)
    (found,) = WordVectors(mean, encode).of(["lamp"])
    meaning = encode(["lamp"])[0] - mean
    np.testing.assert_allclose(found[:MEANING], meaning / np.linalg.norm(meaning), rtol=1e-5)
    np.testing.assert_array_equal(found[MEANING:], spelling_of("lamp"))


def test_each_word_is_asked_for_once_and_numbers_never() -> None:
    encode = Encoder()
    words = WordVectors(NO_MEAN, encode)
    words.of(["red", "ball", "3", "red"])
    again = words.of(["ball", "-2.5", "key", "red"])
    assert encode.asked == ["red", "ball", "key"]
    assert len(words) == 3
    assert again.shape == (4, WIDTH)
    np.testing.assert_array_equal(WordVectors(NO_MEAN, Encoder()).of(["ball", "-2.5", "key", "red"]), again)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "MOST_KEPT", 10)
    words = WordVectors(NO_MEAN, Encoder())
    for start in range(0, 60, 3):
        given = [f"word{chr(97 + start // 3)}{chr(97 + i)}" for i in range(6)]
        np.testing.assert_array_equal(words.of(given), WordVectors(NO_MEAN, Encoder()).of(given))
        assert len(words) <= 10
    words.of([f"{start}.5" for start in range(100)])
    assert len(words) <= 10, "numbers are not kept"
    for start in range(12):
        words.of_phrases([f"the lamp of {chr(97 + start)}", "a kettle"])
    assert len(words) <= 20, "ten words and ten phrases"


def test_a_phrase_is_what_it_means_as_a_whole() -> None:
    encode = Encoder()
    mean = (np.arange(MEANING) / MEANING).astype(np.float32)
    words = WordVectors(mean, encode)
    (found,) = words.of_phrases(["a red lamp"])
    meaning = encode(["a red lamp"])[0] - mean
    np.testing.assert_allclose(found, meaning / np.linalg.norm(meaning), rtol=1e-5)
    words.of_phrases(["a red lamp", "a kettle"])
    assert encode.asked.count("a kettle") == 1
    assert encode.asked.count("a red lamp") == 2, "once, and once by this test"


def test_a_vector_is_the_same_alone_and_after_others() -> None:
    """With the sentence encoder itself, to the last bit."""
    mean: Any = NO_MEAN
    alone = WordVectors(mean).of(["violin"])
    after = WordVectors(mean)
    after.of(["lamp", "a", "kettle"])
    np.testing.assert_array_equal(after.of(["7", "violin"])[1:], alone)
    np.testing.assert_array_equal(use_vectors(["violin", "lamp"])[:1], use_vectors(["violin"]))


def test_words_of_like_meaning_lie_near_in_any_language() -> None:
    mean = use_vectors(["the", "red", "ball", "door", "key", "go", "left", "house", "water", "run"]).mean(axis=0)
    found = WordVectors(mean).of(["red", "rouge", "红色", "violin"])[:, :MEANING]
    red, rouge, hong, violin = found
    assert min(red @ rouge, red @ hong) > red @ violin + 0.2
