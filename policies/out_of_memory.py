"""What to do when memory runs out: how it is known, who makes what is computed smaller, and what is said at last."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from contextvars import ContextVar

import torch

_SAID_BY_OTHERS = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What errors say that mean the same, and have no class of their own."""

_caller_splits: ContextVar[bool] = ContextVar("caller_splits", default=False)


class DoesNotFitError(torch.OutOfMemoryError):
    """What is to be computed does not fit into memory, however it is split. The message says what to do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that a device has no memory left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID_BY_OTHERS)


@contextlib.contextmanager
def caller_splits() -> Iterator[None]:
    """Within this, let who reads prompts not split them when memory runs out: who asked for them does it better."""
    token = _caller_splits.set(True)
    try:
        yield
    finally:
        _caller_splits.reset(token)


def reader_splits() -> bool:
    """Say whether who reads prompts is to split them when memory runs out."""
    return not torch.is_grad_enabled() and not _caller_splits.get()


def release_memory() -> None:
    """Give back what nothing needs any more; the error must be gone by now, which holds on to all of its frames."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def does_not_fit(what: str, *, gradient: bool) -> DoesNotFitError:
    """Return the error for `what` that has been split as far as it can be."""
    also = "--activation-checkpointing, --adapter lora, with it --weights bfloat16, " if gradient else ""
    return DoesNotFitError(
        f"{what} does not fit into memory. What takes less: {also}a smaller --model, or a smaller --max-prompt-tokens. "
        "`heed memory` with the training's options says what needs how much."
    )
