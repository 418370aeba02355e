"""A modality of one file that enters the sequence: read right, cached right, learned, saved and resumed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import ConstantSchedule

from heed.agents import PPO, load
from heed.envs.contract import TextActions
from heed.evaluation.explanation.saliency import explain
from heed.policies import LanguageActorCriticPolicy, PromptVecEnv, load_language_model
from heed.policies.caches.batching import Inputs, micro_batches
from heed.policies.modalities.actions import Actions
from tests.dial import Dial, Dials, make_dials
from tests.small_encoders import save_encoder

WORDS = {"instruction": ["press where the needle points"] * 4, "observation": ["a dial"] * 4}
NEEDLES = np.array([[-1, 0.5], [1, 0.5], [-1, 0.5], [1, 0.25]], dtype=np.float32)
SETTINGS: dict[str, Any] = {"n_steps": 32, "batch_size": 128, "learning_rate": 3e-3, "seed": 0}


def policy_for(model: Any, **more: Any) -> LanguageActorCriticPolicy:
    torch.manual_seed(0)
    encoder = model.encoder(max_tokens=32, modalities=(Dial(2),))
    actions = TextActions(Dials.action_texts)
    return LanguageActorCriticPolicy(encoder.space, actions, ConstantSchedule(0.0), model=model, **more)


def probabilities(policy: LanguageActorCriticPolicy, needles: Any = NEEDLES) -> torch.Tensor:
    prompts, _ = policy.obs_to_tensor({**{key: texts[: len(needles)] for key, texts in WORDS.items()}, "dial": needles})
    distribution: Any = policy.get_distribution(prompts).distribution
    found: torch.Tensor = distribution.probs
    return found


def test_soft_tokens_are_read_as_transformers_reads_embeddings() -> None:
    model = load_language_model("heed-tiny")
    policy = policy_for(model, head="linear")
    prompts, _ = policy.obs_to_tensor({**WORDS, "dial": NEEDLES})
    with torch.no_grad():
        features, _ = policy.network(prompts)
        embedding: Any = policy.language_model.model.get_input_embeddings()
        network: Any = policy.network
        soft = network.in_sequence({"dial": prompts[:, 32:]})  # (B, 2, D)
        tokens = prompts[:, :32]
        length = int((tokens[0] >= 0).sum())
        whole = torch.cat([soft, embedding(tokens[:, :length].long())], dim=1)
        expected = policy.language_model.model.base_model(inputs_embeds=whole, use_cache=False).last_hidden_state[:, -1]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_its_soft_tokens_count_where_a_gradient_is_accumulated_by_tokens() -> None:
    policy = policy_for(load_language_model("heed-tiny"))
    prompts, _ = policy.obs_to_tensor({**WORDS, "dial": NEEDLES})
    inputs = Inputs.of_rows(policy.encoder.layout, prompts)
    assert (len(inputs.lengths), inputs.soft_tokens) == (3, 2)
    length = int(inputs.lengths[0])
    assert [len(rows) for rows in micro_batches(inputs, 2 * length)] == [2, 1, 1]  # of four rows, two are the same
    assert [len(rows) for rows in micro_batches(inputs, 2 * (length + 2))] == [3, 1]


@pytest.mark.parametrize("head", ["score", "linear"])
def test_what_was_read_is_known_by_its_key(head: Any) -> None:
    policy = policy_for(load_language_model("heed-tiny"), head=head)
    policy.set_training_mode(False)
    network: Any = policy.network
    with torch.no_grad():
        first = probabilities(policy)
        read = network.tokens_read
        again = probabilities(policy)
        assert network.tokens_read == read, "known, and not read again"
        torch.testing.assert_close(again, first)
        alone = torch.cat(
            [
                probabilities(policy_for(load_language_model("heed-tiny"), head=head), NEEDLES[i : i + 1])
                for i in range(4)
            ]
        )
        torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(first[0], first[1], atol=1e-6)
        layer = network.in_sequence.networks["dial"][1]
        layer.weight.mul_(3.0)  # the embedder is part of what a reading depends on
        assert not torch.allclose(probabilities(policy), first, atol=1e-5)
        assert network.tokens_read > read
    prompts, _ = policy.obs_to_tensor({**WORDS, "dial": NEEDLES})
    assert len(Inputs.of_rows(policy.encoder.layout, prompts).keys) == 3, "two needles are alike"


@pytest.mark.parametrize("options", [{}, {"train_layers": 0, "head": "linear"}], ids=["score", "frozen, linear"])
def test_ppo_learns_by_it_and_goes_on_from_a_checkpoint(tmp_path: Path, options: dict[str, Any]) -> None:
    kwargs = {"model": "heed-tiny", "max_prompt_tokens": 32, **options}
    agent = PPO(env=make_dials(16), policy_kwargs=kwargs, **SETTINGS).learn(2048)
    agent.save(tmp_path / "agent")
    words = {key: texts[:2] for key, texts in WORDS.items()}
    told = {**words, "dial": NEEDLES[:2]}
    chosen = agent.action_probabilities(told)
    assert chosen[0, 0] > 0.8, "left"
    assert chosen[1, 1] > 0.8, "right"
    loaded = load(tmp_path / "agent", make_dials(16))
    np.testing.assert_allclose(loaded.action_probabilities(told), chosen, atol=1e-6)
    whole = PPO(env=make_dials(16), policy_kwargs=kwargs, **SETTINGS).learn(1024)
    whole.save(tmp_path / "half")
    whole.learn(512, reset_num_timesteps=False)
    resumed = load(tmp_path / "half", make_dials(16))  # which puts the random states back
    resumed.learn(512, reset_num_timesteps=False)
    for (name, one), other in zip(whole.policy.state_dict().items(), resumed.policy.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_micro_batches_count_prompts_apart_that_differ_in_it() -> None:
    env = PromptVecEnv(make_dials(8), load_language_model("heed-tiny").encoder(max_tokens=32, modalities=(Dial(2),)))
    rows = torch.from_numpy(env.reset())
    different = len({tuple(row) for row in rows.tolist()})
    assert len(Inputs.of_rows(env.encoder.layout, rows).keys) == different > 1
    env.close()


def test_encoders_and_encoder_decoders_have_no_place_for_it(tmp_path: Path) -> None:
    model = load_language_model(str(save_encoder("bert", tmp_path / "bert")))
    with pytest.raises(ValueError, match=r"dial enter the sequence of a causal model"):
        policy_for(model)


def test_actions_that_change_have_room_behind_it() -> None:
    model = load_language_model("heed-tiny")
    alone = model.encoder(max_tokens=32, modalities=(Actions(3),)).action_room
    behind = model.encoder(max_tokens=32, modalities=(Actions(3), Dial(2))).action_room
    assert alone is not None
    assert behind is not None
    assert behind.of(["press left"]) == alone.of(["press left"]) - 2


def test_its_words_are_explained() -> None:
    policy = policy_for(load_language_model("heed-tiny"))
    one = {key: texts[0] for key, texts in WORDS.items()}
    explained = explain(policy, {**one, "dial": NEEDLES[0]})
    assert [word.text for word in explained.words][:3] == ["press", "where", "the"]
    assert np.abs(explained.gradient_x_input).sum() > 0
    other = explain(policy, {**one, "dial": NEEDLES[1]})
    assert not np.allclose(explained.leave_one_out, other.leave_one_out, atol=1e-7), "the needle is there meanwhile"
