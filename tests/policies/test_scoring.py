"""The packed scorer is exact: against the definition, one full forward for each prompt and action."""

from __future__ import annotations

import math

import pytest
import torch

from heed.policies.prompt import PADDING
from heed.policies.scoring import ActionTrie, NaiveScorer, Normalization, PackedScorer, make_scorer, naive_scores
from tests.small_models import BUILDERS, VOCABULARY, build

ACTIONS = [[7, 8], [7, 9], [7, 9, 11], [12], [13, 8, 7, 9], [13, 8, 7, 14]]
"""Shared beginnings, an action that is the beginning of another, and one of a single token."""


def ragged_prompts() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(0, VOCABULARY, (5, 17), generator=generator)
    for row, length in enumerate([17, 3, 1, 9, 16]):
        prompts[row, length:] = PADDING
    return prompts


@pytest.mark.parametrize("normalization", ["mean", "sum"])
@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_packed_scores_equal_the_naive_ones_in_float64(family: str, normalization: Normalization) -> None:
    model = build(family)
    prompts = ragged_prompts()
    expected = naive_scores(model, prompts, ACTIONS, normalization)
    _, scores = PackedScorer(ActionTrie.build(ACTIONS), normalization)(model, prompts)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, expected, atol=1e-9, rtol=0)


# Llama's normalisation computes in float32 whatever the weights are.
@pytest.mark.parametrize(("family", "tolerance"), [("gpt2", 1e-9), ("llama", 1e-5)])
def test_gradients_equal_the_naive_ones(family: str, tolerance: float) -> None:
    model = build(family)
    weights = torch.randn(5, len(ACTIONS), dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def gradients(scores: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad((scores * weights).sum(), list(model.parameters()), allow_unused=True))

    expected = gradients(naive_scores(model, ragged_prompts(), ACTIONS))
    actual = gradients(PackedScorer(ActionTrie.build(ACTIONS))(model, ragged_prompts())[1])
    for ours, theirs in zip(actual, expected, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_a_hand_worked_score() -> None:
    """A model whose logits are fixed gives scores that can be worked out by hand."""
    model = build("llama")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        # All hidden states are 0, so every token is equally likely.
    scores = PackedScorer(ActionTrie.build(ACTIONS), "sum")(model, ragged_prompts())[1]
    expected = torch.tensor([-len(action) * math.log(VOCABULARY) for action in ACTIONS], dtype=torch.float64)
    torch.testing.assert_close(scores, expected.expand(5, -1))
    means = PackedScorer(ActionTrie.build(ACTIONS), "mean")(model, ragged_prompts())[1]
    torch.testing.assert_close(means, torch.full_like(means, -math.log(VOCABULARY)))


def test_the_features_are_the_last_tokens_hidden_states() -> None:
    model = build("gpt2")
    prompts = ragged_prompts()
    features, _ = PackedScorer(ActionTrie.build(ACTIONS))(model, prompts)
    for row, prompt in enumerate(prompts):
        alone = model.base_model(prompt[prompt != PADDING][None]).last_hidden_state[0, -1]
        torch.testing.assert_close(features[row], alone, atol=1e-9, rtol=0)


def test_the_trie_merges_what_begins_alike() -> None:
    trie = ActionTrie.build([[7, 8], [7, 9], [7, 9, 11], [12]])
    # Inner nodes: 7, and 7 9 (for 11). 8, 9-as-an-end, 11 and 12 are read, never forwarded.
    assert trie.node_tokens == (7, 9)
    assert trie.node_parents == (-1, 0)
    assert trie.node_depths == (1, 2)
    assert trie.contexts == ((0, 1), (0, 1), (0, 1, 2), (0,))
    assert trie.ancestors().tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("actions", "sentence"), [([[1, 2], []], "no tokens"), ([[1, 2], [3], [1, 2]], "become the same tokens")]
)
def test_actions_that_cannot_be_told_apart_are_refused(actions: list[list[int]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ActionTrie.build(actions)


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_sdpa_models_get_the_packed_scorer(family: str) -> None:
    assert isinstance(make_scorer(build(family).float(), ActionTrie.build(ACTIONS), "mean"), PackedScorer)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_for_which_packing_is_not_exact_gets_the_naive_scorer(family: str) -> None:
    """With `eager` attention a boolean mask is added to the logits: silently wrong, so it must not be used."""
    model = build(family, attention="eager").float()
    prompts = ragged_prompts()
    expected = naive_scores(model, prompts, ACTIONS)
    wrong = PackedScorer(ActionTrie.build(ACTIONS))(model, prompts)[1]
    assert not torch.allclose(wrong, expected, atol=1e-3)
    scorer = make_scorer(model, ActionTrie.build(ACTIONS), "mean")
    assert isinstance(scorer, NaiveScorer)
    torch.testing.assert_close(scorer(model, prompts)[1], expected)
