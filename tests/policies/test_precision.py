"""bfloat16 where it is asked for or pays, never by itself on a CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from heed.envs.contract import TextActions
from heed.policies.backbones.precision import computes_in_bfloat16, is_wide
from heed.policies.model_options import ModelOptions
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork

PROMPTS = torch.tensor([[5, 6, 7], [8, 9, -1]])


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    cpu = torch.device("cpu")
    assert not computes_in_bfloat16(cpu, "auto", wide=True)
    assert not computes_in_bfloat16(cpu, "float32", wide=True)
    assert computes_in_bfloat16(cpu, "bfloat16", wide=False)


@pytest.mark.parametrize(
    ("wide", "supported", "chosen"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_gpu_computes_wide_models_in_bfloat16_where_it_can(
    wide: bool, supported: bool, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    assert computes_in_bfloat16(torch.device("cuda"), "auto", wide=wide) == chosen


@pytest.mark.parametrize(
    ("width", "dtype", "wide"),
    [(512, torch.float32, True), (64, torch.float32, False), (512, torch.bfloat16, False)],
)
def test_only_float32_models_with_large_products_are_wide(width: int, dtype: torch.dtype, wide: bool) -> None:
    config = LlamaConfig(vocab_size=8, hidden_size=width, intermediate_size=8, num_hidden_layers=1)
    assert is_wide(LlamaForCausalLM(config).to(dtype)) == wide  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["score", "linear"])
def test_what_comes_out_is_float32_and_near_the_exact(head: Any) -> None:
    exact, fast = (
        LanguageNetwork(
            load_language_model("heed-tiny"), TextActions(("a", "b")), ModelOptions(head=head, precision=precision)
        )
        for precision in ("float32", "bfloat16")
    )
    for ours, theirs in zip(fast(PROMPTS), exact(PROMPTS), strict=True):
        if ours is not None and theirs is not None:
            assert ours.dtype == torch.float32
            assert not torch.equal(ours, theirs)
            torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.1)
    features, _ = fast(PROMPTS)
    features.sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in fast.parameters())
