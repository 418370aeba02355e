"""Which prompts are computed together: each distinct one once, those of similar length in one chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heed.policies.prompts.layout import PADDING, PromptLayout

CHUNK_TOKENS = {"cpu": 256, "cuda": 4096}
"""What a chunk costs besides its tokens, in tokens: starting every operation of a forward once more."""

LENGTH_STEP = 8
"""Lengths are compared in steps of so many tokens: finer ones gain nothing and take time to weigh."""


@dataclass(eq=False)
class Inputs:
    """The distinct inputs of a batch, the shortest first: prompts, and what else a forward pass depends on.

    Every cache uses its `keys`: two inputs have the same key if a language model gets the same.
    """

    batch: Tensor
    """Token ids of the batch, (B, L), padded with -1 on the right."""
    rows: npt.NDArray[np.int64]
    """Where in the batch each different prompt stands first, (U,)."""
    lengths: npt.NDArray[np.int64]
    """(U,), rising."""
    keys: list[bytes]
    """Of each input, the same for the same tokens and entering columns, whatever the padding."""
    inverse: Tensor
    """For each row of the batch, which of the different prompts it is, (B,)."""
    entering: Mapping[str, npt.NDArray[np.integer[Any]]] = field(default_factory=dict)
    """What else enters the forward pass, by the key of its modality: the columns of each input's row, (U, C)."""
    soft_tokens: int = 0
    """Tokens that modalities put before each prompt, which take memory like its own."""

    @classmethod
    def of(cls, prompts: Tensor, entering: Mapping[str, Tensor] | None = None) -> Inputs:
        """Find the different rows of `prompts`, (B, L), and of the columns that enter the reading, (B, C) each."""
        rows = prompts.cpu().numpy().astype(np.int32)
        lengths = (rows != PADDING).sum(axis=1)
        # Slices of one string of bytes: an array for each row would take three times as long.
        whole, width, size = rows.tobytes(), rows.shape[1] * rows.itemsize, rows.itemsize
        ends = (np.arange(len(rows)) * width + lengths * size).tolist()
        places: dict[bytes, int] = {}
        columns = {key: packed.cpu().numpy() for key, packed in (entering or {}).items()}
        if not columns:
            inverse = [places.setdefault(whole[row * width : end], len(places)) for row, end in enumerate(ends)]
        else:  # the columns first: they are of one length, so what follows cannot be mistaken for them
            before = [row.tobytes() for row in np.concatenate(list(columns.values()), axis=1)]
            keys_of_rows = [before[row] + whole[row * width : end] for row, end in enumerate(ends)]
            inverse = [places.setdefault(key, len(places)) for key in keys_of_rows]
        keys = list(places)
        firsts = np.empty(len(keys), dtype=np.int64)
        firsts[inverse[::-1]] = np.arange(len(rows))[::-1]
        order = np.argsort(lengths[firsts], kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return cls(
            prompts,
            firsts[order],
            lengths[firsts[order]],
            [keys[index] for index in order.tolist()],
            torch.from_numpy(rank[inverse]).to(prompts.device),
            {key: packed[firsts[order]] for key, packed in columns.items()},
        )

    @classmethod
    def of_rows(cls, layout: PromptLayout, rows: Tensor) -> Inputs:
        """Find the different inputs among rows of a layout, (B, width)."""
        parts = layout.split(rows)
        inputs = cls.of(parts.tokens, {key: parts.packed[key] for key in layout.entering})
        inputs.soft_tokens = layout.soft_tokens
        return inputs

    @cached_property
    def prompts(self) -> Tensor:
        """Token ids of the different prompts, (U, L), cut to the longest. Where all are known already, nobody asks."""
        longest = max(1, int(self.lengths.max(initial=1)))
        return self.batch[torch.from_numpy(self.rows).to(self.batch.device)][:, :longest].long()

    @cached_property
    def prompts_array(self) -> npt.NDArray[np.int32]:
        """The same on the CPU, not cut, (U, width)."""
        return self.batch[torch.from_numpy(self.rows).to(self.batch.device)].cpu().numpy().astype(np.int32)

    def select(self, chosen: Sequence[int]) -> Inputs:
        """Return those of the inputs with the indices `chosen`, which rise."""
        keys = [self.keys[index] for index in chosen]
        entering = {key: packed[chosen] for key, packed in self.entering.items()}
        inverse = torch.arange(len(keys))
        return Inputs(self.batch, self.rows[chosen], self.lengths[chosen], keys, inverse, entering, self.soft_tokens)

    def chunks(self, extra: int = 0, most: int | None = None) -> list[slice]:
        """Return how to split the prompts so that reading them takes least.

        Args:
            extra: tokens that stand behind each.
            most: tokens that a chunk may have, padding included; one of a single prompt may have more.
        """
        lengths = self.lengths + extra
        chunks = chunks_of_like_length(lengths, self.batch.device)
        if most is None:
            return chunks
        parts = []
        for chunk in chunks:
            size = max(1, most // int(lengths[chunk].max()))
            parts += [slice(first, min(first + size, chunk.stop)) for first in range(chunk.start, chunk.stop, size)]
        return parts

    def part(self, rows: slice) -> Tensor:
        """Return some of the prompts, cut to the longest of them."""
        return self.prompts[rows][:, : max(1, int(self.lengths[rows].max()))]


def micro_batches(batch: Inputs, max_tokens: int) -> list[Tensor]:
    """Split the rows of a batch so that each part has at most `max_tokens` different tokens.

    Equal inputs stay together; padding and soft tokens count. A single prompt that is longer has a part of its own.

    Returns:
        The indices of each part's rows.
    """
    part_of, part, first = np.zeros(len(batch.lengths), dtype=np.int64), 0, 0
    for index, length in enumerate(batch.lengths + batch.soft_tokens):
        if index > first and (index - first + 1) * length > max_tokens:
            part, first = part + 1, index
        part_of[index] = part
    row_parts = torch.from_numpy(part_of).to(batch.batch.device)[batch.inverse]
    return [torch.nonzero(row_parts == index)[:, 0] for index in range(part + 1)]


def chunks_of_like_length(lengths: npt.NDArray[np.int64], device: torch.device) -> list[slice]:
    """Split rows of rising lengths so that the tokens with their padding, and the cost of each chunk, are fewest.

    Every chunk is padded to its longest row. The best split of the rows up to some length goes on from the best split
    up to a shorter one, so it is found by going through the different lengths once for each.
    """
    overhead = CHUNK_TOKENS["cpu" if device.type == "cpu" else "cuda"]
    steps, counts = np.unique(-(-lengths // LENGTH_STEP), return_counts=True)
    ends = np.cumsum(counts)  # rows up to each length
    costs, cuts = np.zeros(len(steps) + 1), np.zeros(len(steps), dtype=np.int64)
    before = np.concatenate([[0], ends])
    for last, step in enumerate(steps):
        candidates = costs[: last + 1] + (ends[last] - before[: last + 1]) * step * LENGTH_STEP + overhead
        cuts[last] = int(candidates.argmin())
        costs[last + 1] = candidates[cuts[last]]
    slices = []
    last = len(steps)
    while last > 0:
        first = int(cuts[last - 1])
        slices.append(slice(int(before[first]), int(before[last])))
        last = first
    return slices[::-1]
