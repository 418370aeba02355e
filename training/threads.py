"""How many threads a command computes with, which it says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heed.agents import LanguageAgent

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""How threads wait for each other, in the words of OpenMP, GNU's and LLVM's."""


def wait_asleep() -> None:
    """Let torch's threads sleep while they wait for each other, unless the environment says how they are to wait.

    They spin otherwise, on a core that others could use; the one that all of them wait for may be waiting for just
    that core. It has an effect before torch is imported only.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def set_threads(asked: int | None, agent: LanguageAgent) -> int:
    """Let torch compute with the threads that were asked for, or else with those that suit the agent.

    Returns:
        How many these are.
    """
    import torch

    from heed.agents.distributed.threads import threads_for

    policy = getattr(agent, "language_policy", None)
    model = None if policy is None else policy.language_model.model
    threads = asked or threads_for(model, agent.device)
    torch.set_num_threads(threads)
    return threads


def told_threads() -> str:
    """Return in words with how many threads torch computes, and of how many cores."""
    import torch

    from heed.agents.distributed.threads import available_cores

    threads, cores = torch.get_num_threads(), available_cores()
    told = "1 thread" if threads == 1 else f"{threads} threads"
    return told if threads >= cores else f"{told} on {cores} cores (--threads for another number)"
