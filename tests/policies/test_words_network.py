"""`heed-words` as a policy's network: what a score depends on, and what goes with such a model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import ConstantSchedule
from torch import Tensor

from heed.envs.contract import ChangingActions, TextActions
from heed.policies import LanguageActorCriticPolicy, load_language_model
from heed.policies.adapters.adapters import Adapter, AdapterError
from heed.policies.modalities.actions import Actions
from heed.policies.modalities.numbers import Numbers
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.networks.words_network import WordsNetwork
from heed.policies.words.model import WordsConfig, WordsModel

ACTIONS = ("take the lamp", "take the kettle", "go north", "wait")
WORDS = {
    "instruction": [
        "take the amber lamp",
        "go to the kitchen; then wait",
        "prends la bouilloire",
        "take the amber lamp",
    ],
    "observation": ["a lamp; a kettle 2 left", "you are in the hall", "a kettle on a shelf 3 ahead; a door", "nothing"],
}
PAD = 48


@pytest.fixture(scope="module")
def words() -> LanguageModel:
    return load_language_model("heed-words")


def policy_for(model: LanguageModel, *, actions: Any = None, modalities: Any = (), **options: Any) -> Any:
    torch.manual_seed(0)
    encoder = model.encoder(max_tokens=PAD, modalities=modalities, template=options.pop("template", None))
    space = TextActions(ACTIONS) if actions is None else actions
    policy = LanguageActorCriticPolicy(encoder.space, space, ConstantSchedule(1e-3), model=model, **options)
    policy.set_training_mode(False)
    return policy


def read(policy: Any, observations: Any = WORDS) -> tuple[Tensor, Tensor | None]:
    with torch.no_grad():
        features, scores = policy.network(policy.obs_to_tensor(observations)[0])
    return features, scores


def changing(lists: list[tuple[str, ...]], row: int = 0) -> dict[str, Any]:
    return {**{key: [texts[row]] * len(lists) for key, texts in WORDS.items()}, "actions": lists}


def test_it_is_the_default_and_has_its_own_network(words: LanguageModel) -> None:
    policy = policy_for(load_language_model())
    assert isinstance(policy.network, WordsNetwork)
    assert isinstance(words.model, WordsModel)
    features, scores = read(policy)
    assert features.shape == (4, words.model.config.hidden_size)
    assert scores is not None
    assert scores.shape == (4, len(ACTIONS))


@pytest.mark.parametrize("head", ["score", "linear"])
def test_neither_padding_nor_what_else_is_read_changes_a_prompt(words: LanguageModel, head: str) -> None:
    together = read(policy_for(words, head=head))
    for row in range(4):
        one = {key: texts[row : row + 1] for key, texts in WORDS.items()}
        alone = read(policy_for(words, head=head), one)
        torch.testing.assert_close(alone[0][0], together[0][row], atol=1e-5, rtol=1e-4)
        if alone[1] is not None and together[1] is not None:
            torch.testing.assert_close(alone[1][0], together[1][row], atol=1e-5, rtol=1e-4)
        else:
            assert head == "linear"


def test_an_actions_score_depends_on_no_other_action(words: LanguageModel) -> None:
    policy = policy_for(words, actions=ChangingActions(4), modalities=(Actions(4),))
    lists = [ACTIONS, ("go north", "take the lamp"), ("take the lamp",), ("dance", "take the lamp", "sing a song")]
    _, scores = read(policy, changing(lists))
    assert scores is not None
    places = [0, 1, 0, 1]
    of_lamp = torch.stack([scores[row, place] for row, place in enumerate(places)])
    torch.testing.assert_close(of_lamp, of_lamp[:1].expand(4), atol=1e-5, rtol=1e-4)
    assert scores.isinf().tolist() == [
        [False] * 4,
        [False, False, True, True],
        [False, True, True, True],
        [False] * 3 + [True],
    ]


def test_fixed_actions_are_scored_as_changing_ones(words: LanguageModel) -> None:
    _, fixed = read(policy_for(words))
    policy = policy_for(words, actions=ChangingActions(6), modalities=(Actions(6),))
    _, listed = read(policy, {**WORDS, "actions": [ACTIONS] * 4})
    assert fixed is not None
    assert listed is not None
    torch.testing.assert_close(listed[:, :4], fixed, atol=1e-5, rtol=1e-4)


def test_an_action_that_names_what_is_told_and_seen_is_not_scored_like_others(words: LanguageModel) -> None:
    _, scores = read(policy_for(words))
    assert scores is not None
    assert scores[0].argmax() == 0, "take the lamp, before any training"


def test_equal_actions_have_equal_scores_wherever_they_stand(words: LanguageModel) -> None:
    policy = policy_for(words, actions=ChangingActions(4), modalities=(Actions(4),))
    _, scores = read(policy, changing([ACTIONS, ACTIONS[::-1]]))
    assert scores is not None
    torch.testing.assert_close(scores[0], scores[1].flip(0), atol=1e-5, rtol=1e-4)


def test_what_was_read_is_kept_until_weights_change(words: LanguageModel) -> None:
    policy = policy_for(words)
    _, first = read(policy)
    assert first is not None
    count = policy.network.tokens_read
    again = read(policy)[1]
    assert again is not None
    assert torch.equal(again, first)
    assert policy.network.tokens_read == count
    with torch.no_grad():
        policy.network.model.score.weight.mul_(2)
    _, after = read(policy)
    assert after is not None
    assert policy.network.tokens_read == 2 * count
    torch.testing.assert_close(after, 2 * first, atol=1e-5, rtol=1e-4)


def test_the_mean_of_vectors_is_that_of_the_weights_that_are_loaded(words: LanguageModel) -> None:
    """A checkpoint's weights come into a network that is there already."""
    policy, other = policy_for(words), policy_for(words)
    features, _ = read(policy)
    read(other)
    with torch.no_grad():
        other.network.model.mean.mul_(-3)
    other.network.clear_cache()
    assert not torch.allclose(read(other)[0], features, atol=1e-3)
    other.load_state_dict(policy.state_dict())
    other.network.clear_cache()
    assert torch.equal(read(other)[0], features)


def test_numbers_beside_the_words_are_added_late(words: LanguageModel) -> None:
    policy = policy_for(words, modalities=(Numbers(2),))
    for weight in policy.network.auxiliary.parameters():
        torch.nn.init.normal_(weight)  # which begin as nothing
    numbers = np.array([[0, 1], [1, 0], [0, 1], [0.5, -1]], dtype=np.float32)
    same = {key: [texts[0]] * 4 for key, texts in WORDS.items()}
    features, scores = read(policy, {**same, "numbers": numbers})
    assert scores is not None
    assert policy.network.tokens_read == 10, "one prompt of ten words"
    torch.testing.assert_close(scores[0], scores[2])
    torch.testing.assert_close(features[0], features[2])
    assert not torch.allclose(scores[0], scores[1], atol=1e-7)


@pytest.mark.parametrize("count", [0, 1, 3, None])
def test_so_many_layers_train(words: LanguageModel, count: int | None) -> None:
    policy = policy_for(words, train_layers=count, **({"head": "linear"} if count == 0 else {}))
    named = dict(policy.network.model.named_parameters())
    layers = {
        name.split(".")[1] for name, weight in named.items() if name.startswith("layers.") and weight.requires_grad
    }
    total = words.model.config.num_hidden_layers
    expected = total if count is None else count
    assert layers == {str(index) for index in range(total - expected, total)}
    assert named["words.projection.weight"].requires_grad is (count is None)
    policy.set_training_mode(True)
    features, scores = policy.network(policy.obs_to_tensor(WORDS)[0])
    assert (features if scores is None else scores).requires_grad is (count != 0)


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"weights": "bfloat16", "adapter": Adapter(rank=2)}])
def test_in_bfloat16_scores_are_near(words: LanguageModel, options: dict[str, Any]) -> None:
    _, exact = read(policy_for(words))
    _, rounded = read(policy_for(words, **options))
    assert exact is not None
    assert rounded is not None
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.1 * float(exact.abs().max()), rtol=0.1)


def test_an_adapter_trains_alone_and_begins_as_the_model(words: LanguageModel) -> None:
    policy = policy_for(words, adapter=Adapter(rank=2))
    trained = [name for name, weight in policy.network.model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    torch.testing.assert_close(read(policy)[1], read(policy_for(words))[1])


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"compiled": True}, ValueError, r"compiled=True is for models of transformers"),
        ({"normalization": "sum"}, ValueError, r"no likelihoods of tokens to normalise: leave normalization='sum' out"),
        ({"adapter": Adapter(method="prefix", virtual_tokens=2)}, AdapterError, r"takes no prefix adapter"),
        ({"train_layers": 9}, ValueError, r"train_layers is 9, but the language model has \d layers"),
        ({"template": "{observation}\n{instruction}"}, ValueError, r"its first line holds the instruction"),
        ({"template": "Do {instruction}. {observation}"}, ValueError, r"its first line holds the instruction"),
    ],
)
def test_what_does_not_go_with_it_is_refused(words: LanguageModel, options: Any, kind: Any, told: str) -> None:
    with pytest.raises(kind, match=told):
        policy_for(words, **options)


def test_activation_checkpointing_changes_no_gradient(words: LanguageModel) -> None:
    def gradients(**options: Any) -> dict[str, Tensor]:
        policy = policy_for(words, **options)
        policy.set_training_mode(True)
        features, scores = policy.network(policy.obs_to_tensor(WORDS)[0])
        (features.sum() + scores.square().sum()).backward()
        return {name: weight.grad for name, weight in policy.network.named_parameters() if weight.grad is not None}

    plain, frugal = gradients(), gradients(activation_checkpointing=True)
    assert plain.keys() == frugal.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(frugal[name], gradient, atol=1e-4, rtol=1e-3)


def test_a_template_of_ones_own_whose_first_line_is_the_instruction(words: LanguageModel) -> None:
    policy = policy_for(words, template="Task: {instruction}\nYou see: {observation}")
    assert not torch.allclose(read(policy)[0], read(policy_for(words))[0], atol=1e-4)


def test_nothing_told_or_seen_is_a_prompt_like_others(words: LanguageModel) -> None:
    empty = {"instruction": ["", "take the lamp", ""], "observation": ["a lamp", "", ""]}
    features, scores = read(policy_for(words), empty)
    assert scores is not None
    assert bool(features.isfinite().all() and scores.isfinite().all())
    broken = {"instruction": ["take\nthe\r\nlamp"], "observation": ["a lamp"]}
    whole = {"instruction": ["take the lamp"], "observation": ["a lamp"]}
    torch.testing.assert_close(read(policy_for(words), broken)[1], read(policy_for(words), whole)[1])


def test_it_is_shared_and_loaded_as_a_folder(words: LanguageModel, tmp_path: Path) -> None:
    words.share(tmp_path / "mine")
    loaded = load_language_model(str(tmp_path / "mine"))
    assert isinstance(loaded.model, WordsModel)
    assert loaded.fingerprint() == words.fingerprint()
    assert isinstance(words.model, WordsModel)
    assert torch.equal(loaded.model.mean, words.model.mean)
    assert torch.equal(read(policy_for(loaded))[0], read(policy_for(words))[0])


def test_it_ships_and_has_no_revision() -> None:
    with pytest.raises(LanguageModelError, match="revision"):
        load_language_model("heed-words", revision="v2")


def test_another_size_is_of_the_same_kind(words: LanguageModel) -> None:
    torch.manual_seed(0)
    model = WordsModel(WordsConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=8192))
    small = LanguageModel(model.train(False), words.tokenizer, "small", words.template)
    features, scores = read(policy_for(small))
    assert features.shape == (4, 16)
    assert scores is not None
