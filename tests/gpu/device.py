"""Where these tests compute: the processor in `make test`, a CUDA card in `make test-gpu`, by HEED_TEST_DEVICE."""

from __future__ import annotations

import os
from typing import TypeVar

import torch

DEVICE = torch.device(os.environ.get("HEED_TEST_DEVICE", "cpu"))
ON_GPU = DEVICE.type == "cuda"

T = TypeVar("T")


def sized(small: T, real: T) -> T:
    """Return the size of a test: a small one on the processor, which is to show the logic only."""
    return real if ON_GPU else small
