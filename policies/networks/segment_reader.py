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

Shapes: B prompts, N different segments of all of them, S segments of what is seen, Q queries, H heads, E numbers of an
encoder's vector, D of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 128
"""D"""
FIRST_LOOKS = ((1.0,), (1.0,), (0.0,), (0.0,))
"""How sharply each of the attention's heads begins to look, by the segments' similarity to the instruction."""
ROUNDS = 2
SHARPNESS = 20.0
"""What a cosine is multiplied by at first: MiniLM puts 0.2 to 0.3 between a thing that is meant and another."""
POSITIONS = 64
"""Segments whose places are told apart; those behind them share the last."""
DEVIATION = 0.05
"""Is added to a standard deviation of cosines: of a handful that are all alike, none stands out."""


class Look(NamedTuple):
    """What was seen in prompts: S segments of each, without the instruction."""

    features: Tensor
    """(B, D)"""
    instruction: Tensor
    """Its vector, of length 1, (B, E)."""
    seen: Tensor
    """The segments' vectors, of length 1, (B, S, E)."""
    segments: Tensor
    """What the segments mean here, (B, S, D)."""
    cosines: Tensor
    """How near each segment is to the instruction, (B, S)."""
    deviations: Tensor
    """The same, standardised within the prompt, (B, S)."""
    real: Tensor
    """Which segments there are, (B, S)."""


class SegmentReader(nn.Module):
    """Turns the vectors of a prompt's segments into features, and keeps what it saw.

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
        self.rounds = nn.ModuleList(Round(width, FIRST_LOOKS) for _ in range(rounds))
        self.norm = nn.LayerNorm(width)

    def forward(self, vectors: Tensor, index: Tensor) -> Look:
        """Look at prompts.

        Args:
            vectors: of different segments, (N, E).
            index: which of them each prompt has, (B, 1 + S), the instruction first and -1 behind the last.
        """
        unit = functional.normalize(vectors, dim=-1)
        scaled = unit * vectors.shape[-1] ** 0.5  # numbers of about 1
        told, rows, real = index[:, 0], index[:, 1:].clamp(min=0), index[:, 1:] >= 0
        instruction, seen = unit[told], unit[rows]
        cosines = (instruction[:, None] * seen).sum(dim=-1)  # (B, S)
        places = torch.arange(rows.shape[1], device=rows.device).clamp(max=POSITIONS - 1)
        deviations = standardised(cosines, real)
        marks = torch.stack([cosines, deviations], dim=-1)
        segments = self.content(scaled)[rows] + self.similarity(marks) + self.positions(places)
        segments = self.segments_norm(segments + self.hidden(functional.gelu(segments)))
        state = (self.start + self.instruction(scaled[told]))[:, None]
        for one in self.rounds:
            state = one(state, segments, cosines[:, None, None], real)
        features = self.norm(state[:, 0])
        return Look(features, instruction, seen, segments, cosines, deviations, real)


class Round(nn.Module):
    """One look of Q queries at the segments.

    Args:
        width: D.
        first_looks: for each head how sharply it begins to look, by each of K similarities.
        inner: of the feed-forward network, in widths.
    """

    def __init__(self, width: int, first_looks: Sequence[Sequence[float]], *, inner: int = 2):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.sharpness = nn.Parameter(torch.tensor(first_looks))  # (H, K)
        self.forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, inner * width), nn.GELU(), nn.Linear(inner * width, width))

    def forward(self, state: Tensor, segments: Tensor, nearness: Tensor, real: Tensor) -> Tensor:
        """Return the queries' state, (B, Q, D), after a look.

        Args:
            state: (B, Q, D).
            segments: (B, S, D).
            nearness: the similarities of segments, (B, K, Q, S).
            real: which segments there are, (B, S).
        """
        count, length, width = segments.shape
        if length:
            heads = len(self.sharpness)
            query = self.query(self.norm(state)).view(count, -1, heads, width // heads).transpose(1, 2)
            key = self.key(segments).view(count, length, heads, -1).transpose(1, 2)
            value = self.value(segments).view(count, length, heads, -1).transpose(1, 2)
            bias = SHARPNESS * torch.einsum("hk,bkqs->bhqs", self.sharpness, nearness)
            # Finite, so that a prompt of no segments gets the mean of nothing that counts, and no NaN.
            bias = bias.masked_fill(~real[:, None, None, :], -1e9).to(query.dtype)
            looked = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
            looked = self.out(looked.transpose(1, 2).reshape(state.shape))
            state = state + looked * real.any(dim=1)[:, None, None]  # of nothing, nothing is seen
        changed: Tensor = state + self.feed_forward(self.forward_norm(state))
        return changed


def standardised(cosines: Tensor, real: Tensor) -> Tensor:
    """Return how far each cosine, (B, S), lies above the mean of its prompt's, in their standard deviations."""
    mean, deviation = deviation_of(cosines, real)
    return (cosines - mean).masked_fill(~real, 0.0) / (deviation + DEVIATION)


def deviation_of(cosines: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, (B, 1) each, of the cosines of each prompt, (B, S)."""
    counts = real.sum(dim=1, keepdim=True).clamp(min=1)
    mean = cosines.masked_fill(~real, 0.0).sum(dim=1, keepdim=True) / counts
    apart = (cosines - mean).masked_fill(~real, 0.0)
    # The root has no slope at 0, where there is one cosine, or all are alike.
    return mean, (apart.pow(2).sum(dim=1, keepdim=True) / counts).clamp(min=1e-12).sqrt()
