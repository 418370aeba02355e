"""What a policy perceives beside words: raw numbers and pictures, brought to a language model's hidden state.

Words lose precision, and no word says what a picture shows. So numbers (float32, any N of them) go through two layers,
after symlog (Hafner et al. 2023, arXiv 2301.04104, equation 9), which needs no knowledge of their range; pictures go
through three convolutions, those of Mnih et al. 2015 (doi 10.1038/nature14236) with a padding. Together they are a
vector of the hidden state's width, D, which is added to it: linear heads and values read the sum.

Action scores are log-likelihoods of texts, in which a vector beside the words has no place of its own. They get the
inner product of that vector with each action's text: the mean of its tokens' input embeddings, normalised to mean 0 and
variance 1 over D, divided by the square root of D. The last layer begins at zero, so an untrained policy decides by the
words alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from heed.policies.heads.trie import Tries
from heed.policies.prompts.layout import Beside

HIDDEN = 64
"""Width of the layers between."""

CHANNELS = (32, 64, 64)
"""Of the convolutions."""


class Senses(nn.Module):
    """Numbers and a picture, together as one vector.

    Args:
        beside: what there is.
        width: of the hidden state, D.
    """

    def __init__(self, beside: Beside, width: int):
        super().__init__()
        self.numbers: nn.Module | None = None
        self.image: nn.Module | None = None
        if beside.numbers:
            self.numbers = nn.Sequential(
                nn.Linear(beside.numbers, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()
            )
        if beside.image is not None:
            height, breadth, channels = beside.image
            self.image = _convolutions(channels, height, breadth)
        parts = (self.numbers is not None) + (self.image is not None)
        self.out = nn.Linear(parts * HIDDEN, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, numbers: Tensor | None, image: Tensor | None) -> Tensor:
        """Return the vectors, (B, D), of numbers (B, N) and pictures (B, H, W, C) of bytes."""
        parts = []
        if self.numbers is not None:
            assert numbers is not None
            parts.append(self.numbers(symlog(numbers)))
        if self.image is not None:
            assert image is not None
            parts.append(self.image(image.permute(0, 3, 1, 2).float() / 255))
        vectors: Tensor = self.out(torch.cat(parts, dim=1))
        return vectors


def symlog(numbers: Tensor) -> Tensor:
    """Return sign(x) * ln(1 + abs(x)): near zero the number itself, and large ones small."""
    return numbers.sign() * numbers.abs().log1p()


def _convolutions(channels: int, height: int, width: int) -> nn.Module:
    """Return a network from pictures (B, C, H, W) to (B, HIDDEN); small pictures are taken in finer steps."""
    first, second, third = CHANNELS
    sizes = ((8, 4), (4, 2), (3, 1)) if min(height, width) >= 36 else ((3, 2), (3, 2), (3, 1))
    layers: list[nn.Module] = []
    for before, after, (kernel, stride) in zip((channels, first, second), (first, second, third), sizes, strict=True):
        layers += [nn.Conv2d(before, after, kernel, stride, padding=kernel // 2), nn.ReLU()]
    convolutions = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        flat = convolutions(torch.zeros(1, channels, height, width)).shape[1]
    return nn.Sequential(convolutions, nn.Linear(flat, HIDDEN), nn.Tanh())


def text_vectors(model: PreTrainedModel, tries: Tries) -> Tensor:
    """Return a vector of each action's text, (G, A, D), with mean 0 and variance 1 over D; 0 where there is none."""
    embedding = model.get_input_embeddings()
    assert embedding is not None
    tokens: Tensor = embedding(tries.tokens)  # (G, A, T, D)
    real = torch.arange(tries.tokens.shape[2], device=tokens.device) < tries.lengths[:, :, None]
    mean = (tokens.float() * real[..., None]).sum(dim=2) / tries.lengths.clamp(min=1)[:, :, None]
    return functional.layer_norm(mean, mean.shape[-1:]) * (tries.lengths > 0)[:, :, None]


def leaning(vectors: Tensor, texts: Tensor) -> Tensor:
    """Return how much vectors (B, D) speak for each action, (B, A), given vectors of the texts, (1 or B, A, D).

    Where embeddings have another width than hidden states, as ELECTRA's, the numbers that both have count.
    """
    width = min(vectors.shape[1], texts.shape[2])
    products: Tensor = (texts[..., :width] * vectors[:, None, :width]).sum(dim=2) / width**0.5
    return products
