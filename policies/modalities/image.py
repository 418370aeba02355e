"""A picture: bytes, four to a column of the row, read by the convolutions of Mnih et al. 2015, with a padding.

(doi 10.1038/nature14236)
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
from torch.nn import functional

from heed.policies.modalities.modality import Modality, register_modality, require_sizes
from heed.policies.modalities.numbers import HIDDEN, zeros

CHANNELS = (32, 64, 64)
"""Of the convolutions."""

SUMMARY_SIDE = 32
"""A picture is averaged to at most so many rows and columns for exploration."""


@register_modality
@dataclass(frozen=True)
class Image(Modality):
    """A picture, (H, W, C) of bytes."""

    key: ClassVar[str] = "image"

    height: int
    width: int
    channels: int

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        require_sizes(self.key, self.shape)

    @classmethod
    def of(cls, space: spaces.Space[Any], action_space: spaces.Space[Any]) -> Image:
        """Return it for a Box of bytes (H, W, C)."""
        if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
            raise ValueError(f"The key `image` of an observation is a Box of uint8 (H, W, C), but here it is {space}.")
        return cls(*space.shape)

    @property
    def columns(self) -> int:
        """A quarter of its bytes."""
        return -(-math.prod(self.shape) // 4)

    @property
    def shape(self) -> tuple[int, ...]:
        """As an observation holds it, (H, W, C)."""
        return (self.height, self.width, self.channels)

    def pack(self, values: Sequence[Any]) -> npt.NDArray[np.int32]:
        """Return the bytes."""
        pixels = np.zeros((len(values), 4 * self.columns), dtype=np.uint8)
        image = np.stack(list(values)).astype(np.uint8, copy=False).reshape(len(values), -1)
        pixels[:, : image.shape[1]] = image
        return pixels.view(np.int32)

    def unpack(self, packed: Tensor) -> Tensor:
        """Return pictures of bytes, (B, H, W, C)."""
        return packed.contiguous().view(torch.uint8)[:, : math.prod(self.shape)].reshape(-1, *self.shape)

    def embedder(self, width: int) -> nn.Module:
        """Return three convolutions and two layers, of which the last begins at zero: (B, H, W, C) to (B, 1, D)."""
        return nn.Sequential(
            Planes(),
            convolutions(self.channels, self.height, self.width),
            zeros(nn.Linear(HIDDEN, width)),
            nn.Unflatten(1, (1, width)),
        )

    def summary(self, values: Tensor) -> Tensor:
        """Return the average colors of its parts."""
        return functional.adaptive_avg_pool2d(Planes()(values), self._summary_sides).flatten(1)

    @property
    def summary_size(self) -> int:
        """Of what `summary` gives."""
        return math.prod(self._summary_sides) * self.channels

    @property
    def _summary_sides(self) -> tuple[int, int]:
        return min(self.height, SUMMARY_SIDE), min(self.width, SUMMARY_SIDE)


class Planes(nn.Module):
    """From bytes (B, H, W, C) to numbers from 0 to 1, (B, C, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        """Return them."""
        return images.permute(0, 3, 1, 2).float() / 255


def convolutions(channels: int, height: int, width: int) -> nn.Module:
    """Return a network from pictures (B, C, H, W) to (B, HIDDEN); small pictures are taken in finer steps."""
    first, second, third = CHANNELS
    sizes = ((8, 4), (4, 2), (3, 1)) if min(height, width) >= 36 else ((3, 2), (3, 2), (3, 1))
    layers: list[nn.Module] = []
    for before, after, (kernel, stride) in zip((channels, first, second), (first, second, third), sizes, strict=True):
        layers += [nn.Conv2d(before, after, kernel, stride, padding=kernel // 2), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        flat = network(torch.zeros(1, channels, height, width)).shape[1]
    return nn.Sequential(network, nn.Linear(flat, HIDDEN), nn.Tanh())
