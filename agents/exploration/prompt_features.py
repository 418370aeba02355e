"""A fixed random encoding of prompts: of their tokens, and of what stands beside the words, each by itself.

A prompt's row is taken apart by its layout (`heed.policies.prompts.layout`) first. Read as one row of ids, the bits of
numbers and a picture's bytes would be tokens, or padding, and where a row ends would depend on the others of its batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from heed.agents.exploration.features import ArrayFeatures, TextFeatures
from heed.policies.prompts.layout import Beside, PromptLayout

PICTURE_SIDE = 32
"""A picture is averaged to at most so many rows and columns."""


class BesideFeatures(nn.Module):
    """Encodes the numbers and the picture of prompts.

    Args:
        beside: which of them prompts have, at least one.
        width: of the vector of each.
        generator: draws what is random.
    """

    def __init__(self, beside: Beside, *, width: int, generator: torch.Generator):
        super().__init__()
        self.numbers = ArrayFeatures(beside.numbers, width=width, generator=generator) if beside.numbers else None
        self.image: ArrayFeatures | None = None
        self._size = (0, 0)
        if beside.image is not None:
            height, columns, channels = beside.image
            self._size = min(height, PICTURE_SIDE), min(columns, PICTURE_SIDE)
            self.image = ArrayFeatures(math.prod(self._size) * channels, width=width, generator=generator)

    @staticmethod
    def parts_of(beside: Beside) -> int:
        """Return how many parts are encoded."""
        return bool(beside.numbers) + (beside.image is not None)

    def forward(self, numbers: Tensor | None, image: Tensor | None, *, observe: bool = False) -> Tensor:
        """Return the vectors, (B, parts * width), of numbers (B, N) and pictures (B, H, W, C) of bytes."""
        vectors = []
        if self.numbers is not None and numbers is not None:
            vectors.append(self.numbers(numbers, observe=observe))
        if self.image is not None and image is not None:
            pixels = functional.adaptive_avg_pool2d(image.permute(0, 3, 1, 2).float() / 255, self._size)
            vectors.append(self.image(pixels.flatten(1), observe=observe))
        return torch.cat(vectors, dim=1)


class PromptFeatures(nn.Module):
    """Encodes prompts.

    Args:
        layout: of their rows.
        width: of the vector of each part.
        generator: draws what is random.
    """

    def __init__(self, layout: PromptLayout, *, width: int, generator: torch.Generator):
        super().__init__()
        self.layout = layout
        self.text = TextFeatures(width=width, generator=generator)
        parts = BesideFeatures.parts_of(layout.beside)
        self.beside = BesideFeatures(layout.beside, width=width, generator=generator) if parts else None
        self.width = (1 + parts) * width
        """Of the vector of a prompt."""

    def forward(self, prompts: Tensor, *, observe: bool = False) -> Tensor:
        """Return the vectors, (B, width), of prompts (B, L); with `observe`, whitening takes notice of them."""
        parts = self.layout.split(prompts)
        text: Tensor = self.text(parts.tokens, observe=observe)
        if self.beside is None:
            return text
        return torch.cat([text, self.beside(parts.numbers, parts.image, observe=observe)], dim=1)
