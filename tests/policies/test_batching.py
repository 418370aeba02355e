"""Different prompts once, in chunks that waste least, against counting by hand and trying every split."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from heed.policies.caches.batching import CHUNK_TOKENS, LENGTH_STEP, Inputs, chunks_of_like_length, micro_batches
from heed.policies.prompts.layout import PADDING

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_each_different_prompt_stands_once_the_shortest_first(dtype: torch.dtype) -> None:
    prompts = torch.tensor(
        [[5, 6, PADDING, PADDING], [7, PADDING, PADDING, PADDING], [5, 6, PADDING, PADDING], [5, 7, PADDING, PADDING]]
    )
    batch = Inputs.of(prompts.to(dtype))
    assert batch.prompts.tolist() == [[7, PADDING], [5, 6], [5, 7]]  # cut to the longest
    assert batch.prompts.dtype == torch.int64
    assert batch.lengths.tolist() == [1, 2, 2]
    assert torch.equal(batch.prompts[batch.inverse], prompts[:, :2])
    assert batch.keys == Inputs.of(torch.nn.functional.pad(prompts, (0, 3), value=PADDING)).keys
    some = batch.select([0, 2])
    assert some.prompts.tolist() == [[7, PADDING], [5, 7]]
    assert some.keys == [batch.keys[0], batch.keys[2]]


def test_prompts_that_differ_in_integer_size_only_have_the_same_key() -> None:
    """Were keys made of raw bytes, [5, 0] in 16 bits and [5] in 32 would be one."""
    narrow = Inputs.of(torch.tensor([[5, 0]], dtype=torch.int16))
    wide = Inputs.of(torch.tensor([[5, PADDING]], dtype=torch.int32))
    assert narrow.keys != wide.keys
    assert narrow.keys == Inputs.of(torch.tensor([[5, 0]])).keys


def cost(lengths: list[int], cuts: list[int]) -> int:
    """Return the tokens with padding, and what each chunk costs, of splitting at `cuts`."""
    whole = 0
    for first, last in itertools.pairwise([0, *cuts, len(lengths)]):
        longest = -(-max(lengths[first:last]) // LENGTH_STEP) * LENGTH_STEP
        whole += (last - first) * longest + CHUNK_TOKENS["cpu"]
    return whole


@pytest.mark.parametrize("seed", range(20))
def test_no_other_split_costs_less(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = np.sort(random.integers(1, 400, size=int(random.integers(1, 10))))
    chunks = chunks_of_like_length(lengths, CPU)
    assert [row for chunk in chunks for row in range(chunk.start, chunk.stop)] == list(range(len(lengths)))
    ours = cost(lengths.tolist(), [chunk.start for chunk in chunks[1:]])
    best = min(
        cost(lengths.tolist(), list(cuts))
        for count in range(len(lengths))
        for cuts in itertools.combinations(range(1, len(lengths)), count)
    )
    assert ours == best


def test_few_long_prompts_do_not_pad_the_many_short_ones() -> None:
    chunks = chunks_of_like_length(np.array([20] * 100 + [400] * 3), CPU)
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 100), (100, 103)]
    assert len(chunks_of_like_length(np.array([20, 21, 22, 24]), CPU)) == 1


def test_micro_batches_stay_within_their_tokens_and_keep_equal_prompts_together() -> None:
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(0, 3, (60, 12), generator=generator)
    for row, length in enumerate(torch.randint(1, 13, (60,), generator=generator)):
        prompts[row, int(length) :] = PADDING
    parts = micro_batches(Inputs.of(prompts), max_tokens=40)
    assert len(parts) > 5
    assert sorted(torch.cat(parts).tolist()) == list(range(60))
    sets = [Inputs.of(prompts[rows]) for rows in parts]
    assert all(batch.prompts.numel() <= 40 for batch in sets)
    keys = [key for batch in sets for key in batch.keys]
    assert len(keys) == len(set(keys))
    assert [len(rows) for rows in micro_batches(Inputs.of(prompts), max_tokens=10_000)] == [60]
    assert len(micro_batches(Inputs.of(torch.ones(2, 50)), max_tokens=10)) == 1  # equal, and longer than allowed


def test_soft_tokens_count_in_micro_batches() -> None:
    inputs = Inputs.of(torch.arange(24).reshape(6, 4))
    assert [len(rows) for rows in micro_batches(inputs, max_tokens=12)] == [3, 3]
    inputs.soft_tokens = 2
    assert [len(rows) for rows in micro_batches(inputs, max_tokens=12)] == [2, 2, 2]
    assert len(micro_batches(inputs.select([0, 1, 2]), max_tokens=12)) == 2
