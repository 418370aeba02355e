"""bfloat16 where it is asked for or pays, never by itself on a CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from heed.envs.contract import TextActions
from heed.policies.language_model import load_language_model
from heed.policies.network import LanguageNetwork
from heed.policies.precision import computes_in_bfloat16
from tests.small_models import build

PROMPTS = torch.tensor([[5, 6, 7], [8, 9, -1]])


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    model = build("llama").float()
    assert not computes_in_bfloat16(model, "auto")
    assert not computes_in_bfloat16(model, "float32")
    assert computes_in_bfloat16(model, "bfloat16")


class OnGpu:
    """As much of a model as the choice looks at."""

    device = torch.device("cuda")

    def __init__(self, width: int, dtype: torch.dtype = torch.float32):
        self.dtype = dtype
        self.config = type("C", (), {"get_text_config": lambda _: type("T", (), {"hidden_size": width})})()


@pytest.mark.parametrize(
    ("width", "dtype", "supported", "chosen"),
    [
        (896, torch.float32, True, True),
        (896, torch.float32, False, False),
        (64, torch.float32, True, False),  # casting costs more than it saves
        (896, torch.bfloat16, True, False),  # is already
    ],
)
def test_a_gpu_computes_wide_models_in_bfloat16_where_it_can(
    width: int, dtype: torch.dtype, supported: bool, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    model: Any = OnGpu(width, dtype)
    assert computes_in_bfloat16(model, "auto") == chosen


@pytest.mark.parametrize("head", ["score", "linear"])
def test_what_comes_out_is_float32_and_near_the_exact(head: Any) -> None:
    exact, fast = (
        LanguageNetwork(load_language_model("heed-tiny"), TextActions(("a", "b")), head, "mean", precision=precision)
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
