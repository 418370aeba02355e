"""What each word did: both ways against numbers worked out otherwise, and against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from heed.envs.contract import TextActions
from heed.evaluation.explanation.saliency import embedding_gradient, explain, shifted_embeddings
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.heads.scoring import naive_scores
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.q_network import LanguageQPolicy
from tests.small_models import BUILDERS, ENCODER_DECODERS, WITHOUT_SDPA, build

TEXTS = ("turn left", "turn right", "go forward")
WORDS = {"instruction": "go to the red ball", "observation": "red ball 2 left 3 ahead; wall 1 right"}
POLICIES = (LanguageActorCriticPolicy, LanguageQPolicy)


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return load_language_model("heed-tiny", dtype=torch.float64)


def make_policy(kind: type[Any], language_model: LanguageModel, **arguments: Any) -> Any:
    """A policy in float64, so that finite differences are exact."""
    encoder = language_model.encoder(max_tokens=arguments.pop("max_tokens", 64))
    actions = arguments.pop("actions", TextActions(TEXTS))
    policy = kind(encoder.space, actions, lambda _: 1e-3, model=language_model, **arguments).double()
    if kind is LanguageActorCriticPolicy and policy.options.head == "linear":
        with torch.no_grad():
            policy.action_head.net.weight.mul_(100)  # a first policy is almost uniform, whatever it reads
    return policy


def network_of(policy: Any) -> LanguageNetwork:
    network = policy.network if isinstance(policy, LanguageActorCriticPolicy) else policy.q_net.network
    assert isinstance(network, LanguageNetwork)
    return network


def prompts_of(policy: Any, *pairs: dict[str, str]) -> Tensor:
    prompts: Tensor = policy.obs_to_tensor({key: [pair[key] for pair in pairs] for key in WORDS})[0]
    return prompts


# -- against the definition --------------------------------------------------------------------------------


def test_leaving_a_word_out_is_reading_the_text_without_it(tiny: LanguageModel) -> None:
    policy = make_policy(LanguageActorCriticPolicy, tiny, temperature=0.5)
    saliency = explain(policy, WORDS, action=1)

    def log_probability(instruction: str, observation: str) -> float:
        prompts = prompts_of(policy, {"instruction": instruction, "observation": observation}).long()
        with torch.no_grad():
            scores = naive_scores(policy.network.model, prompts, tiny.action_tokens(TEXTS))
        return float(torch.log_softmax(scores / 0.5, dim=1)[0, 1])

    told, seen = WORDS.values()
    whole = log_probability(told, seen)
    by_hand = [
        (word, whole - log_probability(text, seen))
        for word, text in [
            ("go", "to the red ball"),
            ("to", "go the red ball"),
            ("the", "go to red ball"),
            ("red", "go to the ball"),
            ("ball", "go to the red"),
        ]
    ] + [
        (word, whole - log_probability(told, text))
        for word, text in [
            ("red", "ball 2 left 3 ahead; wall 1 right"),
            ("ball", "red 2 left 3 ahead; wall 1 right"),
            ("2 left", "red ball 3 ahead; wall 1 right"),
            ("3 ahead;", "red ball 2 left wall 1 right"),
            ("wall", "red ball 2 left 3 ahead; 1 right"),
            ("1 right", "red ball 2 left 3 ahead; wall"),
        ]
    ]
    assert saliency.explained == pytest.approx(whole)
    assert [word.text for word in saliency.words] == [word for word, _ in by_hand]
    np.testing.assert_allclose(saliency.leave_one_out, [number for _, number in by_hand], atol=1e-6)
    assert np.abs(saliency.leave_one_out).max() > 0.01


def test_for_q_learning_the_advantage_is_explained(tiny: LanguageModel) -> None:
    policy = make_policy(LanguageQPolicy, tiny)
    with torch.no_grad():
        q_values = policy.q_net(prompts_of(policy, WORDS))[0]
    for action in range(3):
        expected = float(q_values[action] - q_values.mean())
        assert explain(policy, WORDS, action).explained == pytest.approx(expected)
    assert int(explain(policy, WORDS).action) == int(q_values.argmax())


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("head", ["score", "linear"])
def test_the_gradient_is_that_of_making_a_words_embedding_smaller(
    kind: type[Any], head: str, tiny: LanguageModel
) -> None:
    """Of what saliency computes with, nothing is used here: the embedding's own weights change."""
    policy = make_policy(kind, tiny, head=head)
    # Each of these words is one token, which stands nowhere else, in no action either.
    told, seen = WORDS["instruction"].split(), ["wall", "1 right"]
    saliency = explain(policy, WORDS, action=0)
    embedding: Any = network_of(policy).model.get_input_embeddings()
    prompts, action = prompts_of(policy, WORDS), torch.tensor([0])

    def number() -> float:
        network_of(policy).clear_cache()
        with torch.no_grad():
            return float(policy.explained(prompts, action))

    checked = 0
    for word, gradient_x_input in zip(saliency.words, saliency.gradient_x_input, strict=True):
        if word.text not in {*told[:1], *told[1:3], *seen}:
            continue
        (token,) = (int(prompts[0, place]) for place in word.tokens)
        assert (prompts == token).sum() == 1
        row, step = embedding.weight.data[token].clone(), 1e-4
        numbers = []
        for factor in (1 + step, 1 - step):
            embedding.weight.data[token] = row * factor
            numbers.append(number())
        embedding.weight.data[token] = row
        assert gradient_x_input == pytest.approx((numbers[0] - numbers[1]) / (2 * step), abs=1e-6)
        checked += 1
    assert checked == 5
    assert np.abs(saliency.gradient_x_input).max() > 1e-5, "the wrong variant, zero, would fail"


# -- against each other ------------------------------------------------------------------------------------

VOCABULARY = ["<pad>", "<eos>", "<unk>", *TEXTS[0].split(), "right", "go", "forward", "to", "the", "red", "ball", ":"]


def word_level() -> PreTrainedTokenizerFast:
    """Every word one token, for the small models' fifty."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


SMALL_WORDS = {"instruction": "go to the red ball", "observation": "ball left : red right"}


def fading(policy: Any, words: dict[str, str], tokens: tuple[int, ...], step: float) -> float:
    """Return how fast the explained number falls while a word's embeddings begin to fade, by central differences."""
    prompts, action = prompts_of(policy, words), torch.tensor([1])
    prompt = prompts[0][prompts[0] >= 0]
    network = network_of(policy)
    embedding: Any = network.model.get_input_embeddings()
    faded = torch.zeros(len(prompt), embedding.embedding_dim, dtype=torch.float64)
    with torch.no_grad():
        faded[list(tokens)] = embedding(prompt[list(tokens)].long())
        numbers = []
        for sign in (1, -1):
            with (
                network.reading_anew(),
                shifted_embeddings(network.model, [(prompt, torch.arange(len(prompt)))], sign * step * faded),
            ):
                numbers.append(float(policy.explained(prompts, action)))
    return (numbers[0] - numbers[1]) / (2 * step)


@pytest.mark.parametrize("family", [*sorted(set(BUILDERS) - WITHOUT_SDPA), *sorted(ENCODER_DECODERS)])
def test_removing_a_little_of_a_word_comes_to_gradient_x_input(family: str) -> None:
    """Every architecture, each with the way in which it scores actions."""
    language_model = LanguageModel(build(family), word_level(), family)
    for kind, head in ((LanguageActorCriticPolicy, "score"), (LanguageQPolicy, "linear")):
        policy = make_policy(kind, language_model, head=head)
        saliency = explain(policy, SMALL_WORDS, action=1)
        assert len(saliency.words) == 10
        for word, expected in zip(saliency.words, saliency.gradient_x_input, strict=True):
            found = fading(policy, SMALL_WORDS, word.tokens, 1e-4)
            assert found == pytest.approx(expected, abs=1e-6, rel=1e-5)
        assert np.abs(saliency.gradient_x_input).max() > 1e-4


def test_every_way_to_score_gives_the_same_gradient() -> None:
    policy = make_policy(LanguageActorCriticPolicy, LanguageModel(build("llama"), word_level(), "llama"))
    found = {}
    for way in ("packed", "cached", "naive"):
        policy.network.scorer.ways = (way,)
        found[way] = explain(policy, SMALL_WORDS)
    for way in ("cached", "naive"):
        np.testing.assert_allclose(found[way].gradient_x_input, found["packed"].gradient_x_input, atol=1e-9)
        np.testing.assert_allclose(found[way].gradient_norm, found["packed"].gradient_norm, atol=1e-9)
        np.testing.assert_allclose(found[way].leave_one_out, found["packed"].leave_one_out, atol=1e-9)


class Adding(PreTrainedModel):
    """A model whose hidden state is the sum of the embeddings so far: nothing in it is bent."""

    config_class = PretrainedConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(len(load_language_model("heed-tiny").tokenizer), config.hidden_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.embedding(input_ids).cumsum(dim=1))


def test_where_embeddings_just_add_up_both_are_equal() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = PretrainedConfig(**sizes, is_encoder_decoder=False)
    language_model = LanguageModel(Adding(config).double(), load_language_model("heed-tiny").tokenizer, "adding")
    policy = make_policy(LanguageQPolicy, language_model, head="linear")
    for action in range(3):
        saliency = explain(policy, WORDS, action)
        np.testing.assert_allclose(saliency.leave_one_out, saliency.gradient_x_input, atol=1e-12)
        assert np.abs(saliency.leave_one_out).max() > 1e-3
    # Both count the same, so all words together, with the template's, are what is explained.
    prompts = prompts_of(policy, WORDS)
    gradient, embeddings = embedding_gradient(policy, prompts, torch.tensor([2]))
    bias = policy.q_net.advantages.net.bias
    total = float((gradient * embeddings).sum() + (bias[2] - bias.mean()).detach())
    assert total == pytest.approx(saliency.explained)


def test_a_model_that_normalises_its_embeddings_away_gets_no_product_with_them(tiny: LanguageModel) -> None:
    """What gradient x input cannot see: a vector's direction decides all, its length nothing."""
    policy = make_policy(LanguageActorCriticPolicy, tiny)
    with torch.no_grad():
        for layer in policy.network.model.model.layers:
            layer.mlp.down_proj.weight.zero_()
        policy.network.model.model.layers[0].self_attn.o_proj.weight.zero_()
    saliency = explain(policy, WORDS)
    assert np.abs(saliency.leave_one_out).max() > 0.01
    assert saliency.gradient_norm.max() > 0.01
    # Not quite zero: the norm divides by the length and a millionth.
    assert np.abs(saliency.gradient_x_input).max() < 1e-3 * np.abs(saliency.leave_one_out).max()


COLORS = ("red", "green", "blue")
SCENES = ("red ball 2 left; blue key 1 right", "wall 3 ahead; green box 1 ahead", "three buttons")


@pytest.fixture(scope="module")
def trained() -> LanguageActorCriticPolicy:
    """Knows which button to press, whatever else there is to see."""
    language_model = load_language_model("heed-tiny")
    actions = TextActions(tuple(f"press {color}" for color in COLORS))
    policy = LanguageActorCriticPolicy(
        language_model.encoder(max_tokens=64).space, actions, lambda _: 1e-3, model=language_model
    )
    pairs = [(color, scene) for color in range(3) for scene in SCENES]
    prompts, _ = policy.obs_to_tensor(
        {
            "instruction": [f"press the {COLORS[color]} button" for color, _ in pairs],
            "observation": [scene for _, scene in pairs],
        }
    )
    right = torch.tensor([color for color, _ in pairs])
    for _ in range(60):
        loss = -policy.get_distribution(prompts).log_prob(right).mean()
        policy.optimizer.zero_grad()
        loss.backward()
        policy.optimizer.step()
    assert loss.item() < 0.3
    return policy


def test_of_a_trained_policy_both_name_the_word_that_decides(trained: LanguageActorCriticPolicy) -> None:
    for number, color in enumerate(COLORS):
        saliency = explain(trained, {"instruction": f"press the {color} button", "observation": SCENES[2]})
        assert int(saliency.action) == number
        told = [word.text for word in saliency.words]
        assert told[int(saliency.leave_one_out.argmax())] == color
        assert told[int(saliency.gradient_norm.argmax())] == color
        assert saliency.leave_one_out.max() > 0.2


# -- what it must leave alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("train_layers", [None, 1, 0])
@pytest.mark.parametrize("kind", POLICIES)
def test_what_is_frozen_or_remembered_neither_hinders_nor_changes(
    kind: type[Any], train_layers: int | None, tiny: LanguageModel
) -> None:
    policy = make_policy(kind, tiny, train_layers=train_layers)
    whole = make_policy(kind, tiny)
    whole.load_state_dict(policy.state_dict())
    policy.set_training_mode(False)
    network, prompts = network_of(policy), prompts_of(policy, WORDS)
    with torch.no_grad():
        before = network(prompts)
    assert network.memory is not None
    remembered = (len(network.memory), network.memory, network.prefixes, network.frozen, network.is_frozen)
    saliency = explain(policy, WORDS, action=2)
    assert (len(network.memory), network.memory, network.prefixes, network.frozen, network.is_frozen) == remembered
    with torch.no_grad():
        after = network(prompts)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(parameter.grad is None for parameter in policy.parameters())
    assert np.abs(saliency.gradient_x_input).max() > 1e-6
    expected = explain(whole, WORDS, action=2)
    np.testing.assert_allclose(saliency.gradient_x_input, expected.gradient_x_input, atol=1e-9)
    np.testing.assert_allclose(saliency.leave_one_out, expected.leave_one_out, atol=1e-9)


def test_an_error_within_puts_everything_back(tiny: LanguageModel) -> None:
    policy = make_policy(LanguageActorCriticPolicy, tiny)
    memory = policy.network.memory
    with pytest.raises(ValueError, match="7 is not an action"):
        explain(policy, WORDS, action=7)
    assert policy.network.memory is memory
    with (
        pytest.raises(ValueError, match="does not look its tokens up"),
        shifted_embeddings(policy.network.model, [(torch.tensor([1, 2, 3]), torch.arange(3))], torch.zeros(3, 64)),
    ):
        pass
    embedding: Any = policy.network.model.get_input_embeddings()
    assert not embedding._forward_hooks


# -- the rest ----------------------------------------------------------------------------------------------


def test_a_prompt_that_is_cut_is_explained_as_far_as_it_is_seen(tiny: LanguageModel) -> None:
    policy = make_policy(LanguageActorCriticPolicy, tiny, max_tokens=10)
    seen = policy.encoder.seen_of(*WORDS.values())
    assert 0 < len(seen) < len(WORDS["observation"])
    saliency, expected = explain(policy, WORDS), explain(policy, {**WORDS, "observation": seen})
    assert saliency.words == expected.words
    # Leaving a word out lets no other in.
    np.testing.assert_array_equal(saliency.leave_one_out, expected.leave_one_out)


def test_actions_that_are_no_numbers_have_a_log_probability_too(tiny: LanguageModel) -> None:
    for space, action in ((spaces.Box(-1, 1, (2,)), np.array([0.5, -0.5])), (spaces.MultiDiscrete([2, 3]), None)):
        policy = make_policy(LanguageActorCriticPolicy, tiny, head="linear", actions=space)
        saliency = explain(policy, WORDS, action)
        assert saliency.action.shape == (2,)
        assert np.isfinite(saliency.leave_one_out).all()
        assert np.abs(saliency.gradient_x_input).max() > 0


def test_no_words_at_all(tiny: LanguageModel) -> None:
    saliency = explain(make_policy(LanguageActorCriticPolicy, tiny), {"instruction": "", "observation": ""})
    assert saliency.words == ()
    assert saliency.leave_one_out.shape == saliency.gradient_x_input.shape == saliency.gradient_norm.shape == (0,)
