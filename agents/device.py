"""Where an agent computes: a device that is there, or an error, never another device in its place.

Stable-Baselines3's `get_device` goes on with the CPU where `cuda` is asked for and there is none: a training that was
planned for hours would take weeks, and nobody would be told.
"""

from __future__ import annotations

import torch
from stable_baselines3.common.utils import get_device

AUTO = "auto"
"""The name of CUDA where there is any, else of the CPU."""


class DeviceError(ValueError):
    """There is no such device. The message says which there are."""


def named_device(device: torch.device | str) -> torch.device:
    """Return the device of a name, be it there or not.

    Raises:
        DeviceError: if it names none.
    """
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise DeviceError(f"{device!r} names no device: give cpu, cuda, cuda:0, ..., or auto.") from None


def available_device(device: torch.device | str) -> torch.device:
    """Return the device that an agent is to compute on.

    Args:
        device: a device, its name, or `auto`.

    Raises:
        DeviceError: if there is no such device here.
    """
    if device == AUTO:
        return get_device(AUTO)
    asked = named_device(device)
    if asked.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise DeviceError(
                f"The device {asked} is asked for, but PyTorch {torch.__version__} finds no GPU here (no NVIDIA GPU or "
                "driver, or PyTorch built without CUDA): give cpu, or auto, which takes what there is."
            )
        if (asked.index or 0) >= count:  # without an index it is the first
            there = ", ".join(f"cuda:{index}" for index in range(count))
            raise DeviceError(f"The device {asked} is asked for, but there are only {there}.")
        return asked
    if asked.type == "meta":
        raise DeviceError("Tensors on the device meta hold no numbers, so nothing can be learned there: give cpu.")
    try:
        torch.zeros(1, device=asked)
    except (RuntimeError, AssertionError, NotImplementedError, ModuleNotFoundError, ImportError):
        raise DeviceError(
            f"The device {asked} is asked for, but PyTorch {torch.__version__} cannot compute on it here: give cpu, or "
            "auto, which takes what there is."
        ) from None
    return asked
