"""A kind of language model in one file: found by its configuration, scored exactly, trained; and its limits."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import ConstantSchedule

from heed.agents import PPO
from heed.envs.contract import TextActions
from heed.policies import LanguageActorCriticPolicy
from heed.policies.backbones.backbone import backbone_of
from heed.policies.heads.scoring import naive_scores
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from tests.buttons import COLORS, Buttons, make_buttons
from tests.dial import Dial
from tests.recurrent import Recurrent, RecurrentBackbone, RecurrentConfig

WORDS = {
    "instruction": [f"press the {color} button" for color in COLORS],
    "observation": ["three buttons"] * len(COLORS),
}


@pytest.fixture
def language_model() -> LanguageModel:
    torch.manual_seed(0)
    tiny = load_language_model("heed-tiny")
    model = Recurrent(RecurrentConfig(vocab_size=tiny.vocabulary, hidden_size=32))
    torch.nn.Module.train(model, False)
    return LanguageModel(model, tiny.tokenizer, "recurrent", tiny.template)


@pytest.mark.filterwarnings("ignore:.*one by one, which is slow")
def test_its_actions_are_scored_as_they_are_defined(language_model: LanguageModel) -> None:
    assert isinstance(backbone_of(language_model.model), RecurrentBackbone)
    kwargs: dict[str, Any] = {"model": language_model, "max_prompt_tokens": 32}
    agent = PPO(env=make_buttons(4), policy_kwargs=kwargs, n_steps=8, batch_size=16, seed=0)
    policy: Any = agent.policy
    prompts, _ = policy.obs_to_tensor(WORDS)
    actions = policy.language_model.action_tokens(Buttons.action_texts)
    for _ in range(2):
        with torch.no_grad():
            _, scores = policy.network(prompts)
            expected = naive_scores(policy.language_model.model, prompts.long(), actions)
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)
        agent.learn(32)  # and so with other weights


def test_ppo_learns_with_it(language_model: LanguageModel) -> None:
    kwargs: dict[str, Any] = {"model": language_model, "head": "linear", "max_prompt_tokens": 32}
    agent = PPO(env=make_buttons(32), policy_kwargs=kwargs, n_steps=16, batch_size=128, learning_rate=5e-3, seed=0)
    agent.learn(12288)
    probabilities = agent.action_probabilities(WORDS)
    assert (probabilities.diagonal() > 0.6).all(), np.round(probabilities, 2)


def test_it_says_what_it_has_no_place_for(language_model: LanguageModel) -> None:
    encoder = language_model.encoder(max_tokens=32, modalities=(Dial(2),))
    with pytest.raises(ValueError, match="stand before what a causal model reads, and this one is recurrent"):
        LanguageActorCriticPolicy(
            encoder.space, TextActions(("a", "b")), ConstantSchedule(0.0), model=language_model, head="linear"
        )
