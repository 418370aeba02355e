"""Readings are remembered while the weights stand still, and never a moment longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from heed.envs.contract import TextActions
from heed.policies import memory as memory_module
from heed.policies.language_model import load_language_model
from heed.policies.memory import ReadingMemory
from heed.policies.network import LanguageNetwork
from heed.policies.prompt import PADDING
from heed.policies.q_network import LanguageQPolicy

PROMPTS = torch.tensor([[5, PADDING, PADDING], [5, 6, PADDING], [7, 8, 9]])


class Reader(torch.nn.Module):
    """Stands in for a language model: counts the prompts that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.read = 0

    def forward(self, prompts: Tensor) -> tuple[Tensor, Tensor]:
        self.read += len(prompts)
        sums = prompts.clamp(min=0).sum(dim=1, keepdim=True).float()
        return sums * self.weight, -sums * self.weight


def test_a_prompt_is_read_once_whatever_its_padding() -> None:
    reader = Reader()
    memory = ReadingMemory(reader)
    with torch.no_grad():
        features, scores = memory.read(PROMPTS, reader)
        assert reader.read == 3
        longer = torch.nn.functional.pad(PROMPTS[:2], (0, 4), value=PADDING)
        again, again_scores = memory.read(longer, reader)
        assert reader.read == 3
        mixed, _ = memory.read(torch.tensor([[5, 6], [4, 4]]), reader)
    assert reader.read == 4
    assert torch.equal(again, features[:2])
    assert scores is not None
    assert again_scores is not None
    assert torch.equal(again_scores, scores[:2])
    assert mixed.tolist() == [[11.0, 11.0], [8.0, 8.0]]


def step_of_an_optimizer(reader: Reader) -> None:
    reader.weight.grad = torch.ones(2)
    torch.optim.SGD(reader.parameters(), lr=1.0).step()


def loading_weights(reader: Reader) -> None:
    reader.load_state_dict({"weight": torch.zeros(2)})


def putting_a_tensor_in_its_place(reader: Reader) -> None:
    reader.weight.data = torch.full((2,), 3.0)


def changing_in_place(reader: Reader) -> None:
    with torch.no_grad():
        reader.weight.mul_(2)


@pytest.mark.parametrize(
    "change", [step_of_an_optimizer, loading_weights, putting_a_tensor_in_its_place, changing_in_place]
)
def test_nothing_is_remembered_across_a_change_of_weights(change: Callable[[Reader], None]) -> None:
    reader = Reader()
    memory = ReadingMemory(reader)
    with torch.no_grad():
        stale, _ = memory.read(PROMPTS, reader)
    change(reader)
    with torch.no_grad():
        fresh, _ = memory.read(PROMPTS, reader)
        assert torch.equal(fresh, reader(PROMPTS)[0])
    assert not torch.equal(fresh, stale)


def test_it_forgets_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "MEMORY_BYTES", 40 * 8)
    reader = Reader()
    memory = ReadingMemory(reader)
    with torch.no_grad():
        for number in range(300):
            features, _ = memory.read(torch.tensor([[number, 1]]), reader)
            assert features.tolist() == [[number + 1.0] * 2]
            assert len(memory._readings) <= 42


def network() -> LanguageNetwork:
    language_model = load_language_model("heed-tiny")
    return LanguageNetwork(language_model, TextActions(("turn left", "turn right")), "score", "mean")


def test_a_network_remembers_in_rollouts_only() -> None:
    reader = network()
    assert reader.memory is not None
    reader.eval()
    with torch.no_grad():
        remembered = reader(PROMPTS)
    assert len(reader.memory._readings) == 3
    with torch.enable_grad():
        features, _ = reader(PROMPTS)
        assert features.requires_grad, "an update is never served from memory"
    torch.testing.assert_close(features, remembered[0])
    reader.memory._readings.clear()
    reader.train()
    with torch.no_grad():
        reader(PROMPTS)
    assert not reader.memory._readings


def test_the_target_network_remembers_nothing() -> None:
    language_model = load_language_model("heed-tiny")
    space = language_model.encoder(max_tokens=32).space
    policy: Any = LanguageQPolicy(space, TextActions(("a", "b")), lambda _: 1e-3, model=language_model)
    assert policy.q_net.network.memory is not None
    assert policy.q_net_target.network.memory is None
