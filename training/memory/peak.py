"""How much memory a piece of work takes at its peak: tensors on a GPU or a CPU, and the whole process."""

from __future__ import annotations

import resource
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_RSS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kibibytes


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that operations inside make, as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it returns, but for views and what it changed in place."""
        given = {_storage(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and _storage(tensor) not in self._known | given:
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        name, size = storage._cdata, storage.nbytes()
        self._known.add(name)
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed() -> None:
            self._known.discard(name)
            self.now -= size

        weakref.finalize(storage, freed)


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def peak_bytes(prepare: Callable[[], Callable[[], object]], device: str) -> int:
    """Return how many bytes of tensors a piece of work has alive at its peak, beyond what was there before.

    Args:
        prepare: makes the work, with its model and data.
        device: on a GPU the work is done and its allocator asked. On a CPU it is gone through with tensors that have
            shapes but no numbers: that takes no time and no memory, where the real work may have too little of either.
    """
    if device.startswith("cuda"):
        work = prepare()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return int(torch.cuda.max_memory_allocated() - before)
    with FakeTensorMode():
        work, live = prepare(), LiveBytes()
        with live:
            work()
    return live.peak


def process_peak_mib() -> int:
    """Return the most memory that this process has had so far, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_PER_MIB)
