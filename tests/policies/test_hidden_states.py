"""The last layer computed in part gives what the whole forward gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from heed.policies.backbones.hidden_states import (
    as_attention_takes_it,
    compile_layers,
    computes_last_layer_in_part,
    read_hidden_states,
)
from heed.policies.backbones.llama import _compiled_layer
from tests.small_models import BUILDERS, VOCABULARY, build

IN_PART = {"llama", "mistral", "qwen2", "qwen3", "smollm"}


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, VOCABULARY, (3, 9), generator=generator), torch.tensor([[0, 8], [4, 5], [7, 7]])


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_which_models_are_computed_in_part(family: str) -> None:
    assert computes_last_layer_in_part(build(family)) == (family in IN_PART)


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_causal_reading_equals_the_whole_forward(family: str) -> None:
    model, (tokens, read) = build(family), batch()
    whole = model.base_model(tokens).last_hidden_state
    expected = torch.stack([whole[row, places] for row, places in enumerate(read)])
    torch.testing.assert_close(read_hidden_states(model, tokens, read), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_reading_with_a_mask_and_positions_equals_the_whole_forward(family: str) -> None:
    model, (tokens, read) = build(family), batch()
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(3, 1, 9, 9, generator=generator) < 0.5) | torch.eye(9, dtype=torch.bool)
    positions = torch.randint(0, 20, (3, 9), generator=generator)
    given = as_attention_takes_it(model, mask)
    whole = model.base_model(tokens, attention_mask=given, position_ids=positions).last_hidden_state
    expected = torch.stack([whole[row, places] for row, places in enumerate(read)])
    actual = read_hidden_states(model, tokens, read, positions=positions, mask=mask)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", sorted(IN_PART))
def test_gradients_are_those_of_the_whole_forward(family: str) -> None:
    model, (tokens, read) = build(family), batch()
    rows = torch.arange(3)[:, None]

    def gradients(states: torch.Tensor) -> list[torch.Tensor]:
        parameters = list(model.base_model.parameters())
        return list(
            torch.autograd.grad((states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum(), parameters)
        )

    whole = gradients(model.base_model(tokens).last_hidden_state[rows, read])
    for ours, theirs in zip(gradients(read_hidden_states(model, tokens, read)), whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_sliding_window_is_left_to_the_whole_forward() -> None:
    model = BUILDERS["mistral"](attn_implementation="sdpa")
    assert computes_last_layer_in_part(model)
    model.config.sliding_window = 4
    assert not computes_last_layer_in_part(model)
    eager = build("llama", attention="eager")
    assert not computes_last_layer_in_part(eager)


# torch.compile looks at what warns when it is looked at.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_compiled_layers_give_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = 0

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        nonlocal traced
        traced += 1
        return graph.forward

    original = torch.compile
    monkeypatch.setattr(torch, "compile", partial(original, backend=backend))  # the usual one needs a minute
    _compiled_layer.cache_clear()
    model, (tokens, read) = build(family), batch()
    expected = read_hidden_states(model, tokens, read)
    compile_layers(model)
    torch.testing.assert_close(read_hidden_states(model, tokens, read), expected, atol=1e-9, rtol=0)
    assert traced > 0
    _compiled_layer.cache_clear()
