"""Prompt templates: plain ones, Jinja in its sandbox, and what tokenizers make of chats."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from examples.family_tokenizers import (
    gemma_tokenizer,
    gpt2_tokenizer,
    llama2_tokenizer,
    llama3_tokenizer,
    qwen_tokenizer,
)
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.prompt import PromptEncoder
from heed.policies.prompts.template import Chat, Place, PromptTemplate, TemplateError
from heed.policies.prompts.words import words_of

WORDS = {"instruction": "go to the red ball", "observation": "red ball 2 left; wall 1 ahead"}
LINES = (
    "{% if instruction %}Do: {{ instruction }}\n{% endif %}"
    "{% for thing in observation.split('; ') %}- {{ thing }}{{ '' if loop.last else '\n' }}{% endfor %}\n\nAnswer:"
)


def test_a_plain_template_puts_the_texts_in_their_places() -> None:
    template = PromptTemplate("{{So}} {instruction}: {observation}.")
    assert template.format(instruction="{a}", observation="b") == "{So} {a}: b."
    filled, places = template.places(instruction="{a}", observation="b")
    assert filled == "{So} {a}: b."
    assert places == [
        Place(part="instruction", start=0, place=5, length=3),
        Place(part="observation", start=0, place=10, length=1),
    ]


def test_a_jinja_template_has_conditions_and_loops_and_knows_where_words_stand() -> None:
    template = PromptTemplate(LINES, "jinja")
    filled, places = template.places(**WORDS)
    assert filled == "Do: go to the red ball\n- red ball 2 left\n- wall 1 ahead\nAnswer:" == template.format(**WORDS)
    for place in places:
        text = WORDS[place.part][place.start : place.start + place.length]
        assert filled[place.place : place.place + place.length] == text
    assert [place.part for place in places] == ["instruction", "observation", "observation"]
    assert template.format(instruction="", observation="a") == "- a\nAnswer:"


def test_the_words_of_a_jinja_prompt_are_found_and_a_long_observation_is_cut() -> None:
    language_model = load_language_model("heed-tiny")
    encoder = language_model.encoder(template=PromptTemplate(LINES, "jinja"), max_tokens=64)
    prompt = encoder({key: [text] for key, text in WORDS.items()})[0]
    words = words_of(encoder, **WORDS)
    assert "".join(word.text for word in words).replace(" ", "") == "".join(WORDS.values()).replace(" ", "")
    for word in words:
        # What the template leaves out (here "; ") no token spells.
        assert encoder.decode(prompt[list(word.tokens)]).strip() == word.text.replace(";", "").strip()
    long = "; ".join(["red ball 2 left"] * 40)
    with pytest.warns(UserWarning, match="longer than 64"):
        cut = encoder({"instruction": ["go"], "observation": [long]})[0]
    assert encoder.decode(cut[cut >= 0]).endswith("Answer:")
    assert long.startswith(encoder.seen_of("go", long))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{{ instruction }}", "does not show the observation"),
        ("{% if observation %}{{ instruction }}{% endif %}", "does not show the observation"),
        ("{{ instruction }} {{ observation }} {{ image }}", "it names 'image'"),
        ("{{ instruction }} {{ observation", "line 1"),
        ("{{ instruction.__class__ }} {{ observation }}", "it reads the attribute '__class__'"),
        ("{{ instruction | attr('__class__') }} {{ observation }}", "the filter 'attr'"),
        ("{{ instruction.format(observation) }} {{ observation }}", "the method 'format'"),
        ("{% for i in range(10 ** 9) %}a{% endfor %}{{ instruction }} {{ observation }}", "it calls something else"),
        ("{{ instruction }} {{ observation * 10 ** 9 }}", "has the part 'mul'"),
        ("{% set a = observation %}{{ instruction }} {{ a }}", "has the part 'assign'"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ instruction }} {{ observation }}", "has the part 'macro'"),
        ("{% include 'a' %}{{ instruction }} {{ observation }}", "has the part 'include'"),
        ("{{ instruction }} {{ observation | center(10 ** 9) }}", "the filter 'center'"),
        ("{{ instruction }} {{ '%1000000000d' | format(1) }} {{ observation }}", "the filter 'format'"),
        ("{% for a in _turns %}{% endfor %}{{ instruction }} {{ observation }}", "it names '_turns'"),
        ("{% for _turns in observation %}{% endfor %}{{ instruction }} {{ observation }}", "cannot be called '_turns'"),
        ("{% for observation in instruction %}{% endfor %}{{ observation }}", "cannot be called 'observation'"),
        ("{{ " + "(" * 300 + "instruction" + ")" * 300 + " }} {{ observation }}", "nested too deep"),
        ("{{ " + "not " * 200 + "instruction }} {{ observation }}", "nested too deep"),
        ("a" * 10_001 + "{{ instruction }} {{ observation }}", "may have 10000 at most"),
    ],
)
def test_a_jinja_template_that_could_do_more_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(TemplateError, match=sentence.replace("(", r"\(")):
        PromptTemplate(text, "jinja")


@pytest.mark.parametrize(
    "text",
    [
        # Each is harmless for the short texts that a template is tried out on.
        "{{ instruction }}" + "{% for a in observation %}" * 6 + "{{ observation }}" + "{% endfor %}" * 6,
        "{{ instruction }} {{ observation" + " | replace('a', 'aaaaaaaaaa')" * 9 + " }}",
        "{{ instruction }} {{ (observation | list) | join(observation) | list | join(observation) }}",
    ],
)
def test_a_template_neither_runs_on_nor_fills_the_memory(text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(TemplateError, match="more than"):
        PromptTemplate(text, "jinja").format(instruction="a", observation="a" * 2000)
    assert time.perf_counter() - began < 5


def test_a_file_holds_a_template_and_its_last_line_break_is_the_files(tmp_path: Path) -> None:
    plain, jinja = tmp_path / "a.txt", tmp_path / "a.j2"
    plain.write_text("{instruction}\n{observation}\nAction:\n", encoding="utf-8")
    assert PromptTemplate.from_file(plain) == PromptTemplate("{instruction}\n{observation}\nAction:")
    jinja.write_text("{{ instruction }} {{ observation }}\n\n", encoding="utf-8")
    assert PromptTemplate.from_file(jinja) == PromptTemplate("{{ instruction }} {{ observation }}\n", "jinja", "")
    with pytest.raises(TemplateError, match="cannot be read"):
        PromptTemplate.from_file(tmp_path / "none.j2")
    plain.write_bytes(b"\xff{instruction}")
    with pytest.raises(TemplateError, match="cannot be read"):
        PromptTemplate.from_file(plain)


def test_a_space_at_the_end_of_a_template_is_the_actions() -> None:
    assert PromptTemplate.of("{instruction} {observation} do: ") == PromptTemplate("{instruction} {observation} do:")


@pytest.mark.parametrize(
    "template",
    [PromptTemplate("{instruction}{observation}"), PromptTemplate("{instruction}{observation}", "plain", ""),
     PromptTemplate(LINES, "jinja")],
)  # fmt: skip
def test_json_gives_the_template_back(template: PromptTemplate) -> None:
    assert PromptTemplate.from_json(template.as_json()) == template


def test_the_usual_template_is_its_text_in_json_as_earlier_versions_have_it() -> None:
    assert PromptTemplate("{instruction}{observation}").as_json() == "{instruction}{observation}"


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        (5, "is a text, or an object"),
        ({"syntax": "jinja"}, "is a text, or an object"),
        ({"text": "{instruction}{observation}", "code": "x"}, "is a text, or an object"),
        ({"text": "{instruction}{observation}", "before_action": "x" * 9}, "a space or nothing"),
        ({"text": "{instruction}{observation}", "syntax": "python"}, "plain or jinja"),
        ("{instruction}{observation}" * 5000, "may have 100000 at most"),
    ],
)
def test_json_that_is_no_template_is_refused(saved: object, sentence: str) -> None:
    with pytest.raises(TemplateError, match=sentence):
        PromptTemplate.from_json(saved)


# -- chats --------------------------------------------------------------------------------------------------------

CHATS = {"qwen": qwen_tokenizer, "llama 3": llama3_tokenizer, "llama 2": llama2_tokenizer, "gemma": gemma_tokenizer}


@pytest.mark.parametrize("name", CHATS)
def test_a_chats_prompt_has_the_tokens_of_apply_chat_template_with_one_beginning(name: str) -> None:
    tokenizer: Any = CHATS[name]()
    message = "Instruction: {instruction}\nObservation: {observation}".format(**WORDS)
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    encoder = PromptEncoder(tokenizer, template=Chat())
    prompt = encoder({key: [text] for key, text in WORDS.items()})[0]
    assert prompt[prompt >= 0].tolist() == expected
    if tokenizer.bos_token_id is not None:
        assert expected.count(tokenizer.bos_token_id) <= 1


def test_the_systems_message_stands_first_where_the_template_takes_one() -> None:
    template = Chat(system="You move {about}.").template(qwen_tokenizer())
    assert template.format(instruction="i", observation="o") == (
        "<|im_start|>system\nYou move {about}.<|im_end|>\n<|im_start|>user\nInstruction: i\nObservation: o<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    with pytest.raises(TemplateError, match=r"System role not supported\. Some take no system's message"):
        Chat(system="You move about.").template(gemma_tokenizer())


@pytest.mark.parametrize(
    ("name", "before_action"),
    [("qwen", ""), ("llama 3", ""), ("llama 2", " "), ("gemma", "")],
)
def test_the_answer_stands_where_the_template_puts_it(name: str, before_action: str) -> None:
    assert Chat().template(CHATS[name]()).before_action == before_action


def test_an_empty_thought_before_the_answer_belongs_to_the_prompt() -> None:
    tokenizer = qwen_tokenizer()
    template = tokenizer.chat_template
    assert isinstance(template, str)
    tokenizer.chat_template = template.replace(
        "{{ message.content }}",
        "{% if message.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message.content }}",
    )
    assert Chat().template(tokenizer).text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_tokenizer_without_a_usable_chat_template_is_refused() -> None:
    tokenizer: PreTrainedTokenizerBase = gpt2_tokenizer()
    with pytest.raises(TemplateError, match="has no chat template"):
        Chat().template(tokenizer)
    tokenizer.chat_template = "{{ messages[0].content | upper }}"
    with pytest.raises(TemplateError, match="changes or leaves out"):
        Chat().template(tokenizer)
