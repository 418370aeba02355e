"""Encoder-decoders, frozen models and the options of scoring, from training to a loaded checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from heed.agents import DQN, PPO, load
from heed.agents.persistence.export import export
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.template import PromptTemplate
from tests.buttons import make_buttons

WORDS = {"instruction": ["press the blue button", "press the red button"], "observation": ["three buttons"] * 2}


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder-decoder saved to disk, with heed-tiny's tokenizer."""
    folder = tmp_path_factory.mktemp("t5")
    tokenizer = load_language_model("heed-tiny").tokenizer
    size: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    size["decoder_start_token_id"] = 0
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **size))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def make_agent(kind: type[PPO | DQN], **policy_kwargs: Any) -> PPO | DQN:
    options: dict[type[PPO | DQN], dict[str, Any]] = {
        PPO: {"n_steps": 16, "batch_size": 32, "n_epochs": 2},
        DQN: {
            "learning_starts": 32,
            "buffer_size": 256,
            "batch_size": 32,
            "target_update_interval": 32,
            "gradient_steps": 1,
        },
    }
    policy_kwargs = {"model": "heed-tiny", "max_prompt_tokens": 64, **policy_kwargs}
    return kind(env=make_buttons(4), seed=0, policy_kwargs=policy_kwargs, **options[kind])


def language_weights(agent: PPO | DQN) -> dict[str, Tensor]:
    policy: Any = agent.policy
    network = policy.network if isinstance(agent, PPO) else policy.q_net.network
    return {name: tensor.clone() for name, tensor in network.model.state_dict().items()}


@pytest.mark.parametrize("head", ["score", "linear"])
@pytest.mark.parametrize("kind", [PPO, DQN])
def test_an_encoder_decoder_trains_and_comes_back(kind: type[PPO | DQN], head: str, t5: str, tmp_path: Path) -> None:
    agent = make_agent(kind, model=t5, head=head)
    before = language_weights(agent)
    agent.learn(128)
    after = language_weights(agent)
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items())
    agent.save(tmp_path / "agent")
    loaded = load(tmp_path / "agent", env=make_buttons(4))
    probabilities = agent.action_probabilities(WORDS)
    assert np.array_equal(loaded.action_probabilities(WORDS), probabilities)
    if kind is PPO:
        assert not np.allclose(probabilities[0], probabilities[1])


@pytest.mark.parametrize(
    ("train_layers", "head", "moving"),
    [
        (0, "linear", ()),
        (0, "score", ()),
        (1, "score", ("model.layers.1.", "model.norm.", "lm_head.")),
        (1, "linear", ("model.layers.1.", "model.norm.")),
    ],
)
@pytest.mark.parametrize("kind", [PPO, DQN])
def test_only_what_is_to_train_moves(
    kind: type[PPO | DQN], train_layers: int, head: str, moving: tuple[str, ...]
) -> None:
    agent = make_agent(kind, train_layers=train_layers, head=head)
    before = language_weights(agent)
    heads = [parameter.clone() for name, parameter in agent.policy.named_parameters() if ".model." not in name]
    agent.learn(128)
    for name, tensor in language_weights(agent).items():
        assert torch.equal(tensor, before[name]) == (not name.startswith(moving)), name
    after = [parameter for name, parameter in agent.policy.named_parameters() if ".model." not in name]
    assert any(not torch.equal(ours, theirs) for ours, theirs in zip(after, heads, strict=True))


@pytest.mark.exhaustive
def test_a_frozen_model_with_a_linear_head_learns() -> None:
    agent = PPO(
        env=make_buttons(16),
        n_steps=16,
        batch_size=64,
        learning_rate=1e-2,
        ent_coef=0.0,
        seed=0,
        policy_kwargs={"train_layers": 0, "head": "linear"},
    )
    agent.learn(16384)
    right = agent.action_probabilities(WORDS)[[0, 1], [2, 0]]
    assert (right > 0.9).all()


@pytest.mark.parametrize("normalization", ["sum", "constrained"])
def test_other_normalizations_come_back_from_a_checkpoint(normalization: str, tmp_path: Path) -> None:
    agent = make_agent(PPO, normalization=normalization)
    agent.learn(64)
    agent.save(tmp_path / "agent")
    loaded = load(tmp_path / "agent")
    assert np.array_equal(loaded.action_probabilities(WORDS), agent.action_probabilities(WORDS))
    mean = make_agent(PPO)
    assert not np.allclose(
        mean.action_probabilities(WORDS), make_agent(PPO, normalization=normalization).action_probabilities(WORDS)
    )


def test_more_layers_than_there_are_cannot_train() -> None:
    with pytest.raises(ValueError, match="train_layers is 5, but the language model has 2 layers"):
        make_agent(PPO, train_layers=5)


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_embeddings_that_are_frozen_stay_to_the_last_bit(kind: type[PPO | DQN]) -> None:
    agent = make_agent(kind, freeze_embeddings=True)
    before = language_weights(agent)
    agent.learn(128)
    after = language_weights(agent)
    still = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert still == {"model.embed_tokens.weight"}, "heed-tiny's output embedding is its own"
    if kind is DQN:
        policy: Any = agent.policy
        online, target = (one.network.model.model.embed_tokens.weight for one in (policy.q_net, policy.q_net_target))
        assert online is target


def test_a_template_comes_back_from_a_checkpoint_and_goes_with_a_shared_model(tmp_path: Path) -> None:
    text = "{% if instruction %}Do: {{ instruction }}{{ '\n' }}{% endif %}{{ observation | upper }}\nNow:\n"
    template = PromptTemplate(text, "jinja", before_action="")
    agent = make_agent(PPO, template=template)
    agent.learn(64)
    agent.save(tmp_path / "agent")
    loaded: Any = load(tmp_path / "agent", device="cpu")
    assert loaded.language_policy.encoder.template == template
    assert np.array_equal(loaded.action_probabilities(WORDS), agent.action_probabilities(WORDS))
    network: Any = loaded.language_policy.reader
    texts: Any = agent.action_space.texts  # type: ignore[attr-defined]
    tokens = load_language_model("heed-tiny").action_tokens(texts, template)
    assert network.tries.tokens[0, 0, : len(tokens[0])].tolist() == tokens[0]
    assert tokens != load_language_model("heed-tiny").action_tokens(texts)
    export(agent, tmp_path / "out")
    assert load_language_model(str(tmp_path / "out")).template == template
    shared = load(tmp_path / "out", device="cpu")
    assert np.array_equal(shared.action_probabilities(WORDS), loaded.action_probabilities(WORDS))


def test_an_encoder_decoder_cannot_be_frozen_in_part(t5: str) -> None:
    with pytest.raises(ValueError, match="cannot be frozen in part"):
        make_agent(PPO, model=t5, train_layers=1)
