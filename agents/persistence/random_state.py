"""The random states behind a training, as JSON and tensors, to be put back on resume.

SB3 draws from the global generators of torch, NumPy and Python; Heed's own code is given its generators.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor


def get_random_state(action_space: spaces.Space[Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the states of all generators: what JSON holds, and torch's as tensors."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - SB3 draws from it
    version, internal, gauss = random.getstate()
    numbers = {
        "numpy": [name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "python": [version, list(internal), gauss],
        "action_space": action_space.np_random.bit_generator.state,
    }
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return numbers, tensors


def set_random_state(action_space: spaces.Space[Any], numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Put the states of `get_random_state` back."""
    name, keys, position, has_gauss, cached = numbers["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = numbers["python"]
    random.setstate((version, tuple(internal), gauss))
    action_space.np_random.bit_generator.state = numbers["action_space"]
    torch.set_rng_state(tensors["torch"])
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            if f"cuda.{index}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda.{index}"], index)
