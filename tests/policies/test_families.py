"""Families of language models: their tokenizers' rules, exact scores, revisions, embeddings that stay."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from examples.families import FAMILIES, save_model
from heed.envs.contract import TextActions
from heed.policies.heads.scoring import ActionScorer, make_scorer
from heed.policies.heads.trie import Tries
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.models.loading import load_language_model, rebuild_language_model
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.prompts.prompt import TEMPLATE
from heed.policies.prompts.template import Chat, PromptTemplate

GOING_ON = [name for name, family in FAMILIES.items() if family.architecture not in ("bert", "roberta", "modernbert")]
"""Families whose models go on from a prompt; the others' pairs are held against transformers in test_encoders.py."""
TEXTS = ("turn left", "turn right", "go forward", "pick up", "toggle", "go")
WORDS = {
    "instruction": ["go to the red ball", "open the green door"],
    "observation": ["red ball 2 left 1 ahead; wall 3 ahead", "grey key 1 ahead"],
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give a family's model, built, saved and loaded once."""
    known: dict[str, LanguageModel] = {}

    def load(name: str) -> LanguageModel:
        if name not in known:
            known[name] = load_language_model(str(save_model(name, tmp_path_factory.mktemp("model"))))
        return known[name]

    return load


def asked_plainly(language_model: LanguageModel, prompt: str, action: str) -> float:
    """Return the mean log-likelihood of an action's tokens: one text, one forward, nothing of Heed's."""
    tokenizer, model = language_model.tokenizer, language_model.model
    if model.config.is_encoder_decoder:
        read = torch.tensor([tokenizer(prompt)["input_ids"]])
        written = tokenizer(action, add_special_tokens=False)["input_ids"]
        given = torch.tensor([[model.config.decoder_start_token_id, *written[:-1]]])
        logits = model(input_ids=read, decoder_input_ids=given).logits[0]
    else:
        whole = tokenizer(prompt + action)["input_ids"]
        before = tokenizer(prompt)["input_ids"]
        assert whole[: len(before)] == before, "no token reaches from the prompt into the action"
        written = whole[len(before) :]
        logits = model(torch.tensor([whole])).logits[0, len(before) - 1 : -1]
    found = torch.log_softmax(logits.float(), dim=-1)[torch.arange(len(written)), written]
    return float(found.mean())


def scores_of(language_model: LanguageModel, template: PromptTemplate | None = None) -> torch.Tensor:
    encoder = language_model.encoder(max_tokens=128, template=template)
    tries = Tries([language_model.action_trie(TEXTS, "mean", template=encoder.template)])
    scorer = make_scorer(language_model.model, tries, "mean")
    assert "naive" not in scorer.methods, "a way of its own, and not the slow one"
    prompts = torch.as_tensor(encoder(WORDS)).long()
    return scorer(language_model.model, prompts, tries)[1]


@pytest.mark.parametrize("name", GOING_ON)
def test_scores_are_those_of_one_text_of_prompt_and_action(name: str, loaded: Any) -> None:
    language_model = loaded(name)
    with torch.no_grad():
        scores = scores_of(language_model)
        between = "" if language_model.model.config.is_encoder_decoder else " "
        for row, (instruction, observation) in enumerate(zip(*WORDS.values(), strict=True)):
            prompt = TEMPLATE.format(instruction=instruction, observation=observation)
            expected = [asked_plainly(language_model, prompt, between + text) for text in TEXTS]
            torch.testing.assert_close(scores[row], torch.tensor(expected), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", ["Llama 2", "Llama 3", "Gemma", "Qwen2"])
def test_scores_of_an_answer_in_a_chat_are_those_of_the_whole_chat(name: str, loaded: Any) -> None:
    language_model = loaded(name)
    tokenizer, model = language_model.tokenizer, language_model.model
    template = Chat().template(tokenizer)
    with torch.no_grad():
        scores = scores_of(language_model, template)
        for row, (instruction, observation) in enumerate(zip(*WORDS.values(), strict=True)):
            message = f"Instruction: {instruction}\nObservation: {observation}"
            chat: list[dict[str, str]] = [{"role": "user", "content": message}]
            before = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
            for column, text in enumerate(TEXTS):
                chat_with = [*chat, {"role": "assistant", "content": text}]
                whole = tokenizer.apply_chat_template(chat_with, return_dict=True)["input_ids"]
                assert whole[: len(before)] == before
                written = language_model.action_tokens([text], template)[0]
                assert whole[len(before) : len(before) + len(written)] == written
                logits = model(torch.tensor([whole])).logits[0, len(before) - 1 : len(before) - 1 + len(written)]
                found = torch.log_softmax(logits, dim=-1)[torch.arange(len(written)), written].mean()
                torch.testing.assert_close(scores[row, column], found, atol=2e-5, rtol=2e-5)


def test_llamas_sentence_pieces_would_put_a_space_too_many_before_an_action(loaded: Any) -> None:
    """What an action's text is turned into alone is not what it is behind a prompt."""
    language_model = loaded("Llama 2")
    alone = language_model.tokenizer.encode(" turn left", add_special_tokens=False)
    assert language_model.action_tokens(("turn left",)) == [alone[1:]]


@pytest.mark.parametrize("name", ["GPT-2", "Llama 2", "Gemma"])
def test_where_a_token_reaches_over_the_border_the_prompt_keeps_its_own(name: str, loaded: Any) -> None:
    language_model = loaded(name)
    torn = PromptTemplate("{instruction} {observation} tur", before_action="")
    tokenizer = language_model.tokenizer
    assert tokenizer.tokenize(torn.format(instruction="a", observation="a") + "n left")[-2:] == [
        tokenizer.tokenize("go turn")[-1],
        tokenizer.tokenize("go left")[-1],
    ]
    with pytest.warns(UserWarning, match="makes one token of the end of a prompt, 'a a tur', and the beginning"):
        tokens = language_model.action_tokens(("n left",), torn)[0]
    assert tokenizer.convert_ids_to_tokens(tokens) == ["n", tokenizer.tokenize("go left")[-1]]


def test_a_space_at_the_end_of_a_template_given_as_text_is_moved_to_the_action(loaded: Any) -> None:
    language_model = loaded("GPT-2")
    template = language_model.encoder(template="{instruction} {observation}: ").template
    assert language_model.action_tokens(("turn left",), template) == language_model.action_tokens(("turn left",))


def test_a_beginning_that_the_template_writes_is_not_doubled(loaded: Any) -> None:
    language_model = loaded("Llama 2")
    encoder = language_model.encoder(template=PromptTemplate("<s>{instruction} {observation}:"), max_tokens=64)
    prompt = encoder(WORDS)[0].tolist()
    begin = language_model.tokenizer.bos_token_id
    assert prompt.count(begin) == 1
    assert prompt[0] == begin
    offsets = encoder.offsets("<s>go")
    assert offsets is not None
    assert len(offsets) == len(encoder.tokens("<s>go"))


# -- what a model's configuration does not say -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Flan-T5", "T5", "SmolLM"])
def test_an_output_embedding_of_its_own_stays_one_in_a_checkpoint(name: str, loaded: Any, tmp_path: Path) -> None:
    """`transformers` ties Flan-T5's embeddings wherever no weights tell it otherwise, so a checkpoint must say it."""
    language_model = loaded(name)
    assert language_model.tied == (name != "Flan-T5")
    language_model.save(tmp_path)
    rebuilt = rebuild_language_model(tmp_path, name, language_model.template, tied=language_model.tied)
    rebuilt.model.load_state_dict(language_model.model.state_dict())
    with torch.no_grad():
        tries = Tries([language_model.action_trie(TEXTS, "mean")])
        prompts = torch.as_tensor(language_model.encoder(max_tokens=128)(WORDS)).long()
        scorer = ActionScorer(("encoder-decoder",) if "T5" in name else ("packed",))
        first, second = (scorer(one.model, prompts, tries)[1] for one in (language_model, rebuilt))
    assert torch.equal(first, second)


def test_layers_of_two_kinds_keep_their_kinds_when_the_lower_are_known(loaded: Any) -> None:
    """Gemma 3 takes a layer's rotation from its place in the list."""
    from heed.policies.backbones.hidden_states import read_hidden_states, read_lower_states

    model = loaded("Gemma 3").model
    tokens, read = torch.arange(3, 43)[None], torch.tensor([[39]])
    with torch.no_grad():
        whole = read_hidden_states(model, tokens, read)
        lower = read_lower_states(model, tokens, 1, positions=None, mask=None)
        torch.testing.assert_close(read_hidden_states(model, tokens, read, lower=lower), whole, atol=1e-6, rtol=1e-6)
        kinds, model.config.layer_types = model.config.layer_types, ["sliding_attention"] * 2
        wrong = read_hidden_states(model, tokens, read, lower=lower)
        model.config.layer_types = kinds
    assert not torch.allclose(wrong, whole, atol=1e-4)


@pytest.mark.parametrize("name", ["GPT-2", "Qwen2"])  # one looks positions up, the other computes them
def test_prompts_that_leave_no_position_for_actions_are_refused(name: str, loaded: Any) -> None:
    actions = TextActions(("turn left", "turn right"))
    network = partial(LanguageNetwork, action_space=actions, options=ModelOptions())
    network(loaded(name), encoder=loaded(name).encoder(max_tokens=511))
    with pytest.raises(LanguageModelError, match="lower max_prompt_tokens to 511"):
        network(loaded(name), encoder=loaded(name).encoder(max_tokens=512))


# -- embeddings that stay ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GPT-2", "Qwen3", "T5", "Flan-T5"])
def test_embeddings_stay_and_all_else_trains(name: str, loaded: Any) -> None:
    original = loaded(name)
    weights = copy.deepcopy(original.model.state_dict())
    trained = original.for_training(embeddings=False)
    optimizer = torch.optim.SGD([one for one in trained.model.parameters() if one.requires_grad], lr=1.0)
    scores_of(trained).sum().backward()
    optimizer.step()
    still = {key for key, value in trained.model.state_dict().items() if torch.equal(value, weights[key])}
    expected = {
        "GPT-2": {"transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"},
        "Qwen3": {"model.embed_tokens.weight"},
        "T5": {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"},
        "Flan-T5": {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"},
    }
    assert still == expected[name]
    for key, value in original.model.state_dict().items():
        assert torch.equal(value, weights[key]), "the language model that was given is as it was"
    shared = {weight.data_ptr() for weight in original.model.parameters()}
    for weight in trained.model.parameters():
        assert (weight.data_ptr() in shared) == (not weight.requires_grad)


# -- revisions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "revision"), [("someone/model@v1.0", None), ("someone/model", "v1.0"), ("someone/model@v1.0", "v1.0")]
)
def test_a_revision_reaches_the_hub(name: str, revision: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def refuse(pretrained_model_name_or_path: str, revision: str | None = None, **_: Any) -> None:
        asked.append((pretrained_model_name_or_path, revision))
        raise OSError("no network here")

    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    with pytest.raises(LanguageModelError, match=r"'someone/model' in the revision 'v1.0'"):
        load_language_model(name, revision=revision)
    assert asked == [("someone/model", "v1.0")]


def test_a_revision_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for name in (f"{tmp_path}@main", "someone/model@", "@main"):
        with pytest.raises(LanguageModelError, match=r"has no revision 'main'|is no language model"):
            load_language_model(name)
    with pytest.raises(LanguageModelError, match="names another revision than 'v2'"):
        load_language_model("someone/model@v1", revision="v2")
    with pytest.raises(LanguageModelError, match="ships with heed"):
        load_language_model("heed-tiny@main")
    (tmp_path / "a@b").mkdir()
    with pytest.raises(LanguageModelError, match="holds no whole language model"):  # a folder's name may have an @
        load_language_model(str(tmp_path / "a@b"))
