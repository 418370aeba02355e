"""Frozen encoders that read segments: where texts are split, what is read, and what the network on top begins with."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from heed.envs.contract import TextActions
from heed.evaluation.explanation.saliency import explain
from heed.policies import LanguageActorCriticPolicy, LanguageModel, LanguageQPolicy, load_language_model
from heed.policies.model_options import ModelOptions
from heed.policies.networks.choosing import make_network, reads_segments
from heed.policies.networks.segment_network import SegmentNetwork
from heed.policies.networks.segment_reader import FIRST_LOOKS, SHARPNESS, Round, SegmentReader, standardised
from heed.policies.prompts.segments import SegmentEncoder
from heed.policies.prompts.words import words_of
from tests.small_encoders import POSITIONS, save_encoder

WORDS = {
    "instruction": ["see the door ? go to it", "go to the red ball", "", "go to the red ball"],
    "observation": [
        "red ball 2 ahead; wall 4 ahead",
        "wall 4 ahead. red ball 2 ahead\nwall 1 left",
        "wall 4 ahead",
        "",
    ],
}
SEGMENTS = [
    ["see the door ? go to it", "red ball 2 ahead", "wall 4 ahead"],
    ["go to the red ball", "wall 4 ahead.", "red ball 2 ahead", "wall 1 left"],
    ["", "wall 4 ahead"],
    ["go to the red ball"],
]


@pytest.fixture(scope="module", params=["minilm", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(request.param, tmp_path_factory.mktemp("segments") / request.param)


@pytest.fixture(scope="module")
def language_model(folder: Path) -> LanguageModel:
    return load_language_model(str(folder), dtype=torch.float64)


def encoder_of(language_model: LanguageModel, **arguments: Any) -> SegmentEncoder:
    encoder = language_model.encoder(max_tokens=48, segments=True, **arguments)
    assert isinstance(encoder, SegmentEncoder)
    return encoder


def network_of(language_model: LanguageModel) -> tuple[SegmentNetwork, Tensor]:
    encoder = encoder_of(language_model)
    torch.manual_seed(0)
    network = make_network(
        language_model, spaces.Discrete(3), ModelOptions(head="linear", train_layers=0), encoder=encoder
    )
    assert isinstance(network, SegmentNetwork)
    network.double()
    for weight in network.reader.parameters():  # some of them begin at zero
        nn.init.normal_(weight, std=0.3)
    return network, torch.as_tensor(encoder(WORDS))


def test_the_instruction_is_one_segment_and_observations_are_split(language_model: LanguageModel) -> None:
    encoder = encoder_of(language_model)
    for row, expected in zip(encoder(WORDS), SEGMENTS, strict=True):
        segments = encoder.split(row[row >= 0])
        tokenizer = language_model.tokenizer
        assert [one.tolist() for one in segments] == [tokenizer.encode(t, add_special_tokens=False) for t in expected]


def test_a_separator_that_a_text_spells_out_separates_nothing(language_model: LanguageModel) -> None:
    encoder = encoder_of(language_model)
    separator = language_model.tokenizer.sep_token
    words = {"instruction": [f"go {separator} to\nthe"], "observation": [f"red {separator} ball"]}
    row = encoder(words)[0]
    assert len(encoder.split(row[row >= 0])) == 2  # instruction, with its line break, and observation


def test_a_segment_that_is_too_long_for_the_encoder_becomes_several(language_model: LanguageModel) -> None:
    encoder = language_model.encoder(max_tokens=400, segments=True)
    assert isinstance(encoder, SegmentEncoder)
    row = encoder({"instruction": ["go"], "observation": ["red " * 100]})[0]
    lengths = [len(one) for one in encoder.split(row[row >= 0])]
    assert max(lengths[1:]) == POSITIONS - 2  # a special token before and one behind
    assert encoder.offsets("go\n" + "red " * 100) is not None
    assert len(encoder.offsets("go\n" + "red " * 100) or ()) == len(row[row >= 0])


def test_vectors_are_those_of_each_segment_read_alone(folder: Path, language_model: LanguageModel) -> None:
    network, prompts = network_of(language_model)
    model = AutoModel.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        features = network(prompts)[0]
        for row, segments in enumerate(SEGMENTS):
            alone = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in segments]
            expected = network.reader(torch.stack(alone), torch.arange(len(alone))[None]).features[0]
            torch.testing.assert_close(features[row], expected, rtol=1e-6, atol=1e-6)
    assert (features[1] - features[3]).abs().max() > 1e-2


def test_each_different_segment_is_read_once(language_model: LanguageModel) -> None:
    network, prompts = network_of(language_model)
    different = {text for segments in SEGMENTS for text in segments}
    expected = sum(len(language_model.tokenizer.encode(text)) for text in different)
    network(prompts)
    network.train(True)
    network(prompts.flip(0))
    assert network.tokens_read == expected


def test_training_and_acting_compute_the_same(language_model: LanguageModel) -> None:
    network, prompts = network_of(language_model)
    with torch.no_grad():
        acting = network.train(False)(prompts)[0]
    training = network.train(True)(prompts)[0]
    torch.testing.assert_close(acting, training, rtol=1e-12, atol=1e-12)
    training.sum().backward()
    assert all(weight.grad is None for weight in network.model.parameters())
    assert network.reader.content.weight.grad is not None
    assert network.reader.content.weight.grad.abs().max() > 0


def test_attention_begins_at_the_similarity_with_the_instruction() -> None:
    torch.manual_seed(0)
    one = Round(8, FIRST_LOOKS).double()
    segments = torch.randn(1, 3, 8, dtype=torch.float64)
    cosines = torch.tensor([[0.6, 0.5, 0.9]], dtype=torch.float64)
    real = torch.tensor([[True, True, False]])
    state = torch.zeros(1, 8, dtype=torch.float64)
    with torch.no_grad():
        value = one.value(segments)[0]
        nearest = 1 / (1 + math.exp(-SHARPNESS * 0.1))  # of two, by their difference
        sharp, plain = (w * value[0] + (1 - w) * value[1] for w in (nearest, 0.5))
        after = one.out(torch.cat([sharp[:4], plain[4:]]))[None]
        expected = after + one.feed_forward(one.forward_norm(after))
        torch.testing.assert_close(one(state[:, None], segments, cosines[:, None, None], real)[:, 0], expected)


def test_similarities_are_standardised_within_their_prompt() -> None:
    cosines = torch.tensor([[0.2, 0.4, 0.9], [0.5, 0.0, 0.0]])
    real = torch.tensor([[True, True, False], [True, False, False]])
    expected = torch.tensor([[-0.1 / 0.15, 0.1 / 0.15, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(standardised(cosines, real), expected)


def test_a_new_reader_knows_the_instruction_by_its_similarities_alone() -> None:
    torch.manual_seed(0)
    reader = SegmentReader(6)
    basis = torch.linalg.qr(torch.randn(6, 6))[0]
    vectors = torch.stack([basis[0] + basis[1], basis[2], basis[0], basis[1]])
    first, second, other = reader(vectors, torch.tensor([[2, 0, 1], [3, 0, 1], [1, 0, 1]])).features
    torch.testing.assert_close(first, second)  # other words, equally near to all that is seen
    assert (first - other).abs().max() > 0.1


@pytest.mark.parametrize("head", ["linear", "score"])
@pytest.mark.parametrize("kind", [LanguageActorCriticPolicy, LanguageQPolicy])
def test_what_words_did_is_explained(kind: type[Any], head: str, language_model: LanguageModel) -> None:
    encoder = encoder_of(language_model)
    torch.manual_seed(0)
    actions = TextActions(("go left", "go right"))
    options = {"head": head, "train_layers": 0, "precision": "float32"}
    policy = kind(encoder.space, actions, lambda _: 1e-3, model=language_model, **options).double()
    last = policy.action_head if kind is LanguageActorCriticPolicy else policy.q_net.advantages
    nn.init.normal_(last.net.weight if head == "linear" else policy.reader.actions.score.weight)
    words = {"instruction": "go to the red ball", "observation": "wall 4 ahead; red ball 2 ahead"}
    explained = explain(policy, words, action=1)
    assert [word.text for word in explained.words] == re.split(" ", " ".join(words.values()))
    assert np.abs(explained.leave_one_out).max() > 1e-3
    # The gradient, held against a step: every token of "red" in the observation, its embedding a little longer.
    place = next(n for n, word in enumerate(explained.words) if word.text == "red" and word.part == "observation")
    step = 1e-4
    numbers = [_with_longer_embedding(policy, words, place, factor) for factor in (1 + step, 1 - step)]
    slope = (numbers[0] - numbers[1]) / (2 * step)
    assert explained.gradient_x_input[place] == pytest.approx(slope, rel=1e-4, abs=1e-7)


def _with_longer_embedding(policy: Any, words: dict[str, str], place: int, factor: float) -> float:
    """Return what is explained of action 1 when the embeddings of one word of the third segment are longer."""
    encoder = policy.encoder
    word = words_of(encoder, **words)[place]
    prompt = torch.as_tensor(encoder({key: [text] for key, text in words.items()}))
    start = len(encoder.split(prompt[0][prompt[0] >= 0].numpy())[0]) + 1
    start += len(encoder.split(prompt[0][prompt[0] >= 0].numpy())[1]) + 1
    inside = [token - start + 1 for token in word.tokens]  # behind the first special token
    network = policy.network if isinstance(policy, LanguageActorCriticPolicy) else policy.q_net.network
    ids = torch.as_tensor(network.pieces(prompt[0][prompt[0] >= 0])[2][0])

    def longer(_: nn.Module, arguments: Any, named: dict[str, Any], embeddings: Tensor) -> Tensor:
        tokens = arguments[0] if arguments else named["input"]
        changed = embeddings.clone()
        for row in range(len(tokens)):
            if torch.equal(tokens[row, : len(ids)], ids):
                changed[row, inside] *= factor
        return changed

    hook = network.model.get_input_embeddings().register_forward_hook(longer, with_kwargs=True)
    network.clear_cache()
    try:
        with torch.no_grad():
            if isinstance(policy, LanguageActorCriticPolicy):
                return float(policy.get_distribution(prompt).log_prob(torch.tensor([1])))
            values = policy.q_net(prompt)[0]
            return float(values[1] - values.mean())
    finally:
        hook.remove()
        network.clear_cache()


def test_what_segments_do_not_go_with_is_said(language_model: LanguageModel) -> None:
    encoder = encoder_of(language_model)
    with pytest.raises(ValueError, match="Leave normalization='sum' out"):
        make_network(
            language_model, TextActions(("a", "b")), ModelOptions(train_layers=0, normalization="sum"), encoder=encoder
        )
    with pytest.raises(ValueError, match="at most"):
        make_network(language_model, TextActions(("a", "b " * 200)), ModelOptions(train_layers=0), encoder=encoder)
    with pytest.raises(ValueError, match="the encoder cannot train"):
        make_network(language_model, spaces.Discrete(2), ModelOptions(head="linear"), encoder=encoder)
    with pytest.raises(ValueError, match="its first line holds the instruction"):
        encoder_of(language_model, template="{observation}\n{instruction}")
    with pytest.raises(ValueError, match="is no encoder"):
        load_language_model("heed-tiny").encoder(segments=True)


def test_segments_are_read_wherever_they_can_be(language_model: LanguageModel) -> None:
    frozen = ModelOptions(head="linear", train_layers=0)
    assert reads_segments(language_model, frozen, None)
    assert not reads_segments(language_model, frozen, False)
    assert reads_segments(language_model, ModelOptions(train_layers=0), None)
    assert not reads_segments(language_model, ModelOptions(head="linear"), None)
    assert not reads_segments(load_language_model("heed-tiny"), frozen, None)


def test_the_direction_of_a_vector_is_what_counts() -> None:
    torch.manual_seed(0)
    reader, vectors, index = SegmentReader(6), torch.randn(4, 6), torch.arange(4)[None]
    as_long = functional.normalize(vectors, dim=-1) * 7
    torch.testing.assert_close(reader(vectors, index).features, reader(as_long, index).features)
