"""Weights of few bits: what is refused where they cannot be, and what transformers is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from heed.policies.adapters.adapters import Adapter, AdapterError
from heed.policies.models import quantization
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.models.loading import load_language_model
from tests.small_models import build

NO_GPU = not torch.cuda.is_available()


def with_gpu(monkeypatch: pytest.MonkeyPatch, *, package: bool = True) -> None:
    """Let it look as if there were a GPU, and bitsandbytes if asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(quantization, "find_spec", lambda _: object() if package else None)


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU here")
def test_without_a_gpu_they_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(LanguageModelError, match="need an NVIDIA GPU"):
        load_language_model("nobody/no-such-model", quantize="4bit")


def test_without_bitsandbytes_they_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpu(monkeypatch, package=False)
    with pytest.raises(LanguageModelError, match=r"pip install 'heed\[quantized\]'"):
        load_language_model("nobody/no-such-model", quantize="8bit")
    with pytest.raises(LanguageModelError, match="cannot be quantized to '3bit'"):
        load_language_model("nobody/no-such-model", quantize="3bit")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_transformers_is_asked_for_them(kind: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    tokenizer = load_language_model("heed-tiny").tokenizer
    build("llama").float().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with_gpu(monkeypatch)
    asked: dict[str, Any] = {}

    def take(**arguments: Any) -> Any:
        asked.update(arguments)
        return build("llama").float(), {}

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", take)
    loaded = load_language_model(str(tmp_path), quantize=kind)
    assert loaded.quantized == kind
    config = asked["quantization_config"]
    assert (config.load_in_8bit, config.load_in_4bit) == (kind == "8bit", kind == "4bit")
    if kind == "4bit":
        assert config.bnb_4bit_quant_type == "nf4"
        assert config.bnb_4bit_compute_dtype == torch.bfloat16
    assert asked["device_map"] == {"": 0}
    assert asked["dtype"] == torch.bfloat16
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


class Rounded(nn.Linear):
    """A layer as bitsandbytes has them: its weight knows more than its numbers, and it keeps a state."""

    def __init__(self, like: nn.Linear):
        super().__init__(like.in_features, like.out_features, bias=False)
        self.weight = like.weight
        self.weight.scales = torch.ones(3)  # type: ignore[attr-defined]
        self.state = {"numbers": torch.ones(3)}


def test_they_train_under_an_adapter_only_and_are_in_memory_once() -> None:
    model = build("llama").requires_grad_(False)
    layer: Any = model.base_model.layers[0].mlp  # type: ignore[union-attr, index]
    layer.up_proj = Rounded(layer.up_proj)
    language_model = LanguageModel(model, load_language_model("heed-tiny").tokenizer, "rounded", quantized="8bit")
    for train_layers in (None, 1, 0):
        with pytest.raises(AdapterError, match="rounded to 8bit, so they cannot train: give an adapter"):
            language_model.for_training(train_layers)
    adapted = language_model.for_training(adapter=Adapter())
    copied = adapted.copy()
    for one in (adapted, copied):
        base = one.model.base_model.layers[0].mlp.up_proj.base_layer  # type: ignore[union-attr, index]
        assert base.weight is layer.up_proj.weight
        assert base.state is layer.up_proj.state
    trained = [{id(w) for w in one.model.parameters() if w.requires_grad} for one in (adapted, copied)]
    assert trained[0]
    assert not trained[0] & trained[1]
