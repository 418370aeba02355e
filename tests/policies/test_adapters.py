"""Adapters: what trains, what is shared, and that peft's own forward says the same."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from heed.envs.contract import TextActions
from heed.policies.adapters.adapters import Adapter, AdapterError
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from tests.sampling import each_once
from tests.small_models import BUILDERS, WITH_WINDOWS, build

METHODS: Any = ("lora", "rslora", "dora", "adalora", "ia3")
IA3_TARGETS = {
    "qwen3": ("k_proj", "v_proj", "down_proj"),
    "smollm3": ("k_proj", "v_proj", "down_proj"),
    "phi3": ("qkv_proj", "down_proj"),
}
"""Of families of which `peft` does not know them."""
PROMPTS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, -1]])


def disturb(language_model: LanguageModel) -> None:
    """Give an adapter other weights than its first, which change nothing."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in language_model.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator, dtype=torch.float64) * 0.3)


def small(family: str) -> LanguageModel:
    tokenizer = load_language_model("heed-tiny").tokenizer
    return LanguageModel(build(family), tokenizer, family)


def hidden(language_model: LanguageModel) -> torch.Tensor:
    network = LanguageNetwork(language_model, TextActions(("a", "b")), ModelOptions(head="linear"))
    with torch.no_grad():
        features: torch.Tensor = network(PROMPTS)[0]
    return features


@pytest.mark.parametrize(("family", "method"), each_once(list(BUILDERS), METHODS))
def test_states_are_those_of_the_weights_with_the_adapter_merged(family: str, method: Any) -> None:
    plain = small(family)
    targets = IA3_TARGETS.get(family, ()) if method == "ia3" else ()
    adapted = plain.for_training(adapter=Adapter(method=method, targets=targets))
    assert torch.allclose(hidden(adapted), hidden(plain), atol=1e-6)
    disturb(adapted)
    found = hidden(adapted)
    assert not torch.allclose(found, hidden(plain), atol=1e-3)
    for module in adapted.model.modules():
        if hasattr(module, "merge"):
            module.merge()  # type: ignore[operator]  # a layer of peft
    assert torch.allclose(found, hidden(adapted), atol=1e-6)


def test_only_the_adapter_trains_and_all_else_is_shared() -> None:
    plain = small("llama")
    before = {name: weight.clone() for name, weight in plain.model.named_parameters()}
    adapted = plain.for_training(adapter=Adapter(rank=2))
    assert all(weight.requires_grad for weight in plain.model.parameters())
    trained = {name for name, weight in adapted.model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    places = {weight.data_ptr() for weight in plain.model.parameters()}
    assert {weight.data_ptr() for weight in adapted.own_weights().values()} == places
    other = adapted.copy()
    disturb(adapted)
    for name, weight in other.model.named_parameters():
        same = weight is adapted.model.get_parameter(name)
        assert same == (name not in trained)
    assert torch.equal(hidden(other), hidden(plain.for_training(adapter=Adapter(rank=2))))
    assert all(torch.equal(weight, before[name]) for name, weight in plain.model.named_parameters())


def test_frozen_layers_are_shared_and_those_that_train_are_not() -> None:
    plain = small("llama")
    part = plain.for_training(train_layers=1)
    for name, weight in part.model.named_parameters():
        assert (weight.data_ptr() == plain.model.get_parameter(name).data_ptr()) == (not weight.requires_grad)


def test_a_fingerprint_is_of_the_models_own_weights() -> None:
    plain = small("llama")
    adapted = plain.for_training(adapter=Adapter())
    disturb(adapted)
    assert adapted.fingerprint() == plain.fingerprint()
    with torch.no_grad():
        plain.model.get_parameter("model.norm.weight")[3] += 1
    assert adapted.fingerprint() == plain.fingerprint()  # it is the same weight
    assert small("llama").fingerprint() != plain.fingerprint()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "lore"}, "no adapter 'lore': give one of lora, rslora, dora, adalora, ia3, prompt, prefix"),
        ({"rank": 0}, "rank is 0"),
        ({"virtual_tokens": 0}, "There are 0 virtual tokens"),
        ({"alpha": -1.0}, "alpha is -1.0"),
    ],
)
def test_what_an_adapter_cannot_be_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        Adapter(**wrong)


def test_what_cannot_be_adapted_is_refused() -> None:
    plain = small("llama")
    with pytest.raises(AdapterError, match=r"takes no lora adapter.*q_projection"):
        plain.for_training(adapter=Adapter(targets=("q_projection",)))
    with pytest.raises(AdapterError, match="train_layers is 3, but with an adapter it must be from 1 to 2"):
        plain.for_training(train_layers=3, adapter=Adapter())
    with pytest.raises(AdapterError, match="train_layers is 0"):
        plain.for_training(train_layers=0, adapter=Adapter())
    with pytest.raises(AdapterError, match=r"Virtual tokens \(prefix\) .* leave train_layers out"):
        plain.for_training(train_layers=1, adapter=Adapter(method="prefix"))
    with pytest.raises(AdapterError, match="No linear layer of the top 1 has a name that ends in q_projection"):
        plain.for_training(train_layers=1, adapter=Adapter(targets=("q_projection",)))
    with pytest.raises(AdapterError, match="has an adapter already"):
        plain.for_training(adapter=Adapter()).for_training(adapter=Adapter())
    plain.model.config.model_type = "new-model"  # type: ignore[misc]
    with pytest.raises(AdapterError, match="not known which layers of 'new-model'"):
        plain.for_training(adapter=Adapter(method="ia3"))


def test_weights_that_stand_still_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = small("llama").for_training(adapter=Adapter())
    first = adapted.fingerprint()
    monkeypatch.setattr(hashlib, "sha256", None)
    disturb(adapted)  # the adapter is none of it
    assert adapted.fingerprint() == first


# -- in the top layers only ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "method"), each_once(list(BUILDERS), METHODS))
def test_in_the_top_layers_it_is_what_it_is_there_and_the_rest_is_computed_once(family: str, method: Any) -> None:
    plain = small(family)
    targets = IA3_TARGETS.get(family, ()) if method == "ia3" else ()
    adapted = plain.for_training(1, Adapter(method=method, targets=targets))
    names = {name for name, weight in adapted.model.named_parameters() if weight.requires_grad}
    assert names
    assert all(".1." in name for name in names), "of two layers the upper one"
    assert torch.allclose(hidden(adapted), hidden(plain), atol=1e-6)
    disturb(adapted)
    network = LanguageNetwork(adapted, TextActions(("a", "b")), ModelOptions(head="linear", train_layers=1))
    whole = LanguageNetwork(adapted, TextActions(("a", "b")), ModelOptions(head="linear"))
    assert whole.frozen is None
    for _ in range(3):  # computed, then remembered, with a gradient both times
        found, expected = network(PROMPTS)[0], whole(PROMPTS)[0]
        weights = [weight for weight in adapted.model.parameters() if weight.requires_grad]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        gradients, others = (torch.autograd.grad(states[:, ::3].sum(), weights) for states in (found, expected))
        for ours, theirs in zip(gradients, others, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert family in WITH_WINDOWS or network.frozen is not None
    for module in adapted.model.modules():
        if hasattr(module, "merge"):
            module.merge()  # type: ignore[operator]  # a layer of peft
    with torch.no_grad():
        torch.testing.assert_close(found, hidden(adapted), atol=1e-5, rtol=1e-5)


def test_all_layers_are_the_top_layers_of_a_model_that_has_no_more() -> None:
    plain = small("llama")
    part, whole = plain.for_training(2, Adapter()), plain.for_training(adapter=Adapter())
    ours, theirs = (
        {name for name, weight in adapted.model.named_parameters() if weight.requires_grad} for adapted in (part, whole)
    )
    assert ours == theirs
    some = plain.for_training(1, Adapter(targets=("q_proj", "down_proj")))
    trained = {name for name, weight in some.model.named_parameters() if weight.requires_grad}
    assert {name.split(".lora_")[0] for name in trained} == {
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    }


def test_peft_reads_what_was_shared_of_the_top_layers(tmp_path: Path) -> None:
    from peft import PeftModel

    plain = small("llama")
    adapted = plain.for_training(1, Adapter(rank=2))
    disturb(adapted)
    adapted.share(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for what transformers has renamed
        loaded = PeftModel.from_pretrained(small("llama").model, str(tmp_path)).double().eval()
    with torch.no_grad():
        ours, theirs = adapted.model(PROMPTS[:1]).logits, loaded(input_ids=PROMPTS[:1]).logits
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
