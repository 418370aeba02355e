"""Auxiliary numbers and pictures: at first they change nothing, and they reach every head."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import ConstantSchedule

from heed.envs.contract import ChangingActions, TextActions
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.caches.batching import Inputs
from heed.policies.heads.trie import Tries
from heed.policies.modalities.fusion import Embedders, action_bias, text_vectors
from heed.policies.modalities.numbers import Symlog
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.prompt_network import PromptNetwork
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.prompts.layout import Actions, Image, Numbers
from heed.policies.q_network import LanguageQPolicy

MODALITIES = (Numbers(2), Image(8, 9, 3))
TEXTS = ("turn left", "turn right", "wait")


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return load_language_model("heed-tiny")


def observations(number: float = 0.5, pixel: int = 7, **more: Any) -> dict[str, Any]:
    return {
        "instruction": ["go to the red ball"] * 2,
        "observation": ["red ball 1 ahead", "wall 2 left"],
        "numbers": np.array([[number, 1.0], [2.0, -3.0]], dtype=np.float32),
        "image": np.full((2, 8, 9, 3), pixel, dtype=np.uint8),
        **more,
    }


def last_layers(network: PromptNetwork) -> list[torch.nn.Linear]:
    """Return the layer of each modality that begins at zero."""
    assert network.auxiliary is not None
    networks: Any = network.auxiliary.networks.values()
    return [layers[-2] for layers in networks]


def let_them_count(network: PromptNetwork) -> None:
    for layer in last_layers(network):
        torch.nn.init.normal_(layer.weight)


def test_symlog_is_what_the_paper_writes() -> None:
    given = torch.tensor([-np.e + 1, 0.0, np.e - 1, 1e6])
    np.testing.assert_allclose(Symlog()(given), [-1, 0, 1, np.log(1e6 + 1)], rtol=1e-5)


@pytest.mark.parametrize("policy_class", [LanguageActorCriticPolicy, LanguageQPolicy])
@pytest.mark.parametrize("head", ["score", "linear"])
def test_an_untrained_policy_decides_by_its_words_and_a_trained_one_by_both(
    tiny: LanguageModel, policy_class: Any, head: Any
) -> None:
    actions: Any = TextActions(TEXTS)
    torch.manual_seed(0)
    with_auxiliary = policy_class(
        tiny.encoder(max_tokens=32, modalities=MODALITIES).space, actions, ConstantSchedule(0.0), model=tiny, head=head
    )
    torch.manual_seed(0)
    words_alone = policy_class(tiny.encoder(max_tokens=32).space, actions, ConstantSchedule(0.0), model=tiny, head=head)
    shared = {name: tensor for name, tensor in with_auxiliary.state_dict().items() if ".auxiliary." not in name}
    words_alone.load_state_dict(shared)

    def numbers_of(policy: Any, given: Any) -> torch.Tensor:
        prompts, _ = policy.obs_to_tensor(given)
        with torch.no_grad():
            if isinstance(policy, LanguageQPolicy):
                return policy.q_net(prompts)  # type: ignore[no-any-return]
            values = policy.predict_values(prompts)
            return torch.cat([policy.get_distribution(prompts).distribution.logits, values], dim=1)

    first = numbers_of(with_auxiliary, observations())
    np.testing.assert_allclose(first, numbers_of(words_alone, observations()), atol=1e-5)
    network: Any = (
        with_auxiliary.q_net.network if isinstance(with_auxiliary, LanguageQPolicy) else with_auxiliary.network
    )
    let_them_count(network)
    now = numbers_of(with_auxiliary, observations())
    assert not torch.allclose(now, first, atol=1e-3)
    for changed in (observations(number=0.6), observations(pixel=90)):
        other = numbers_of(with_auxiliary, changed)
        assert not torch.allclose(other[0], now[0], atol=1e-4), "and every head hears of it"


def test_the_words_are_read_once_however_the_numbers_differ(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny.encoder(max_tokens=32, modalities=(Numbers(1),))
    policy = LanguageActorCriticPolicy(encoder.space, TextActions(TEXTS), ConstantSchedule(0.0), model=tiny)
    given = {
        "instruction": ["wait"] * 5,
        "observation": ["nothing"] * 5,
        "numbers": np.arange(5, dtype=np.float32)[:, None],
    }
    read: list[int] = []
    network = policy.network
    assert isinstance(network, LanguageNetwork)
    before = network._read

    def counting(batch: Inputs) -> torch.Tensor:
        read.append(len(batch.keys))
        return before(batch)

    monkeypatch.setattr(network, "_read", counting)
    prompts, _ = policy.obs_to_tensor(given)
    policy.set_training_mode(True)
    policy.get_distribution(prompts)
    assert read == [1]


def test_a_score_leans_by_the_product_with_its_text(tiny: LanguageModel) -> None:
    tries = Tries([tiny.action_trie(TEXTS, "mean"), tiny.action_trie(("wait",), "mean")])
    vectors = text_vectors(tiny.model, tries).detach()
    embedding: Any = tiny.model.get_input_embeddings()
    tokens = embedding.weight[tiny.action_tokens(TEXTS)[1]].mean(dim=0)
    expected = (tokens - tokens.mean()) / (tokens.var(unbiased=False) + 1e-5).sqrt()
    np.testing.assert_allclose(vectors[0, 1], expected.detach(), atol=1e-4)
    assert (vectors[1, 1:] == 0).all(), "where there is no text"
    given = torch.randn(2, vectors.shape[2], generator=torch.Generator().manual_seed(0))
    leans = action_bias(given, vectors)
    by_hand = float((given[1] * vectors[1, 0]).sum() / vectors.shape[2] ** 0.5)
    assert float(leans[1, 0]) == pytest.approx(by_hand, abs=1e-5)


def test_changing_actions_lean_each_by_its_own(tiny: LanguageModel) -> None:
    encoder = tiny.encoder(max_tokens=32, modalities=(Actions(3), Numbers(2)))
    policy = LanguageActorCriticPolicy(encoder.space, ChangingActions(3), ConstantSchedule(0.0), model=tiny)
    let_them_count(policy.network)
    one = observations(actions=[TEXTS, ("wait", "turn right")])
    other = observations(actions=[TEXTS[::-1], ("turn right", "wait")])
    probabilities = []
    for given in (one, other):
        prompts, _ = policy.obs_to_tensor(given)
        with torch.no_grad():
            distribution: Any = policy.get_distribution(prompts).distribution
        probabilities.append(distribution.probs)
    np.testing.assert_allclose(probabilities[0][0], probabilities[1][0].flip(0), atol=1e-5)
    np.testing.assert_allclose(probabilities[0][1, :2], probabilities[1][1, :2].flip(0), atol=1e-5)
    assert probabilities[0][1, 2] == 0


def test_continuous_actions_hear_of_numbers_too(tiny: LanguageModel) -> None:
    encoder = tiny.encoder(max_tokens=32, modalities=(Numbers(2),))
    actions = spaces.Box(-1, 1, (2,), np.float32)
    policy = LanguageActorCriticPolicy(encoder.space, actions, ConstantSchedule(0.0), model=tiny, head="linear")
    prompts, _ = policy.obs_to_tensor(observations())
    policy.get_distribution(prompts).log_prob(torch.zeros(2, 2)).sum().backward()
    (last,) = last_layers(policy.network)
    gradient = last.weight.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


@pytest.mark.parametrize(("height", "width"), [(3, 3), (84, 84), (60, 80), (36, 36)])
def test_pictures_of_many_sizes(height: int, width: int) -> None:
    image = Image(height, width, 3)
    packed = torch.from_numpy(image.pack(list(np.zeros((2, height, width, 3), dtype=np.uint8))))
    assert Embedders([image], 16)({"image": packed}).shape == (2, 1, 16)
