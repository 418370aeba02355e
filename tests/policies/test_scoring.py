"""Every way to score actions is exact: against the definition, one full forward for each prompt and action."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from heed.policies.heads import scoring
from heed.policies.heads.scoring import ActionScorer, Normalization, ScoringMethod, make_scorer, naive_scores
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.prompts.layout import PADDING
from tests.sampling import each_once
from tests.small_models import BUILDERS, ENCODER_DECODERS, VOCABULARY, WITHOUT_SDPA, build

ACTIONS = [[7, 8], [7, 9], [7, 9, 11], [12], [13, 8, 7, 9], [13, 8, 7, 14]]
"""Shared beginnings, an action that is the beginning of another, and one of a single token."""

SETS = [ACTIONS, [[3], [4]], [[5, 6, 7], [5, 6, 8], [9, 1]], [[20, 21]], [[7, 8], [7, 9], [8, 8], [8, 9]]]
"""Action sets that change from prompt to prompt."""

NORMALIZATIONS: tuple[Normalization, ...] = ("mean", "sum", "constrained")

WAYS: list[tuple[str, ScoringMethod]] = [
    *[(family, way) for family in sorted(BUILDERS) for way in ("packed", "cached")],
    *[(family, "encoder-decoder") for family in sorted(ENCODER_DECODERS)],
]


def ragged_prompts() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(0, VOCABULARY, (5, 17), generator=generator)
    for row, length in enumerate([17, 3, 1, 9, 16]):
        prompts[row, length:] = PADDING
    return prompts


def tries_of(*sets: list[list[int]]) -> Tries:
    return Tries([ActionTrie.build(actions) for actions in sets])


@pytest.mark.parametrize(("family", "way", "normalization"), each_once(WAYS, NORMALIZATIONS))
def test_scores_equal_the_definition_in_float64(family: str, way: ScoringMethod, normalization: Normalization) -> None:
    model, prompts = build(family), ragged_prompts()
    expected = naive_scores(model, prompts, ACTIONS, normalization)
    _, scores = ActionScorer((way,), normalization)(model, prompts, tries_of(ACTIONS))
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, expected, atol=1e-5 if family in WITHOUT_SDPA else 1e-9, rtol=0)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(
    ("family", "way"), [("gpt2", "packed"), ("llama", "cached"), ("t5", "encoder-decoder"), ("qwen2", "naive")]
)
def test_action_sets_may_change_from_prompt_to_prompt(
    family: str, way: ScoringMethod, normalization: Normalization
) -> None:
    model, prompts = build(family), ragged_prompts()
    _, scores = ActionScorer((way,), normalization)(model, prompts, tries_of(*SETS))
    assert scores.shape == (5, 6)
    for row, actions in enumerate(SETS):
        expected = naive_scores(model, prompts[row : row + 1], actions, normalization)[0]
        torch.testing.assert_close(scores[row, : len(actions)], expected, atol=1e-9, rtol=0)
        assert torch.isneginf(scores[row, len(actions) :]).all()
    assert torch.isfinite(scores.softmax(dim=1)).all()


# T5's normalisation computes in float32 whatever the weights are.
@pytest.mark.parametrize(
    ("family", "way", "tolerance"),
    [
        ("gpt2", "packed", 1e-9),
        ("gpt2", "cached", 1e-9),
        ("llama", "packed", 1e-9),
        ("llama", "cached", 1e-9),
        ("t5", "encoder-decoder", 1e-4),
    ],
)
@pytest.mark.parametrize("normalization", ["mean", "constrained"])
def test_gradients_equal_the_definitions(
    family: str, way: ScoringMethod, tolerance: float, normalization: Normalization
) -> None:
    model = build(family)
    weights = torch.randn(5, len(ACTIONS), dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def gradients(scores: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((scores * weights).sum(), list(model.parameters()), allow_unused=True))

    expected = gradients(naive_scores(model, ragged_prompts(), ACTIONS, normalization))
    _, scores = ActionScorer((way,), normalization)(model, ragged_prompts(), tries_of(ACTIONS))
    compared = 0
    for ours, theirs in zip(gradients(scores), expected, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
            compared += 1
    assert compared > 10


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("at_once", [1, 3, 5])
def test_computing_few_logits_at_a_time_changes_nothing(
    at_once: int, normalization: Normalization, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts, tries = build("gpt2"), ragged_prompts(), tries_of(*SETS)
    whole = ActionScorer(("packed",), normalization)(model, prompts, tries)[1]
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", at_once * len(prompts) * VOCABULARY)
    parts = ActionScorer(("packed",), normalization)(model, prompts, tries)[1]
    torch.testing.assert_close(parts, whole, atol=1e-12, rtol=0)
    finite = torch.isfinite(whole)
    ours, theirs = (torch.autograd.grad(scores[finite].sum(), list(model.parameters())) for scores in (parts, whole))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, atol=1e-10, rtol=1e-10)


def test_a_hand_worked_score() -> None:
    """A model whose logits are all the same gives scores that can be worked out by hand."""
    model = build("llama")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    prompts, tries = ragged_prompts(), tries_of(ACTIONS)
    total = ActionScorer(normalization="sum")(model, prompts, tries)[1]
    expected = torch.tensor([-len(action) * math.log(VOCABULARY) for action in ACTIONS], dtype=torch.float64)
    torch.testing.assert_close(total, expected.expand(5, -1))
    mean = ActionScorer(normalization="mean")(model, prompts, tries)[1]
    torch.testing.assert_close(mean, torch.full_like(mean, -math.log(VOCABULARY)))
    shared = ActionScorer(normalization="constrained")(model, prompts, tries)[1].exp()
    # Of three first tokens 7 has two after it, 12 none, and 13 one way on until its last token.
    torch.testing.assert_close(shared[0], torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 3, 1 / 6, 1 / 6]).double())


def test_shared_probabilities_add_up_to_one_where_no_action_begins_another() -> None:
    actions = [action for action in ACTIONS if action != [7, 9]]
    _, scores = ActionScorer(normalization="constrained")(build("gpt2"), ragged_prompts(), tries_of(actions))
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(5).double())


@pytest.mark.parametrize(("family", "way"), [("gpt2", "packed"), ("gpt2", "cached"), ("llama", "naive")])
def test_the_features_are_the_last_tokens_hidden_states(family: str, way: ScoringMethod) -> None:
    model, prompts = build(family), ragged_prompts()
    features, _ = ActionScorer((way,))(model, prompts, tries_of(ACTIONS))
    for row, prompt in enumerate(prompts):
        alone = model.base_model(prompt[prompt != PADDING][None]).last_hidden_state[0, -1]
        torch.testing.assert_close(features[row], alone, atol=1e-9, rtol=0)


def test_an_encoder_decoders_features_are_the_decoders_first_state() -> None:
    model: Any = build("t5")
    prompts = ragged_prompts()
    features, _ = ActionScorer(("encoder-decoder",))(model, prompts, tries_of(ACTIONS))
    for row, prompt in enumerate(prompts):
        alone = model(prompt[prompt != PADDING][None], decoder_input_ids=torch.zeros(1, 1, dtype=torch.long))
        logits = scoring.token_logits(model, features[row])
        torch.testing.assert_close(logits, alone.logits[0, 0], atol=1e-9, rtol=0)


# -- the choice of a way -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_both_ways_are_exact_for_every_causal_family(family: str, attention: str) -> None:
    """`eager` attention adds a mask to its logits: a bool one would be misread in silence, so it gets numbers."""
    model = build(family, attention=attention).float()
    assert make_scorer(model, tries_of(ACTIONS), "mean").methods == ("packed", "cached")
    expected = naive_scores(model, ragged_prompts(), ACTIONS)
    _, scores = ActionScorer(("packed",))(model, ragged_prompts(), tries_of(ACTIONS))
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


def test_a_bool_mask_would_be_misread_by_eager_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heed.policies.backbones.hidden_states.as_attention_takes_it", lambda _, mask: mask)
    model = build("gpt2", attention="eager")
    expected = naive_scores(model, ragged_prompts(), ACTIONS)
    _, scores = ActionScorer(("packed",))(model, ragged_prompts(), tries_of(ACTIONS))
    assert not torch.allclose(scores, expected, atol=1e-3)


@pytest.mark.parametrize("family", sorted(ENCODER_DECODERS))
def test_encoder_decoders_get_their_own_way(family: str) -> None:
    assert make_scorer(build(family).float(), tries_of(ACTIONS), "mean").methods == ("encoder-decoder",)


def deaf_to_masks(model: PreTrainedModel) -> PreTrainedModel:
    """Let the model drop every mask with four dimensions, as attention kernels that know only padding do."""
    base = model.base_model
    original = base.forward

    def forward(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        return original(*args, attention_mask=None, **kwargs)

    base.forward = forward
    return model


def refuses_masks(model: PreTrainedModel) -> PreTrainedModel:
    base = model.base_model
    original = base.forward

    def forward(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        if attention_mask is not None:
            raise ValueError("only two dimensions, please")
        return original(*args, **kwargs)

    base.forward = forward
    return model


@pytest.mark.parametrize("spoil", [deaf_to_masks, refuses_masks])
def test_a_model_for_which_no_way_is_exact_is_scored_by_the_definition(spoil: Any) -> None:
    model = spoil(build("gpt2").float())
    with pytest.warns(UserWarning, match="exactly only one by one, which is slow"):
        scorer = make_scorer(model, tries_of(ACTIONS), "mean")
    assert scorer.methods == ("naive",)
    expected = naive_scores(model, ragged_prompts(), ACTIONS)
    torch.testing.assert_close(scorer(model, ragged_prompts(), tries_of(ACTIONS))[1], expected)


def test_the_length_of_the_prompts_decides_between_packed_and_cached() -> None:
    model, scorer = build("gpt2"), ActionScorer()
    short, long = torch.ones(2, 10, dtype=torch.long), torch.ones(2, scoring.CACHED_FROM, dtype=torch.long)
    assert scorer.method_for(model, short, tries_of(ACTIONS)) == "packed"
    assert scorer.method_for(model, long, tries_of(ACTIONS)) == "cached"


def test_prompts_longer_than_an_attention_window_are_scored_by_the_definition() -> None:
    """A mask of ours does not know the window: it would show a token what the model never lets it see."""
    model = BUILDERS["mistral"](attn_implementation="sdpa", initializer_range=0.3).double()
    model.config.sliding_window = 8
    model.train(False)
    prompts = ragged_prompts()
    assert ActionScorer().method_for(model, prompts, tries_of(ACTIONS)) == "naive"
    # The five inner nodes stand behind the prompt, and some models count places where others count positions.
    assert ActionScorer().method_for(model, prompts[:, :4], tries_of(ACTIONS)) == "naive"
    assert ActionScorer().method_for(model, prompts[:, :3], tries_of(ACTIONS)) == "packed"
    expected = naive_scores(model, prompts, ACTIONS)
    torch.testing.assert_close(ActionScorer()(model, prompts, tries_of(ACTIONS))[1], expected, atol=1e-9, rtol=0)
    model.config.sliding_window = None
    blind = ActionScorer(("packed",))(model, prompts, tries_of(ACTIONS))[1]
    assert not torch.allclose(blind, expected, atol=1e-3)
