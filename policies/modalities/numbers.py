"""Raw numbers, which words round off.

They are float32s whose bits stand in the row, so nothing is rounded and two rows are equal only if all of it is. The
network reads them after symlog (Hafner et al. 2023, arXiv 2301.04104, equation 9), which needs no knowledge of their
range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from heed.policies.finite import require_finite_array
from heed.policies.modalities.modality import Modality, register_modality, require_sizes

HIDDEN = 64
"""Width of the layers between."""

LARGEST = np.finfo(np.float32).max
"""What stands for all numbers beyond it, infinity included."""


@register_modality
@dataclass(frozen=True)
class Numbers(Modality):
    """A vector of numbers."""

    key: ClassVar[str] = "numbers"

    count: int
    """How many there are, N."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        require_sizes(self.key, [self.count])

    @classmethod
    def of(cls, space: spaces.Space[Any], action_space: spaces.Space[Any]) -> Numbers | None:
        """Return it for a Box of any shape."""
        if not isinstance(space, spaces.Box):
            raise ValueError(f"The key `numbers` of an observation is a Box of numbers, but here it is {space}.")
        count = math.prod(space.shape)
        return cls(count) if count else None

    @property
    def columns(self) -> int:
        """One for each number."""
        return self.count

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers, flat: (N,)."""
        return (self.count,)

    def pack(self, values: Sequence[Any]) -> npt.NDArray[np.int32]:
        """Return the bits of float32s; what is larger than any becomes the largest."""
        with np.errstate(over="ignore"):
            numbers = np.array(np.stack(list(values)), dtype=np.float32, order="C")
        np.clip(numbers, -LARGEST, LARGEST, out=numbers)  # no weight times infinity is a number
        require_finite_array(
            numbers, "observation's `numbers`", "The policy reads finite float32s: look at what gives them."
        )
        return numbers.reshape(len(numbers), self.count).view(np.int32)

    def unpack(self, packed: Tensor) -> Tensor:
        """Return the float32s, (B, N)."""
        return packed.contiguous().view(torch.float32)

    def embedder(self, width: int) -> nn.Module:
        """Return two layers, and one that begins at zero: (B, N) to (B, 1, D)."""
        return nn.Sequential(
            *(Symlog(), nn.Linear(self.count, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()),
            zeros(nn.Linear(HIDDEN, width)),
            nn.Unflatten(1, (1, width)),
        )


class Symlog(nn.Module):
    """sign(x) * ln(1 + abs(x)): near zero the number itself, and large ones small."""

    def forward(self, numbers: Tensor) -> Tensor:
        """Return it of each number."""
        return numbers.sign() * numbers.abs().log1p()


def zeros(layer: nn.Linear) -> nn.Linear:
    """Return a layer with all weights at zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
