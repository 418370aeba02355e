"""Gradient accumulation over micro-batches, and over smaller ones if memory runs out.

A minibatch's gradient is the sum of its parts' (gradient accumulation), so how it is split changes nothing but
rounding. Their size is in tokens, which memory depends on, not in prompts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from heed.policies.caches.batching import Inputs, micro_batches
from heed.policies.out_of_memory import caller_splits, does_not_fit, is_out_of_memory, release_memory

Result = TypeVar("Result")

Rows = Tensor | slice
"""Which rows of a minibatch a part has."""


class MicroBatches:
    """Splits minibatches, into smaller parts from the time on when memory ran out.

    Args:
        max_tokens: different tokens of prompts, padding and soft tokens included, that a part may have; None for whole
            minibatches.

    Raises:
        ValueError: if `max_tokens` is less than 1.
    """

    def __init__(self, max_tokens: int | None):
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"micro_batch_tokens is {max_tokens}, but must be at least 1, or None.")
        self.max_tokens = max_tokens
        """What is used: what was asked for, or less."""

    def accumulate(self, inputs: Callable[[], Inputs], compute: Callable[[Iterator[Rows]], Result]) -> Result:
        """Accumulate a gradient over parts; if memory runs out, start again with parts half as large.

        Args:
            inputs: returns those of the minibatch.
            compute: sets the gradient to zero, adds that of each part, and returns what it measured.

        Raises:
            DoesNotFitError: if memory runs out with a part of a single prompt.
        """
        while True:
            parts: list[Rows] = [slice(None)]
            if self.max_tokens is not None:
                parts = [*micro_batches(inputs(), self.max_tokens)]
            begun: list[Rows] = []
            try:
                with caller_splits():
                    return compute(_noting(parts, begun))
            except RuntimeError as error:
                if not is_out_of_memory(error) or not begun:
                    raise
            # Not while the error is there: it holds on to the part that did not fit.
            release_memory()
            self._halve(inputs(), begun[-1])

    def _halve(self, inputs: Inputs, rows: Rows) -> None:
        """Make parts half as large as the one with these rows, for which memory did not suffice."""
        part = torch.unique(inputs.inverse[rows]).tolist()
        longest, count = int(inputs.lengths[part].max(initial=1)) + inputs.soft_tokens, len(part)
        if count == 1:
            raise does_not_fit(f"The gradient of a single prompt of {longest} tokens", gradient=True)
        self.max_tokens = count * longest // 2
        warnings.warn(
            f"Out of memory: the gradient of {count * longest} tokens ({count} different prompts) did not fit. From "
            f"now on it is gathered in parts of {self.max_tokens} tokens, which changes nothing but rounding and time; "
            f"--micro-batch-tokens {self.max_tokens} begins so.",
            stacklevel=4,
        )


def _noting(parts: list[Rows], begun: list[Rows]) -> Iterator[Rows]:
    for rows in parts:
        begun.append(rows)
        yield rows
