"""What `heed train` says of memory: what it is going to need, and at the end what it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from heed.agents.persistence.checkpoint import write_json
from heed.policies.models.language_model import SHIPPED
from heed.training.errors import known_errors
from heed.training.memory.estimate import Estimate, estimate_memory
from heed.training.memory.machine import free_memory
from heed.training.option_groups import LANGUAGE_AGENTS
from heed.training.options import TrainConfig
from heed.training.tracking.system import peak_memory

if TYPE_CHECKING:
    from rich.console import Console

    from heed.training.run_folder import RunFolder


GIB, MIB = 2**30, 2**20


def told(size: int) -> str:
    """Return a number of bytes in words: "3.2 GiB", "15 MiB"."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def sentence(estimate: Estimate) -> str:
    """Return an estimate in a line."""
    largest = sorted((part for part in estimate.parts), key=lambda part: -part.size)[:2]
    of_which = " and ".join(f"{told(part.size)} {part.name}" for part in largest)
    total = told(estimate.total("device"))
    return f"Memory: about {total} on {estimate.device}, of which {of_which} (heed memory tells more)."


def tell_estimate(config: TrainConfig, console: Console) -> Estimate | None:
    """Say what the training needs, and warn where that is more than there is; None where it cannot be told.

    The models that ship need little beside Python itself, and a short training of one would wait for the estimate.
    """
    if config.agent not in LANGUAGE_AGENTS or config.model in SHIPPED:
        return None
    try:
        estimate = estimate_memory(config)
    except known_errors():
        return None  # the training is about to say the same
    except Exception as error:  # no training is to fail for the want of an estimate
        console.print(f"Memory: no estimate ({type(error).__name__}: {error}).", markup=False)
        return None
    console.print(sentence(estimate), markup=False)
    free = free_memory(estimate.device)
    if free is not None and estimate.new > free:
        console.print(
            f"Warning: that is more than the {told(free)} which are free on {estimate.device}. `heed memory` with the "
            "same options says what takes less.",
            markup=False,
        )
    return estimate


def tell_used(run: RunFolder, device: torch.device, estimate: Estimate | None, console: Console) -> None:
    """Say what the training took at its peak, and write that and the estimate into the run folder."""
    used = {"process_peak": peak_memory()}
    words = f"{told(used['process_peak'])} of main memory"
    if device.type == "cuda":
        used["device_peak"] = int(torch.cuda.max_memory_allocated(device))
        words = f"{told(used['device_peak'])} on {device} and {words}"
    console.print(f"Memory used at the peak: {words}.", markup=False)
    estimated = None if estimate is None else estimate.as_json()
    write_json(run.memory, {"used": used, "estimate": estimated})
