"""What a language model thinks of actions that change from observation to observation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heed.policies import load_language_model, score_action_texts
from heed.policies.heads.scoring import Normalization, naive_scores
from heed.policies.heads.trie import close_prefixes
from heed.policies.models.language_model import LanguageModel

OBSERVATIONS = {
    "instruction": ["go to the red ball", "open the door", "pick up the key"],
    "observation": ["red ball 2 ahead; wall 1 left; wall 3 right", "closed door 1 ahead", "key 1 left"],
}
TEXTS = [["go forward", "turn left"], ["open the door", "open the blue door", "go north", "go"], ["wait"]]


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return load_language_model("heed-tiny")


@pytest.mark.parametrize("normalization", ["mean", "sum", "constrained"])
def test_each_observation_has_the_scores_of_its_own_actions(tiny: LanguageModel, normalization: Normalization) -> None:
    scores = score_action_texts(tiny, OBSERVATIONS, TEXTS, normalization=normalization)
    prompts = torch.as_tensor(tiny.encoder()(OBSERVATIONS)).long()
    for row, texts in enumerate(TEXTS):
        actions = tiny.action_tokens(tuple(texts))
        if normalization == "constrained":
            actions = close_prefixes(actions, tiny.tokenizer.eos_token_id)
        expected = naive_scores(tiny.model, prompts[row : row + 1], actions, normalization)[0]
        np.testing.assert_allclose(scores[row], expected.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_shared_probabilities_are_a_distribution(tiny: LanguageModel) -> None:
    for scores in score_action_texts(tiny, OBSERVATIONS, TEXTS, normalization="constrained"):
        assert np.exp(scores).sum() == pytest.approx(1.0, abs=1e-5)


def test_what_does_not_fit_together_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(ValueError, match="3 observations, but 2 lists of action texts"):
        score_action_texts(tiny, OBSERVATIONS, TEXTS[:2])
    with pytest.raises(ValueError, match="no actions"):
        score_action_texts(tiny, OBSERVATIONS, [["a"], [], ["b"]])
    assert score_action_texts(tiny, {"instruction": [], "observation": []}, []) == []
