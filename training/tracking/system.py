"""What the machine does while an agent trains: memory, steps and tokens a second."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

MIB = 2**20


class SystemMetrics:
    """Measures the machine between one point of the curve and the next.

    - `system/memory_mib`, `system/peak_memory_mib`: what the process takes up of main memory now (where the system
      tells, as Linux does), and at most so far. Processes of environments (`--processes`) are others.
    - `system/gpu_memory_mib`, `system/gpu_peak_memory_mib`: what PyTorch's tensors take up on the agent's GPU.
    - `system/steps_per_second`: environment steps since the last point, updates and all included.
    - `system/tokens_per_second`: tokens of prompts that the language model read since then, to act or to learn; a
      prompt that is remembered, or stands twice in a batch, is not read again.

    Args:
        device: of the agent.
        tokens_read: tells how many tokens were read altogether; None where nothing is.
        clock: seconds, from any beginning.
    """

    def __init__(
        self,
        device: torch.device,
        tokens_read: Callable[[], int] | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._device = device
        self._tokens_read = tokens_read
        self._clock = clock
        self.begin(0)

    def begin(self, step: int) -> None:
        """Count from here: the training is at `step`."""
        self._since = (self._clock(), step, 0 if self._tokens_read is None else self._tokens_read())

    def measure(self, step: int) -> dict[str, float]:
        """Return the metrics at `step`, and count from here.

        Rates are missing where no time has passed.
        """
        (before, first, tokens), now = self._since, self._clock()
        self.begin(step)
        metrics = memory_metrics(self._device)
        if now > before:
            metrics["system/steps_per_second"] = (step - first) / (now - before)
            if self._tokens_read is not None:
                metrics["system/tokens_per_second"] = (self._tokens_read() - tokens) / (now - before)
        return metrics


def memory_metrics(device: torch.device) -> dict[str, float]:
    """Return what is taken up of main memory, and of the memory of `device` if that is a GPU, in MiB."""
    metrics = {"system/peak_memory_mib": peak_memory() / MIB}
    resident = resident_memory()
    if resident is not None:
        metrics["system/memory_mib"] = resident / MIB
    if device.type == "cuda":
        metrics["system/gpu_memory_mib"] = torch.cuda.memory_allocated(device) / MIB
        metrics["system/gpu_peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / MIB
    return metrics


def resident_memory() -> int | None:
    """Return the bytes of main memory that this process takes up now; None where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_memory() -> int:
    """Return the most bytes of main memory that this process has taken up."""
    # In bytes on macOS, in KiB on Linux (getrusage(2) of each).
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
