"""Layers that are computed again for the gradient: the same gradient, and much less that is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heed.envs.contract import TextActions
from heed.policies.adapters.adapters import Adapter, add_adapter
from heed.policies.adapters.virtual_tokens import reader_of
from heed.policies.backbones.activation_checkpointing import checkpoint_layers
from heed.policies.backbones.hidden_states import read_lower_states
from heed.policies.caches.frozen import freeze
from heed.policies.heads.scoring import ActionScorer, ScoringMethod, last_hidden_state
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.model_options import ModelOptions
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from tests.small_models import build

TRIES = Tries([ActionTrie.build([[7, 8, 9], [7, 10], [11, 12, 13], [14]])])
PROMPTS = torch.arange(2 * 20).reshape(2, 20) % 40 + 3
PROMPTS[1, 14:] = -1


def score(*ways: ScoringMethod) -> Callable[[PreTrainedModel], Tensor]:
    def compute(model: PreTrainedModel) -> Tensor:
        read = reader_of(model)
        more: dict[str, Any] = {} if read is None else {"read": read}
        return ActionScorer(ways)(model, PROMPTS, TRIES, **more)[1]

    return compute


def measured(
    model: PreTrainedModel, compute: Callable[[PreTrainedModel], Tensor]
) -> tuple[Tensor, dict[str, Any], int]:
    """Return what is computed, the gradient of each weight, and the bytes that are kept for it beside the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        computed = compute(model)
    bytes_kept = sum(kept.values())
    (computed * torch.arange(computed.numel()).reshape(computed.shape)).sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return computed.detach(), gradients, bytes_kept


def saves(model: PreTrainedModel, compute: Callable[[PreTrainedModel], Tensor], share: float = 0.5) -> None:
    """Hold a model against a copy whose layers are checkpointed."""
    frugal = copy.deepcopy(model)
    checkpoint_layers(frugal)
    expected, gradients, kept = measured(model, compute)
    assert gradients
    computed, found, less = measured(frugal, compute)
    torch.testing.assert_close(computed, expected, atol=1e-10, rtol=1e-10)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-10, rtol=1e-8)
    assert less < share * kept, (less, kept)


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "gemma", "gpt-neox"])
def test_scores_and_their_gradients_are_the_same(family: str) -> None:
    saves(build(family), score("packed"))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_so_they_are_behind_a_cache(family: str) -> None:
    """The keys of the prompt go into the second pass, and so does its gradient."""
    saves(build(family), score("cached"), share=0.8)


@pytest.mark.parametrize("family", ["t5", "flan-t5"])
def test_so_they_are_with_an_encoder(family: str) -> None:
    saves(build(family), score("encoder-decoder"), share=0.8)


def test_so_is_a_linear_heads() -> None:
    saves(build("smollm"), lambda model: last_hidden_state(model, PROMPTS))


@pytest.mark.parametrize("method", ["lora", "ia3", "prompt", "prefix"])
@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_so_they_are_with_an_adapter(family: str, method: Any) -> None:
    model = build(family)
    add_adapter(model, Adapter(method=method, rank=2, virtual_tokens=3))
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # it begins at zero, and lora_A would have no gradient
            nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
    saves(model.double(), score("packed"), share=0.8)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_so_they_are_where_the_lowest_layers_are_frozen(family: str) -> None:
    model = build(family)
    freeze(model, 1)
    assert read_lower_states(model, PROMPTS.clamp(min=0), 1, positions=None, mask=None).states.shape == (2, 20, 32)
    saves(model, score("packed"), share=0.9)


def test_a_copy_of_a_model_computes_with_its_own_layers() -> None:
    model = build("gpt2")
    checkpoint_layers(model)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    _, gradients, _ = measured(copied, score("packed"))
    assert any(gradient.abs().max() > 0 for gradient in gradients.values())
    assert all(weight.grad is None for weight in model.parameters())


def test_transformers_own_would_do_nothing_here() -> None:
    """It heeds training mode, which a policy's language model never is in: the reason for ours."""
    model = build("gpt2")
    kept = measured(model, score("packed"))[2]
    model.activation_checkpointing_enable({"use_reentrant": False})
    assert not model.training
    assert measured(model, score("packed"))[2] == kept


@pytest.mark.parametrize("head", ["score", "linear"])
def test_a_network_of_heed_tiny(head: Any) -> None:
    plain, frugal = (
        LanguageNetwork(
            load_language_model("heed-tiny"),
            TextActions(("left", "go")),
            ModelOptions(head=head, activation_checkpointing=frugal),
        )
        for frugal in (False, True)
    )

    def compute(model: PreTrainedModel) -> Tensor:
        network = plain if model is plain.model else frugal
        features, scores = network(PROMPTS)
        read: Tensor = features if scores is None else scores
        return read

    expected, gradients, kept = measured(plain.model, compute)
    computed, found, less = measured(frugal.model, compute)
    torch.testing.assert_close(computed, expected)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)
    assert less < 0.5 * kept
    with torch.no_grad():
        torch.testing.assert_close(compute(frugal.model), expected)


def test_what_cannot_go_together_is_refused() -> None:
    for options, words in (
        ({"compiled": True}, "compiled layers are not"),
        ({"train_layers": 0}, "nothing of the language model has a gradient"),
    ):
        with pytest.raises(ValueError, match=words):
            LanguageNetwork(
                load_language_model("heed-tiny"),
                TextActions(("left", "go")),
                ModelOptions(activation_checkpointing=True, **options),
            )


def test_a_model_without_layers_that_are_known_is_refused() -> None:
    class Other(nn.Module):
        pass

    with pytest.raises(ValueError, match=r"does not know activation checkpointing for Other.*micro_batch_tokens"):
        checkpoint_layers(Other())  # type: ignore[arg-type]
