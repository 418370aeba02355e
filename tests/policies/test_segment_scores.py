"""Scores of action texts that a frozen encoder reads as segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from heed.envs.contract import ChangingActions, TextActions
from heed.policies import LanguageActorCriticPolicy, LanguageModel, LanguageQPolicy, load_language_model
from heed.policies.heads.zero_shot import score_action_texts
from heed.policies.modalities.actions import Actions
from heed.policies.modalities.numbers import Numbers
from heed.policies.model_options import ModelOptions
from heed.policies.networks.action_reader import ActionReader
from heed.policies.networks.choosing import make_network
from heed.policies.networks.segment_network import SegmentNetwork
from heed.policies.networks.segment_reader import DEVIATION, SHARPNESS, Look, SegmentReader
from tests.small_encoders import POSITIONS, save_encoder

TEXTS = ("turn left", "pick up the red ball", "go to the door", "open", "drop it")
WORDS: dict[str, Any] = {
    "instruction": ["go to the red ball", "go to the red ball", "open the door", ""],
    "observation": ["red ball 2 ahead; wall 4 ahead", "red ball 2 ahead; wall 4 ahead", "door 1 left", ""],
}
LISTED = [(TEXTS[0], TEXTS[1]), (TEXTS[3], TEXTS[1], TEXTS[2], TEXTS[0]), TEXTS, (TEXTS[4],)]
FROZEN = ModelOptions(train_layers=0)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder: Path = save_encoder("minilm", tmp_path_factory.mktemp("scores") / "minilm")
    return load_language_model(str(folder), dtype=torch.float64)


def network_of(language_model: LanguageModel, space: spaces.Space[Any], *modalities: Any) -> SegmentNetwork:
    """Return a network of which no weight is where it begins."""
    encoder = language_model.encoder(max_tokens=48, segments=True, modalities=modalities)
    network = make_network(language_model, space, FROZEN, encoder=encoder)
    assert isinstance(network, SegmentNetwork)
    network.double()
    if network.auxiliary is not None:
        network.auxiliary.float()  # numbers come in single precision
    torch.manual_seed(0)
    for name, weight in network.named_parameters():
        if not name.startswith("model."):
            nn.init.normal_(weight, std=0.3)
    return network


def scores_of(network: SegmentNetwork, words: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        scores: Tensor | None = network(torch.as_tensor(network._encoder(words)))[1]
    assert scores is not None
    return scores


def test_a_score_does_not_depend_on_which_other_actions_are_offered(language_model: LanguageModel) -> None:
    fixed = scores_of(network_of(language_model, TextActions(TEXTS)), WORDS)
    changing = scores_of(network_of(language_model, ChangingActions(6), Actions(6)), {**WORDS, "actions": LISTED})
    assert changing.shape == (4, 6)
    for row, texts in enumerate(LISTED):
        expected = fixed[row, [TEXTS.index(text) for text in texts]]
        torch.testing.assert_close(changing[row, : len(texts)], expected, rtol=1e-9, atol=1e-9)
        assert bool((changing[row, len(texts) :] == -torch.inf).all())
    assert (fixed[0] - fixed[2]).abs().max() > 1e-3  # but it does on the prompt
    assert fixed[0].std() > 1e-3  # and on the action


def test_each_different_text_is_read_once_whether_it_is_seen_or_an_action(language_model: LanguageModel) -> None:
    network = network_of(language_model, ChangingActions(6), Actions(6))
    words = {**WORDS, "actions": [*LISTED[:3], ("wall 4 ahead",)]}
    different = {
        *TEXTS[:5],
        "go to the red ball",
        "open the door",
        "",
        "red ball 2 ahead",
        "wall 4 ahead",
        "door 1 left",
    }
    expected = sum(len(language_model.tokenizer.encode(text)) for text in different)
    scores_of(network, words)
    scores_of(network.train(True), {key: list(reversed(value)) for key, value in words.items()})
    assert network.tokens_read == expected


def test_what_similarities_tell_of_an_action() -> None:
    look = Look(
        features=torch.zeros(1, 1),
        instruction=torch.tensor([[1.0, 0.0]]),
        seen=torch.tensor([[[0.6, 0.8], [0.0, 1.0], [1.0, 0.0]]]),
        segments=torch.zeros(1, 3, 1),
        cosines=torch.tensor([[0.6, 0.0, 1.0]]),
        deviations=torch.tensor([[2.0, -2.0, 9.0]]),
        real=torch.tensor([[True, True, False]]),  # the third is padding
    )
    action = torch.tensor([0.0, 1.0])
    marks = ActionReader(2, width=4)._marks(
        (look.instruction @ action)[None, :, None], (look.seen @ action)[:, None, :], look
    )[0, 0]
    weight = 1 / (1 + np.exp(-SHARPNESS * 0.2))  # of the second segment, which is nearer by 0.2
    expected = [0.0, (0.0 - 0.3) / (0.3 + DEVIATION), 1.0, -2.0 * weight + 2.0 * (1 - weight)]
    np.testing.assert_allclose(marks, expected, rtol=1e-5)


def test_an_action_is_looked_for_among_the_segments_by_its_similarity() -> None:
    torch.manual_seed(0)
    reader, actions = SegmentReader(8), ActionReader(8)
    vectors, texts, index = torch.eye(8), torch.eye(8)[1:3], torch.tensor([[0, 1]])
    nn.init.normal_(actions.score.weight)
    nn.init.zeros_(actions.content.weight)  # all that tells actions apart is what lies near them
    with torch.no_grad():
        # The instruction first, and two segments.
        scores, of_swapped = actions(texts, index, reader(vectors, torch.tensor([[0, 1, 2], [0, 2, 1]])))
    assert (scores[0] - scores[1]).abs() > 1e-2
    torch.testing.assert_close(scores, of_swapped)  # a new reader knows no places


def test_a_first_policy_is_almost_uniform(language_model: LanguageModel) -> None:
    encoder = language_model.encoder(max_tokens=48, segments=True, modalities=(Actions(6),))
    space = ChangingActions(6)
    policy = LanguageActorCriticPolicy(
        encoder.space, space, lambda _: 1e-3, model=language_model, train_layers=0
    ).double()
    prompts = torch.as_tensor(encoder({**WORDS, "actions": LISTED}))
    with torch.no_grad():
        distribution: Any = policy.get_distribution(prompts).distribution
    probabilities = distribution.probs
    for row, texts in zip(probabilities, LISTED, strict=True):
        expected = torch.full((len(texts),), 1 / len(texts))
        torch.testing.assert_close(row[: len(texts)], expected, rtol=0.15, atol=0, check_dtype=False)
        assert float(row[len(texts) :].sum()) == 0


def test_q_values_are_those_of_the_actions_there_are(language_model: LanguageModel) -> None:
    encoder = language_model.encoder(max_tokens=48, segments=True, modalities=(Actions(6),))
    space: Any = ChangingActions(6)
    policy = LanguageQPolicy(encoder.space, space, lambda _: 1e-3, model=language_model, train_layers=0).double()
    q_values = policy.q_net(torch.as_tensor(encoder({**WORDS, "actions": LISTED}))).detach()
    assert [int(row.isfinite().sum()) for row in q_values] == [len(texts) for texts in LISTED]


@pytest.mark.parametrize("changing", [False, True])
def test_numbers_speak_for_actions_by_their_texts(changing: bool, language_model: LanguageModel) -> None:
    modalities = (Actions(6), Numbers(2)) if changing else (Numbers(2),)
    network = network_of(language_model, ChangingActions(6) if changing else TextActions(TEXTS), *modalities)
    words = {**WORDS, "actions": LISTED, "numbers": np.array([[1, 2], [1, 2], [-3, 0], [0, 0]], dtype=np.float32)}
    rows = torch.as_tensor(network._encoder(words))
    with torch.no_grad():
        scores = network(rows)[1]
        assert network.auxiliary is not None
        assert network.actions is not None
        perceived = network.auxiliary(network.layout.split(rows).packed).sum(dim=1)
        network.auxiliary = None
        alone = network(rows)[1]
        for row, texts in enumerate(LISTED if changing else [TEXTS] * 4):
            for place, text in enumerate(texts):
                (key,) = network._keys_of([network._action_texts.texts.index(text)])
                content = network.actions.contents(network._vectors([key], torch.device("cpu")))[0]
                told = (functional.layer_norm(content, content.shape) * perceived[row]).sum() / 128**0.5  # D
                torch.testing.assert_close(scores[row, place], alone[row, place] + told, rtol=1e-8, atol=1e-8)
    assert (scores - alone).nan_to_num().abs().max() > 1e-2


def test_actions_that_are_no_segments_are_refused(language_model: LanguageModel) -> None:
    network = network_of(language_model, ChangingActions(6), Actions(6))
    long = "drop it " * POSITIONS
    words = {key: value[:2] for key, value in WORDS.items()}
    refused = network._encoder.refused({**words, "actions": [("open", long), ("open",)]})
    assert list(refused) == [0]
    assert "at most 94 at once" in str(refused[0])


def test_texts_with_the_same_tokens_get_the_same_score(language_model: LanguageModel) -> None:
    scores = scores_of(network_of(language_model, TextActions(("turn left", "turn  left"))), WORDS)
    torch.testing.assert_close(scores[:, 0], scores[:, 1], rtol=1e-12, atol=1e-12)


def test_nothing_in_view_and_one_thing_in_view_have_gradients(language_model: LanguageModel) -> None:
    network = network_of(language_model, TextActions(TEXTS))
    words = {"instruction": ["open", "open"], "observation": ["", "door 1 left"]}
    with network.reading_anew():
        features, scores = network(torch.as_tensor(network._encoder(words)))
        assert scores is not None
        (features.sum() + scores.sum()).backward()
    grads = [weight.grad for weight in network.model.parameters() if weight.grad is not None]
    assert all(bool(grad.isfinite().all()) for grad in grads)


def test_an_encoder_has_no_opinion_untrained(language_model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="is an encoder"):
        score_action_texts(language_model, {"instruction": ["a"], "observation": ["b"]}, [["c"]])
