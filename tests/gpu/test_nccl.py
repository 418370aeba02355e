"""What processes tell each other goes through NCCL on GPUs, through gloo else: here with a single process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import distributed as dist
from torch import nn

from heed.agents.distributed.ranks import Ranks
from tests.gpu.device import DEVICE, ON_GPU


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    """One that sends everything all the same."""
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("nccl" if ON_GPU else "gloo", store=store, rank=0, world_size=1)
    monkeypatch.setattr(Ranks, "several", True)
    yield Ranks(0, 1, device=DEVICE, store=store)
    dist.destroy_process_group()


def test_everything_that_is_told_arrives(ranks: Ranks) -> None:
    assert dist.get_backend() == ("nccl" if ON_GPU else "gloo")
    assert ranks.sums([1.5, -2.0]) == [1.5, -2.0]
    assert (ranks.total(3), ranks.most(7), ranks.least(0.25)) == (3, 7, 0.25)
    mean, deviation = ranks.moments(torch.tensor([1.0, 2.0, 6.0], device=DEVICE))
    torch.testing.assert_close(torch.stack([mean, deviation]).cpu(), torch.tensor([3.0, 7**0.5]))
    assert ranks.gather({"episodes": [1, "a"]}) == [{"episodes": [1, "a"]}]
    assert ranks.to_first("told") == ["told"]
    assert ranks.first(lambda: 5) == 5
    assert ranks.first_to_tell()
    assert not ranks.first_to_tell()


def test_gradients_and_weights(ranks: Ranks) -> None:
    layer = nn.Linear(3, 2).to(DEVICE)
    layer(torch.ones(1, 3, device=DEVICE)).sum().backward()
    assert layer.weight.grad is not None
    before = layer.weight.grad.clone()
    assert ranks.sum_gradients(layer.parameters(), {"loss": 0.5}) == {"loss": 0.5}
    assert torch.equal(layer.weight.grad, before)
    halves = [torch.ones(3, dtype=dtype, device=DEVICE) for dtype in (torch.bfloat16, torch.int64, torch.bool)]
    ranks.assert_in_sync([*layer.parameters(), *halves])
    ranks.broadcast([*layer.parameters(), *halves])
