"""Words of a prompt: every token belongs to the word whose characters it stands for, also where it spans several."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from heed.policies.models.loading import load_language_model
from heed.policies.prompts.layout import PADDING
from heed.policies.prompts.prompt import PromptEncoder
from heed.policies.prompts.words import Word, without, words_of

INSTRUCTION = "pick up the red ball"
OBSERVATION = "red ball 2 left 3 ahead; wall 1 right\n> turn left: key 1 ahead"


def encoder_of(template: str | None = None, max_tokens: int = 128) -> PromptEncoder:
    return load_language_model("heed-tiny").encoder(template=template, max_tokens=max_tokens)


def texts_of(words: list[Word], part: str) -> list[str]:
    return [word.text for word in words if word.part == part]


def test_words_that_share_a_token_are_one_word() -> None:
    words = words_of(encoder_of(), INSTRUCTION, OBSERVATION)
    assert texts_of(words, "instruction") == ["pick up", "the", "red", "ball"]
    # " 2 left" is a token of heed-tiny, and so is " turn left"; ";" and ":" are tokens of their own.
    assert texts_of(words, "observation") == (
        ["red", "ball", "2 left", "3 ahead;", "wall", "1 right", ">", "turn left:", "key", "1 ahead"]
    )


def test_the_tokens_of_a_word_spell_it() -> None:
    encoder = encoder_of()
    prompt = encoder({"instruction": [INSTRUCTION], "observation": [OBSERVATION]})[0]
    words = words_of(encoder, INSTRUCTION, OBSERVATION)
    assert all(encoder.decode(prompt[list(word.tokens)]).strip() == word.text for word in words)
    held = [token for word in words for token in word.tokens]
    assert len(set(held)) == len(held), "no token belongs to two words"
    free = set(range(int((prompt != PADDING).sum()))) - set(held)
    assert encoder.decode(prompt[sorted(free)]).strip() == "", "only white space belongs to none"


def test_spans_are_those_of_the_texts() -> None:
    for word in words_of(encoder_of(), INSTRUCTION, OBSERVATION):
        text = {"instruction": INSTRUCTION, "observation": OBSERVATION}[word.part]
        assert text[word.start : word.end] == word.text


def test_a_tokenizer_that_knows_no_offsets_is_asked_for_the_beginnings_of_the_text() -> None:
    for template in (
        None,
        "Instruction: {instruction}\nObservation: {observation}\nAction:",
        "{instruction}{observation}",
    ):
        for texts in ((INSTRUCTION, OBSERVATION), ("", "nothing"), ("a", ""), ("go to the 红 ball", "ça va ☃")):
            encoder = encoder_of(template)
            expected = words_of(encoder, *texts)
            encoder.texts._fast = None
            assert encoder.offsets("a") is None
            assert words_of(encoder, *texts) == expected, (template, texts)


def word_level(*, closed: bool) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that begins every text with a token, and ends it with one if asked to."""
    vocabulary = {word: number for number, word in enumerate(["<s>", "</s>", "<unk>", "go", "to", "red", "ball", ":"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if closed else "<s> $A", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("knows_offsets", [False, True])
def test_tokens_that_open_and_close_a_text_belong_to_no_word(closed: bool, knows_offsets: bool) -> None:
    encoder = PromptEncoder(
        word_level(closed=closed), template="{instruction} : {observation}", max_tokens=16, closed=closed
    )
    if not knows_offsets:
        encoder.texts._fast = None
    words = words_of(encoder, "go to", "red ball")
    assert [(word.text, word.tokens) for word in words] == ([("go", (1,)), ("to", (2,)), ("red", (4,)), ("ball", (5,))])


def test_a_template_that_repeats_a_part_gives_its_words_more_tokens() -> None:
    encoder = PromptEncoder(
        word_level(closed=False), template="{instruction} : {observation} : {instruction}", max_tokens=16
    )
    assert [word.tokens for word in words_of(encoder, "go to", "red")] == [(1, 6), (2, 7), (4,)]


def test_what_a_prompt_has_no_room_for_has_no_words() -> None:
    encoder = encoder_of(max_tokens=12)
    words = words_of(encoder, "drop", OBSERVATION)
    seen = encoder.seen_of("drop", OBSERVATION)
    assert OBSERVATION.startswith(seen)
    assert 0 < len(seen) < len(OBSERVATION)
    assert " ".join(texts_of(words, "observation")).split() == seen.split()
    with pytest.warns(UserWarning, match="longer than 12"):
        prompt = encoder({"instruction": ["drop"], "observation": [OBSERVATION]})[0]
    assert torch.equal(
        torch.from_numpy(prompt), torch.from_numpy(encoder({"instruction": ["drop"], "observation": [seen]})[0])
    )
    assert all(encoder.decode(prompt[list(word.tokens)]).strip() == word.text for word in words)


def test_chinese_characters_are_words() -> None:
    words = words_of(encoder_of(), "去红球, please", "球")
    assert texts_of(words, "instruction") == ["去", "红", "球", ",", "please"]
    assert [len(word.tokens) for word in words[:3]] == [3, 3, 3]  # bytes


def word_at(text: str, part: str) -> Word:
    start = text.index(part)
    return Word(part="observation", start=start, end=start + len(part), text=part, tokens=())


@pytest.mark.parametrize(
    ("text", "word", "rest"),
    [
        ("go to the ball", "go", "to the ball"),
        ("go to the ball", "to", "go the ball"),
        ("go to the ball", "ball", "go to the"),
        ("ball", "ball", ""),
        ("a b\n> c", "b", "a\n> c"),
        ("a b\n> c", ">", "a b\nc"),
        ("a\nb\nc", "b", "a\nc"),
        ("a\nb", "a", "b"),
        ("去红球", "红", "去球"),
        ("去红 球", "红", "去 球"),
    ],
)
def test_a_word_leaves_no_gap(text: str, word: str, rest: str) -> None:
    assert without(text, word_at(text, word)) == rest
