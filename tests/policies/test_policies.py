"""Both policies under plain SB3, and a test for each of SB3's traps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from transformers import GPT2Config, GPT2LMHeadModel

from heed.envs.contract import TextActions
from heed.envs.make import make
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.heads.scoring import naive_scores
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.prompts.layout import PADDING
from heed.policies.prompts.prompt import PromptVecEnv
from heed.policies.q_network import LanguageQPolicy
from tests.small_models import build

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
TEXTS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle", "done")
WORDS = {"instruction": "go to the red ball", "observation": "red ball 2 left 3 ahead; wall 1 right"}


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return load_language_model("heed-tiny")


def prompt_env(language_model: LanguageModel, n_envs: int = 2, max_tokens: int = 64) -> PromptVecEnv:
    return PromptVecEnv(make(LEVEL, n_envs=n_envs, seed=0), language_model.encoder(max_tokens=max_tokens))


def make_policy(kind: type[Any], language_model: LanguageModel, **arguments: Any) -> Any:
    space = language_model.encoder(max_tokens=64).space
    return kind(space, arguments.pop("actions", TextActions(TEXTS)), lambda _: 1e-3, model=language_model, **arguments)


@pytest.mark.parametrize("head", ["score", "linear"])
@pytest.mark.parametrize(
    ("algorithm", "policy", "arguments"),
    [
        (PPO, LanguageActorCriticPolicy, {"n_steps": 8, "batch_size": 8, "n_epochs": 1}),
        (A2C, LanguageActorCriticPolicy, {"n_steps": 4}),
        (DQN, LanguageQPolicy, {"learning_starts": 8, "batch_size": 8, "buffer_size": 100, "n_steps": 2}),
    ],
)
def test_they_train_inside_plain_sb3(
    algorithm: type[BaseAlgorithm], policy: Any, arguments: dict[str, Any], head: str, tiny: LanguageModel
) -> None:
    agent = algorithm(policy, prompt_env(tiny), policy_kwargs={"model": tiny, "head": head}, seed=0, **arguments)
    before = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
    agent.learn(32)
    after = agent.policy.state_dict()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("network.model" in name for name in moved), "the language model learns"
    action, _ = agent.predict(WORDS, deterministic=True)  # type: ignore[arg-type]
    assert 0 <= int(action) < len(TEXTS)


@pytest.mark.parametrize("kind", [LanguageActorCriticPolicy, LanguageQPolicy])
def test_words_and_prompts_give_the_same_actions(kind: type[Any], tiny: LanguageModel) -> None:
    policy = make_policy(kind, tiny)
    batch = {"instruction": ["go to the red ball"] * 2, "observation": ["red ball 1 ahead", "nothing"]}
    prompts = policy.encoder(batch)
    actions, _ = policy.predict(batch, deterministic=True)
    assert actions.shape == (2,)
    np.testing.assert_array_equal(actions, policy.predict(prompts, deterministic=True)[0])
    single, _ = policy.predict(WORDS, deterministic=True)
    assert single.shape == ()
    assert single == policy.predict(policy.encoder({k: [v] for k, v in WORDS.items()})[0], deterministic=True)[0]


def test_the_distribution_is_the_softmax_of_the_naive_scores(tiny: LanguageModel) -> None:
    policy = make_policy(LanguageActorCriticPolicy, tiny, temperature=0.5)
    prompts, _ = policy.obs_to_tensor(WORDS)
    with torch.no_grad():
        scores = naive_scores(policy.network.model, prompts.long(), tiny.action_tokens(TEXTS))
        probabilities = policy.get_distribution(prompts).distribution.probs
    torch.testing.assert_close(probabilities, torch.softmax(scores / 0.5, dim=1))


def test_q_values_are_a_dueling_of_value_and_scores(tiny: LanguageModel) -> None:
    policy = make_policy(LanguageQPolicy, tiny)
    prompts, _ = policy.obs_to_tensor(WORDS)
    with torch.no_grad():
        policy.q_net.advantages.scale.fill_(3.0)
        features, scores = policy.q_net.network(prompts)
        expected = policy.q_net.state_value(features) + 3.0 * (scores - scores.mean())
        torch.testing.assert_close(policy.q_net(prompts), expected)
        assert policy.q_net(prompts).mean().item() == pytest.approx(policy.q_net.state_value(features).item(), abs=1e-5)


@pytest.mark.parametrize(
    "space", [spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Discrete(4)]
)
def test_the_linear_head_takes_every_action_space_of_ppo(space: spaces.Space[Any], tiny: LanguageModel) -> None:
    policy = make_policy(LanguageActorCriticPolicy, tiny, head="linear", actions=space)
    action, _ = policy.predict(WORDS)
    assert space.contains(action if space.shape else int(action))


def test_equal_prompts_get_equal_rows(tiny: LanguageModel) -> None:
    prompts = torch.tensor([[5, 6, PADDING, PADDING], [7, PADDING, PADDING, PADDING], [5, 6, PADDING, PADDING]])
    network = LanguageNetwork(tiny, TextActions(TEXTS), ModelOptions())
    _, scores = network(prompts.to(torch.int16))
    assert scores is not None
    assert torch.equal(scores[0], scores[2])
    assert not torch.equal(scores[0], scores[1])
    alone = network(prompts[1:2].to(torch.int16))[1]
    torch.testing.assert_close(scores[1:2], alone)


def test_reading_in_chunks_of_like_length_changes_nothing(tiny: LanguageModel) -> None:
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(2, 100, (300, 30), generator=generator)
    for row, length in enumerate(torch.randint(1, 31, (300,), generator=generator)):
        prompts[row, int(length) :] = PADDING
    network = LanguageNetwork(tiny, TextActions(TEXTS), ModelOptions())
    with torch.no_grad():
        features, scores = network(prompts)
        assert scores is not None
        for row in (0, 7, 123, 299):
            alone_features, alone_scores = network(prompts[row : row + 1])
            torch.testing.assert_close(features[row : row + 1], alone_features, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(scores[row : row + 1], alone_scores, atol=1e-4, rtol=1e-4)


def test_shared_probabilities_close_an_action_that_another_goes_on_from(tiny: LanguageModel) -> None:
    texts = TextActions(("go", "go to", "done"))
    network = LanguageNetwork(tiny, texts, ModelOptions(normalization="constrained"))
    scores = network(torch.tensor([[5, 6], [7, 8]]))[1]
    assert scores is not None
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(2))


# -- SB3's traps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LanguageActorCriticPolicy, LanguageQPolicy])
def test_trap_orthogonal_initialisation_leaves_the_language_model_alone(kind: type[Any], tiny: LanguageModel) -> None:
    policy = make_policy(kind, tiny)
    network = policy.network if kind is LanguageActorCriticPolicy else policy.q_net.network
    for ours, loaded in zip(network.model.parameters(), tiny.model.parameters(), strict=True):
        assert torch.equal(ours, loaded)


def with_dropout(tiny: LanguageModel) -> LanguageModel:
    config = GPT2Config(vocab_size=tiny.vocabulary, n_layer=1, n_embd=16, n_head=2, n_positions=64)
    assert config.resid_pdrop == config.attn_pdrop == 0.1
    return LanguageModel(GPT2LMHeadModel(config), tiny.tokenizer, "with-dropout")


def test_trap_dropout_does_not_make_ppos_ratio_noise(tiny: LanguageModel) -> None:
    model = with_dropout(tiny)
    arguments: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "learning_rate": 0.0}
    agent = PPO(LanguageActorCriticPolicy, prompt_env(model), policy_kwargs={"model": model}, seed=0, **arguments)
    agent.learn(32)
    assert agent.logger.name_to_value["train/approx_kl"] == pytest.approx(0.0, abs=1e-7)
    assert agent.logger.name_to_value["train/clip_fraction"] == 0.0
    model.model.train()  # the wrong variant: with dropout on, the same prompts give different scores
    prompts = torch.tensor([[1, 2, 3]])
    assert not torch.equal(model.model(prompts).logits, model.model(prompts).logits)


def test_trap_a_model_instance_is_not_shared_by_online_and_target_network(tiny: LanguageModel) -> None:
    policy = make_policy(LanguageQPolicy, tiny)
    online, target = policy.q_net.network.model, policy.q_net_target.network.model
    assert online is not target
    assert online is not tiny.model
    before = [parameter.clone() for parameter in target.parameters()]
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, target.parameters(), strict=True))
    assert make_policy(LanguageActorCriticPolicy, tiny).network.model is not tiny.model


@pytest.mark.parametrize("head", ["score", "linear"])
@pytest.mark.parametrize("kind", [LanguageActorCriticPolicy, LanguageQPolicy])
def test_trap_the_optimizer_holds_every_parameter_once(kind: type[Any], head: str, tiny: LanguageModel) -> None:
    policy = make_policy(kind, tiny, head=head)
    held = [id(parameter) for group in policy.optimizer.param_groups for parameter in group["params"]]
    learned = policy if kind is LanguageActorCriticPolicy else policy.q_net
    assert sorted(held) == sorted({id(parameter) for parameter in learned.parameters()})


def test_trap_ids_stay_whole_numbers_on_their_way_through_the_buffers(tiny: LanguageModel) -> None:
    seen: list[torch.dtype] = []
    arguments: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "n_epochs": 1}
    agent = PPO(LanguageActorCriticPolicy, prompt_env(tiny), policy_kwargs={"model": tiny}, seed=0, **arguments)
    policy: Any = agent.policy
    policy.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    agent.learn(16)
    assert agent.rollout_buffer.observations.dtype == np.int16
    assert set(seen) == {torch.int16}


def test_trap_sb3_leaves_the_picture_alone(tiny: LanguageModel) -> None:
    """An `image` key of uint8 would be transposed and scaled by SB3; prompts are no picture to it."""
    observation = {**WORDS, "image": np.zeros((8, 8, 3), dtype=np.uint8)}
    policy = make_policy(LanguageActorCriticPolicy, tiny)
    assert policy.predict(observation, deterministic=True)[0] == policy.predict(WORDS, deterministic=True)[0]


# -- bad input ---------------------------------------------------------------------------------------------


def test_the_score_head_refuses_actions_without_texts(tiny: LanguageModel) -> None:
    for kind, space in ((LanguageActorCriticPolicy, spaces.Box(-1, 1, (2,))), (LanguageQPolicy, spaces.Discrete(3))):
        with pytest.raises(ValueError, match="head='score' chooses among actions that have names"):
            make_policy(kind, tiny, actions=space)


def test_an_observation_space_that_holds_no_prompts_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(ValueError, match="reads prompts"):
        LanguageActorCriticPolicy(spaces.Box(-1, 1, (2,)), TextActions(TEXTS), lambda _: 0.0, model=tiny)


def test_prompts_of_a_larger_vocabulary_are_refused(tiny: LanguageModel) -> None:
    small = LanguageModel(build("gpt2").float(), tiny.tokenizer, "fifty-tokens")
    with pytest.raises(ValueError, match="which has 50"):
        make_policy(LanguageActorCriticPolicy, small)
