"""How many threads torch computes with.

torch takes every core. After each operation its threads wait for each other, so that where another program has one of
the cores all of them wait for that one: beside other work on two cores, PPO with heed-tiny made 45 steps a second with
two threads and 942 with one ([Performance](performance.md#threads)). So a small model, which gains little from
more threads, gets one.

The number follows from the model and from the cores that this process may use, and never from how busy these are:
another number of threads adds up in another order, and the same seed is to give the same run on the same machine.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

WEIGHTS_OF_A_THREAD = 1_000_000
"""Weights that are multiplied with every token, for each thread. Below that, what a thread takes over from another is
less than what waiting for it costs: with 2.6 million of them two threads are worth having on cores that are free."""

_CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Return how many cores this process may use, by its affinity and its container's quota."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, _quota() or there)


def threads_for(model: nn.Module | None, device: torch.device | str) -> int:
    """Return how many threads an agent with this language model is to compute with: OMP_NUM_THREADS at most.

    Args:
        model: the language model; None of an agent that has none.
        device: where it computes. Beside a GPU little is left for the processor.
    """
    if model is None or torch.device(device).type != "cpu":
        return 1
    most = _omp_num_threads() or available_cores()
    return max(1, min(most, multiplied_weights(model) // WEIGHTS_OF_A_THREAD))


def multiplied_weights(model: nn.Module) -> int:
    """Return how many of a model's weights are multiplied with every token: all but those of embeddings."""
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return sum(weight.numel() for weight in model.parameters() if id(weight) not in looked_up)


def _omp_num_threads() -> int | None:
    """Return what OMP_NUM_THREADS says, which may list a number for each nesting; None where it says nothing."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(told) if told.isdecimal() and int(told) else None


def _quota() -> int | None:
    """Return how many cores' time a Linux container has, rounded up; None where it has no limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, -(-int(quota) // int(period)))
