"""How a text becomes words and segments, in several languages."""

import pytest

from heed.policies.words.splitting import NUMBER, split, words_of


def segments_of(text: str) -> list[list[str]]:
    found: dict[int, list[str]] = {}
    for word in split(text):
        found.setdefault(word.segment, []).append(word.text)
    return list(found.values())


def test_a_text_of_english() -> None:
    text = "Wall 2 left; RED ball 3 ahead.\nThe door is locked, key: none"
    assert segments_of(text) == [
        ["wall", "2", "left"],
        ["red", "ball", "3", "ahead"],
        ["the", "door", "is", "locked"],
        ["key", ":", "none"],
    ]
    assert [(word.segment, word.place) for word in split(text)][:5] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_every_word_begins_where_it_says() -> None:
    text = "Don't touch l'objet rouge: 12.5kg, 去红色的球旁边 (x=3)?"
    for word in split(text):
        assert text[word.start : word.start + len(word.text)].lower() == word.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't stop", ["don't", "stop"]),
        ("prends l'objet qu'il voit", ["prends", "l", "objet", "qu'il", "voit"]),
        ("va à la porte d’entrée", ["va", "à", "la", "porte", "d", "entrée"]),
        ("5kg at -3.25 or x-2", ["5", "kg", "at", "-3.25", "or", "x", "2"]),
        ("level_2 (a=1)?", ["level", "2", "(", "a", "=", "1", ")", "?"]),
        ("", []),
        (" ;\n,. !", []),
        ("🙂 #%&", []),
    ],
)
def test_what_a_word_is(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_languages_without_spaces_are_cut_by_the_encoders_vocabulary() -> None:
    words = words_of("去红色的球旁边")
    assert "".join(words) == "去红色的球旁边"
    assert 2 < len(words) <= 7
    assert segments_of("红色的球。蓝色的门") == [words_of("红色的球"), words_of("蓝色的门")]


@pytest.mark.parametrize(
    ("text", "is_number"), [("12", True), ("-3.5", True), ("+4", True), ("3x", False), ("", False)]
)
def test_numbers(text: str, is_number: bool) -> None:
    assert bool(NUMBER.fullmatch(text)) is is_number
