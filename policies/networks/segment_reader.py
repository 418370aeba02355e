"""What learns on the vectors of segments: it looks at what the instruction speaks of.

An encoder of sentences brings together what means the same: "red ball 2 left 3 ahead" lies nearer to "go to the red
ball" than "red box 1 ahead" does, whatever the order of the words and whether or not a training ever had that verb. So
attention begins there: a segment's weight is the softmax of a learned number times its vector's cosine with the
instruction's. Half of the heads begin so, the others look at everything alike; from there on queries, keys and those
numbers learn. The instruction's own content comes in through a layer that begins at zero: what the similarities tell is
learned first, and holds for words that no training named, while the content of a few dozen instructions would only be
learned by heart.

    state h = learned + W x_instruction                               (W begins at 0)
    twice:  h = h + attention of h to the segments, h = h + feed-forward network of h

Shapes: B prompts, S segments with the instruction as the first, E numbers of an encoder's vector, D of the features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 128
"""D"""
HEADS = 4
ROUNDS = 2
SHARPNESS = 20.0
"""What a cosine is multiplied by at first: MiniLM puts 0.2 to 0.3 between a thing that is meant and another."""
POSITIONS = 64
"""Segments whose places are told apart; those behind them share the last."""


class SegmentReader(nn.Module):
    """Turns the vectors of a prompt's segments into features.

    Args:
        vector_width: E.
        width: D.
        rounds: how often it looks.
    """

    def __init__(self, vector_width: int, *, width: int = WIDTH, rounds: int = ROUNDS):
        super().__init__()
        self.width = width
        self.start = nn.Parameter(torch.zeros(width))
        self.instruction = nn.Linear(vector_width, width, bias=False)
        nn.init.zeros_(self.instruction.weight)
        self.content = nn.Linear(vector_width, width)
        self.similarity = nn.Linear(2, width, bias=False)
        self.positions = nn.Embedding(POSITIONS, width)
        nn.init.zeros_(self.positions.weight)
        self.hidden = nn.Linear(width, width)
        self.segments_norm = nn.LayerNorm(width)
        self.rounds = nn.ModuleList(_Round(width) for _ in range(rounds))
        self.norm = nn.LayerNorm(width)

    def forward(self, vectors: Tensor, real: Tensor) -> Tensor:
        """Return the features of prompts, (B, D).

        Args:
            vectors: of the segments, (B, S, E), the instruction's first.
            real: which there are, (B, S).
        """
        unit = functional.normalize(vectors, dim=-1)
        instruction, seen, real = unit[:, :1], unit[:, 1:], real[:, 1:]
        scale = vectors.shape[-1] ** 0.5  # numbers of about 1
        cosines = (instruction * seen).sum(dim=-1)  # (B, S - 1)
        places = torch.arange(seen.shape[1], device=seen.device).clamp(max=POSITIONS - 1)
        marks = torch.stack([cosines, standardised(cosines, real)], dim=-1)
        segments = self.content(seen * scale) + self.similarity(marks) + self.positions(places)
        segments = self.segments_norm(segments + self.hidden(functional.gelu(segments)))
        state = self.start + self.instruction(instruction[:, 0] * scale)
        for one in self.rounds:
            state = one(state, segments, cosines, real)
        features: Tensor = self.norm(state)
        return features


class _Round(nn.Module):
    """One look at the segments."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        sharpness = torch.zeros(HEADS)
        sharpness[: HEADS // 2] = 1.0
        self.sharpness = nn.Parameter(sharpness)
        self.forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, state: Tensor, segments: Tensor, cosines: Tensor, real: Tensor) -> Tensor:
        """Return the state, (B, D), after a look at `segments`, (B, S, D)."""
        count, length, width = segments.shape
        if length:
            query = self.query(self.norm(state)).view(count, HEADS, 1, -1)
            key = self.key(segments).view(count, length, HEADS, -1).transpose(1, 2)
            value = self.value(segments).view(count, length, HEADS, -1).transpose(1, 2)
            nearness = SHARPNESS * self.sharpness[:, None] * cosines[:, None, :]  # (B, H, S)
            # Finite, so that a prompt of no segments gets the mean of nothing that counts, and no NaN.
            bias = nearness.masked_fill(~real[:, None, :], -1e9)[:, :, None, :].to(query.dtype)
            looked = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
            looked = self.out(looked.transpose(1, 2).reshape(count, width))
            state = state + looked * real.any(dim=1, keepdim=True)  # of nothing, nothing is seen
        changed: Tensor = state + self.feed_forward(self.forward_norm(state))
        return changed


def standardised(cosines: Tensor, real: Tensor) -> Tensor:
    """Return how far each cosine, (B, S), lies above the mean of its prompt's, in their standard deviations."""
    counts = real.sum(dim=1, keepdim=True).clamp(min=1)
    mean = cosines.masked_fill(~real, 0.0).sum(dim=1, keepdim=True) / counts
    apart = (cosines - mean).masked_fill(~real, 0.0)
    deviation = (apart.pow(2).sum(dim=1, keepdim=True) / counts).sqrt()
    return apart / (deviation + 0.05)  # of a handful that are all alike, none stands out
