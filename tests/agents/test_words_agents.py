"""Agents whose language model is `heed-words`, the default: they learn, are saved, shared, and explained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heed.agents import DQN, PPO, export, load
from heed.evaluation.explanation.saliency import embedding_gradient, explain
from heed.policies.adapters.adapters import Adapter
from heed.policies.words.model import WordsModel
from tests.agents.test_learning import OPTIONS
from tests.buttons import make_buttons

WORDS = {"instruction": ["press the red button", "press the blue button"], "observation": ["three buttons"] * 2}
TOLD = {"instruction": "press the crimson button", "observation": "a red lever 2 left; 3 buttons"}
SMALL: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 8, "batch_size": 16, "n_epochs": 1},
    DQN: {"learning_starts": 8, "buffer_size": 200, "batch_size": 8, "train_freq": 4, "gradient_steps": 1},
}


def small(kind: Any, env: Any = None, **policy: Any) -> Any:
    return kind(env=env or make_buttons(2), seed=0, policy_kwargs=policy, **SMALL[kind])


def test_what_it_learns_of_a_word_holds_for_words_that_were_never_told() -> None:
    """Held out: it learned of a red, a green and a blue button, in exactly these words."""
    agent = PPO(env=make_buttons(16), seed=0, **OPTIONS[PPO]).learn(2560)
    assert isinstance(agent.language_policy.language_model.model, WordsModel)
    told = ["Press The RED Button!", "press the gren button", "please press the blue buton"]
    actions, _ = agent.predict({"instruction": told, "observation": ["three buttons"] * 3}, deterministic=True)
    assert actions.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", [PPO, DQN])
@pytest.mark.parametrize(
    "policy",
    [{}, {"head": "linear", "train_layers": 0}, {"train_layers": 1}, {"adapter": Adapter(rank=2)}],
    ids=["whole", "frozen", "one layer", "lora"],
)
def test_it_comes_back_from_a_checkpoint_and_from_what_is_shared(kind: Any, policy: Any, tmp_path: Path) -> None:
    agent = small(kind, **policy)
    agent.learn(32)
    agent.save(tmp_path / "agent")
    loaded = load(tmp_path / "agent", make_buttons(2))
    np.testing.assert_array_equal(loaded.action_preferences(WORDS), agent.action_preferences(WORDS))
    export(agent, tmp_path / "shared")
    shared = load(tmp_path / "shared")
    np.testing.assert_allclose(shared.action_preferences(WORDS), agent.action_preferences(WORDS), atol=1e-5)


def test_a_gradient_stands_on_the_token_with_which_a_word_begins() -> None:
    agent = small(PPO)
    policy = agent.language_policy
    told = {key: [text] for key, text in TOLD.items()}
    prompts = policy.obs_to_tensor(told)[0]
    gradient, _ = embedding_gradient(policy, prompts, torch.tensor([0]))
    tokens = [
        policy.encoder.decode(token) for token in policy.encoder.layout.tokens_of(prompts).numpy().T if token >= 0
    ]
    text = "".join(tokens)
    assert text == f"{TOLD['instruction']}\n{TOLD['observation']}"
    ends = np.cumsum([len(token) for token in tokens])
    (split,) = policy.reader._builder.split([text])
    begin = set(np.searchsorted(ends, split.starts, side="right").tolist())
    moved = set(np.flatnonzero(np.abs(np.asarray(gradient)).sum(axis=-1) > 0).tolist())
    assert moved <= begin
    assert len(moved) >= len(begin) // 2  # what a bound word means is left out, so nothing moves with it
    assert len(tokens) > len(begin), "there are tokens that begin no word"


def test_a_gradient_is_that_of_finite_differences() -> None:
    agent = small(PPO)
    policy: Any = agent.policy
    prompts = policy.obs_to_tensor({key: [text] for key, text in TOLD.items()})[0]
    action = torch.tensor([0])
    gradient, _ = embedding_gradient(policy, prompts, action)
    (piece,) = policy.network.pieces(policy.encoder.layout.tokens_of(prompts)[0, :20])
    direction = torch.randn(policy.network.features_dim, generator=torch.Generator().manual_seed(0))
    word = 2  # "crimson"

    def shifted(size: float) -> float:
        def add(_: Any, __: Any, embedded: torch.Tensor) -> torch.Tensor:
            moved = embedded.clone()
            moved[0, word] += size * direction
            return moved

        handle = policy.network.model.words.register_forward_hook(add)
        with policy.network.reading_anew(), torch.no_grad():
            found = float(policy.explained(prompts, action).sum())
        handle.remove()
        return found

    numeric = (shifted(1e-2) - shifted(-1e-2)) / 2e-2
    place = int(piece[1][word])
    assert float(np.asarray(gradient)[place] @ direction.numpy()) == pytest.approx(numeric, rel=0.02, abs=1e-3)


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_its_words_are_explained(kind: Any) -> None:
    agent = small(kind)
    explained = explain(agent.language_policy, TOLD)
    texts = [word.text for word in explained.words]
    assert texts[:4] == ["press", "the", "crimson", "button"]
    assert np.isfinite(explained.leave_one_out).all()
    assert np.abs(explained.gradient_x_input).sum() > 0


def test_explaining_changes_nothing_of_what_is_read() -> None:
    agent = small(PPO)
    before = agent.action_preferences(WORDS)
    explain(agent.language_policy, TOLD)
    agent.clear_cache()
    np.testing.assert_array_equal(agent.action_preferences(WORDS), before)
