"""What is computed from prompts is kept while the weights stand still, and never a moment longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from heed.envs.contract import TextActions
from heed.policies.caches.memory import RowMemory
from heed.policies.model_options import ModelOptions
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.prompts.layout import PADDING
from heed.policies.q_network import LanguageQPolicy

PROMPTS = torch.tensor([[5, PADDING, PADDING], [5, 6, PADDING], [7, 8, 9]])


class Reader(torch.nn.Module):
    """Stands in for a language model: key "n" has the row (n, n + 1) times its weight, as often as its count."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.computed: list[int] = []

    def rows(self, numbers: list[int], counts: list[int]) -> Callable[[list[int]], Tensor]:
        def compute(new: list[int]) -> Tensor:
            self.computed += [numbers[index] for index in new]
            rows = [[float(numbers[i]), numbers[i] + 1.0] for i in new for _ in range(counts[i])]
            return torch.tensor(rows) * self.weight.detach()

        return compute


def read(memory: RowMemory, reader: Reader, numbers: list[int], counts: list[int] | None = None) -> Tensor | None:
    counts = counts or [1] * len(numbers)
    found = memory.find([str(number).encode() for number in numbers], counts, reader.rows(numbers, counts))
    if found is None:
        return None
    table, starts = found
    return table[starts]


def test_rows_are_computed_once() -> None:
    reader = Reader()
    memory = RowMemory(reader, max_rows=100)
    assert read(memory, reader, [3, 1]) is not None
    rows = read(memory, reader, [1, 2, 3])
    assert rows is not None
    assert rows.tolist() == [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]
    assert reader.computed == [3, 1, 2]


def test_a_key_may_have_several_rows() -> None:
    reader = Reader()
    memory = RowMemory(reader, max_rows=100)
    keys, counts = [b"4", b"5"], [3, 2]
    found = memory.find(keys, counts, reader.rows([4, 5], counts))
    assert found is not None
    table, starts = found
    assert starts.tolist() == [0, 3]
    assert table[:5, 0].tolist() == [4.0, 4.0, 4.0, 5.0, 5.0]


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
    memory = RowMemory(reader, max_rows=100)
    stale = read(memory, reader, [1, 2])
    change(reader)
    fresh = read(memory, reader, [1, 2])
    assert stale is not None
    assert fresh is not None
    assert torch.equal(fresh, torch.tensor([[1.0, 2.0], [2.0, 3.0]]) * reader.weight)
    assert not torch.equal(fresh, stale)


def test_the_table_stays_within_its_bound_and_goes_on_being_right() -> None:
    reader = Reader()
    memory = RowMemory(reader, max_rows=40)
    for number in range(100):
        rows = read(memory, reader, [number, number + 1, number // 2])
        assert rows is not None
        assert rows[:, 0].tolist() == [number, number + 1, number // 2]
        assert len(memory) <= 40
    assert len(reader.computed) < 300
    assert read(memory, reader, [1, 2], [30, 20]) is None, "what does not fit at all is left to the caller"


def network(**arguments: Any) -> LanguageNetwork:
    language_model = load_language_model("heed-tiny")
    return LanguageNetwork(language_model, TextActions(("turn left", "turn right")), ModelOptions(**arguments))


def test_a_network_remembers_in_rollouts_only() -> None:
    reader = network()
    assert reader.memory is not None
    reader.train(False)
    with torch.no_grad():
        remembered = reader(PROMPTS)
    assert len(reader.memory) == 3
    features, _ = reader(PROMPTS)
    assert features.requires_grad, "an update is never served from memory"
    torch.testing.assert_close(features, remembered[0])
    reader.clear_cache()
    reader.train()
    with torch.no_grad():
        reader(PROMPTS)
    assert not len(reader.memory)


def test_the_target_network_remembers_nothing() -> None:
    language_model = load_language_model("heed-tiny")
    space = language_model.encoder(max_tokens=32).space
    policy: Any = LanguageQPolicy(space, TextActions(("a", "b")), lambda _: 1e-3, model=language_model)
    assert policy.q_net.network.memory is not None
    assert policy.q_net_target.network.memory is None
    assert policy.q_net_target.network.prefixes is None
