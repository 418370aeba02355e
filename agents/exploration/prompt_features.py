"""A fixed random encoding of prompts: of their tokens and of each modality, each by itself.

A prompt's row is taken apart by its layout (`heed.policies.prompts.layout`) first. Read as one row of ids, the bits of
numbers and a picture's bytes would be tokens, or padding, and where a row ends would depend on the others of its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heed.agents.exploration.features import ArrayFeatures, TextFeatures
from heed.policies.prompts.layout import PromptLayout


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
        # What there is to choose from is no part of the state: the values of actions tell it.
        self._modalities = [modality for modality in layout.modalities if not modality.choices]
        self.auxiliary = nn.ModuleDict(
            {
                modality.key: ArrayFeatures(modality.summary_size, width=width, generator=generator)
                for modality in self._modalities
            }
        )
        self.width = (1 + len(self._modalities)) * width
        """Of the vector of a prompt."""

    def forward(self, prompts: Tensor, *, observe: bool = False) -> Tensor:
        """Return the vectors, (B, width), of prompts (B, L); with `observe`, whitening takes notice of them."""
        parts = self.layout.split(prompts)
        vectors = [self.text(parts.tokens, observe=observe)]
        for modality in self._modalities:
            summary = modality.summary(modality.unpack(parts.packed[modality.key]))
            vectors.append(self.auxiliary[modality.key](summary, observe=observe))
        return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=1)
