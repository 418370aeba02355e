"""Agents that are not ours: what each kind is asked, and how its answer becomes an action."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, pipeline

from heed.evaluation.axes import axis
from heed.evaluation.playing import evaluate
from heed.evaluation.playing.baselines import BaselineError, asked, baseline_policy, understood
from heed.evaluation.playing.zero_shot import SYSTEM
from heed.evaluation.suites import Suite
from heed.policies.heads.scoring import naive_scores
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.template import PromptTemplate
from tests.buttons import COLORS, Buttons
from tests.doors import Doors
from tests.small_encoders import save_encoder

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


def chosen_by_definition(language_model: LanguageModel, template: PromptTemplate, texts: Sequence[str]) -> list[int]:
    """Return the likeliest action for each of `WORDS`, one full forward for each pair."""
    prompts = torch.as_tensor(language_model.encoder(template=template, max_tokens=512)(WORDS)).long()
    tokens = language_model.action_tokens(texts, template)
    found: list[int] = naive_scores(language_model.model, prompts, tokens).argmax(dim=1).tolist()
    return found


def test_an_untrained_language_model_takes_the_likeliest_action() -> None:
    language_model = load_language_model("heed-tiny")
    plain = PromptTemplate(
        "Possible actions: press red, press green, press blue\nInstruction: {instruction}\n"
        "Observation: {observation}\nAction:"
    )
    expected = chosen_by_definition(language_model, plain, Buttons.action_texts)
    choose = baseline_policy("zero-shot", language_model, Buttons()).choose
    for _ in range(3):  # read, then remembered
        assert choose(WORDS, GENERATORS).tolist() == expected


def test_an_untrained_language_model_with_a_chat_template_is_asked_in_its_form() -> None:
    language_model = load_language_model("heed-tiny")
    language_model.tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    message = (
        "Possible actions: press red, press green, press blue\nInstruction: {instruction}\nObservation: {observation}"
    )
    chat = PromptTemplate(f"system: {SYSTEM}\nuser: {message}\nassistant:")
    expected = chosen_by_definition(language_model, chat, Buttons.action_texts)
    assert baseline_policy("zero-shot", language_model, Buttons()).choose(WORDS, GENERATORS).tolist() == expected
    # One that takes no system's message is asked without.
    language_model.tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "user: {{ messages[0]['content'] }}\n"
        "{% if messages|length > 1 %}assistant: {{ messages[1]['content'] }}{% endif %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    expected = chosen_by_definition(
        language_model, PromptTemplate(f"user: {message}\nassistant:"), Buttons.action_texts
    )
    assert baseline_policy("zero-shot", language_model, Buttons()).choose(WORDS, GENERATORS).tolist() == expected


def test_an_untrained_language_model_chooses_among_actions_that_change() -> None:
    language_model = load_language_model("heed-tiny")
    env = Doors()
    observation, _ = env.reset(seed=0)
    words = {key: [value, value] for key, value in observation.items()}
    words["actions"] = [("go north", "go south"), ("go east", "go north", "wait")]
    actions = baseline_policy("zero-shot", language_model, env).choose(words, GENERATORS[:2])
    plain = PromptTemplate("Instruction: {instruction}\nObservation: {observation}\nAction:")
    prompts = torch.as_tensor(
        language_model.encoder(template=plain, max_tokens=512).encode_words(
            {key: words[key] for key in ("instruction", "observation")}, None
        )
    ).long()
    for row, texts in enumerate(words["actions"]):
        scores = naive_scores(language_model.model, prompts[row : row + 1], language_model.action_tokens(texts, plain))
        assert actions[row] == int(scores.argmax())


def test_an_encoder_cannot_choose_untrained(tmp_path: Path) -> None:
    encoder = load_language_model(str(save_encoder("bert", tmp_path / "bert")))
    with pytest.raises(TypeError, match="gives texts no likelihood, so it cannot choose zero-shot"):
        baseline_policy("zero-shot", encoder, Buttons())


def test_it_is_a_column_of_an_evaluation() -> None:
    suite = Suite(name="s", environments=("BabyAI-GoToLocal-v0",), axes=(axis("true"), axis("blank")), episodes=2)
    played = evaluate(
        lambda _: 0, suite, baselines={"zero-shot": load_language_model("heed-tiny-random")}, max_episode_steps=3
    )
    cells = {(one.axis, one.policy) for one in played.episodes}
    assert {("true", "zero-shot"), ("blank", "zero-shot")} <= cells


def test_a_real_pipeline_answers() -> None:
    torch.manual_seed(0)
    base = tokenizer()
    own = PreTrainedTokenizerFast(tokenizer_object=base.backend_tokenizer, eos_token=base.eos_token)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(own), n_layer=1, n_embd=16, n_head=2, n_positions=512))
    pipe = pipeline("text-generation", model=model, tokenizer=own, device="cpu")
    actions = baseline_policy("zero-shot", pipe, Buttons()).choose(WORDS, GENERATORS)
    assert actions.shape == (3,)
    assert set(actions.tolist()) <= {0, 1, 2}
