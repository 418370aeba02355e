"""What counts as memory that ran out, and who splits then."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heed.policies.caches.batching import Inputs
from heed.policies.out_of_memory import DoesNotFitError, caller_splits, does_not_fit, is_out_of_memory, reader_splits


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (MemoryError(), False),
        (does_not_fit("It", gradient=True), True),
    ],
)
def test_what_counts(error: BaseException, counts: bool) -> None:
    assert is_out_of_memory(error) == counts


def test_the_last_word_says_what_to_do() -> None:
    learning, reading = str(does_not_fit("It", gradient=True)), str(does_not_fit("It", gradient=False))
    assert "--activation-checkpointing" in learning
    assert "--activation-checkpointing" not in reading
    assert "heed memory" in reading
    assert isinstance(does_not_fit("It", gradient=False), DoesNotFitError)


def test_a_reader_splits_where_nothing_is_learned_and_nobody_else_does() -> None:
    assert not reader_splits()
    with torch.no_grad():
        assert reader_splits()
        with caller_splits():
            assert not reader_splits()
        assert reader_splits()


def test_chunks_are_no_larger_than_they_may_be() -> None:
    prompts = torch.zeros(10, 4, dtype=torch.long) + torch.arange(10)[:, None]
    batch = Inputs.of(prompts)
    assert batch.chunks() == [slice(0, 10)]
    # 4 tokens and 2 behind: three prompts of 6 are 18, four would be 24.
    chunks = batch.chunks(extra=2, most=20)
    assert chunks == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)]
    assert np.concatenate([np.arange(chunk.start, chunk.stop) for chunk in chunks]).tolist() == list(range(10))
    assert len(batch.chunks(most=1)) == 10
