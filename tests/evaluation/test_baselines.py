"""Agents that are not ours: what each kind is asked, and how its answer becomes an action."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, pipeline

from heed.evaluation.playing.baselines import BaselineError, asked, baseline_policy, understood
from heed.policies.models.loading import load_language_model
from tests.buttons import COLORS, Buttons

WORDS = {
    "instruction": [f"press the {color} button" for color in COLORS],
    "observation": ["three buttons"] * 3,
}
GENERATORS = [np.random.default_rng(seed) for seed in range(3)]


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("press red", 0),
        (' "Press blue." I think', 2),
        ("I would not press red but press green", 0),
        ("press", None),
        ("", None),
    ],
)
def test_an_answer_is_the_action_that_it_names_first(answer: str, action: int | None) -> None:
    assert understood(answer, Buttons.action_texts) == action


def test_of_two_actions_that_begin_at_the_same_place_the_longer_is_meant() -> None:
    assert understood("go left now", ("go", "go left", "left")) == 1


def test_a_function_is_asked_about_one_observation_at_a_time() -> None:
    def by_text(observation: Any) -> str:
        assert set(observation) == {"instruction", "observation"}
        return f"press {observation['instruction'].split()[2]}"

    assert baseline_policy("f", by_text, Buttons()).choose(WORDS, GENERATORS).tolist() == [0, 1, 2]
    assert baseline_policy("f", lambda _: 1, Buttons()).choose(WORDS, GENERATORS).tolist() == [1, 1, 1]
    with pytest.raises(BaselineError, match="'jump', which is none of the actions"):
        baseline_policy("f", lambda _: "jump", Buttons()).choose(WORDS, GENERATORS)


class Predictor:
    """An agent with SB3's `predict`."""

    def __init__(self, answers: int | None = None):
        self.answers = answers

    def predict(self, observation: Any, deterministic: bool = False) -> Any:
        assert deterministic
        actions = [COLORS.index(text.split()[2]) for text in observation["instruction"]]
        return np.array(actions[: self.answers]), None


def test_predict_is_asked_about_a_batch() -> None:
    assert baseline_policy("p", Predictor(), Buttons()).choose(WORDS, GENERATORS).tolist() == [0, 1, 2]
    with pytest.raises(BaselineError, match="2 actions for 3 observations"):
        baseline_policy("p", Predictor(2), Buttons()).choose(WORDS, GENERATORS)


def test_what_cannot_play_is_refused() -> None:
    with pytest.raises(TypeError, match="only an object with `predict`"):
        baseline_policy("nothing", 3, Buttons())


class Asked:
    """Stands in for a pipeline: notes the questions, and answers from a list."""

    task = "text-generation"

    def __init__(self, tokenizer: Any, answers: list[str]):
        self.tokenizer, self.answers, self.questions, self.options = tokenizer, answers, [], {}  # type: ignore[var-annotated]

    def __call__(self, questions: Any, **options: Any) -> Any:
        self.questions += questions
        self.options = options
        return [[{"generated_text": answer}] for answer in self.answers[: len(questions)]]


def tokenizer() -> Any:
    return load_language_model("heed-tiny").tokenizer


def test_a_language_model_is_asked_once_about_each_observation_and_chance_answers_for_it_if_need_be() -> None:
    pipe = Asked(tokenizer(), ["press green", "well", "press blue"])
    choose = baseline_policy("zero-shot", pipe, Buttons()).choose
    drawn = [int(np.random.default_rng(seed).integers(3)) for seed in range(3)]
    first = choose(WORDS, [np.random.default_rng(seed) for seed in range(3)])
    assert first.tolist() == [1, drawn[1], 2]
    again = choose(WORDS, [np.random.default_rng(seed) for seed in range(3)])
    assert again.tolist() == first.tolist()
    assert len(pipe.questions) == 3
    for question, instruction in zip(pipe.questions, WORDS["instruction"], strict=True):
        assert instruction in question
        assert "three buttons" in question
        assert "press red, press green" in question
    assert pipe.options["do_sample"] is False
    assert pipe.options["return_full_text"] is False


def test_a_model_with_a_chat_template_is_asked_in_its_form() -> None:
    chatting = tokenizer()
    chatting.chat_template = "{{ messages[0].content }}"
    pipe = Asked(chatting, ["press red"] * 3)
    asked(pipe, Buttons())(WORDS, GENERATORS)
    assert [question[0]["role"] for question in pipe.questions] == ["user"] * 3


def test_a_real_pipeline_answers() -> None:
    torch.manual_seed(0)
    base = tokenizer()
    own = PreTrainedTokenizerFast(tokenizer_object=base.backend_tokenizer, eos_token=base.eos_token)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(own), n_layer=1, n_embd=16, n_head=2, n_positions=512))
    pipe = pipeline("text-generation", model=model, tokenizer=own, device="cpu")
    actions = baseline_policy("zero-shot", pipe, Buttons()).choose(WORDS, GENERATORS)
    assert actions.shape == (3,)
    assert set(actions.tolist()) <= {0, 1, 2}
