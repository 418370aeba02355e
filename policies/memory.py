"""Readings of prompts, kept while the language model's weights stand still.

Rollouts and evaluations show a policy the same prompts over and over. What was read once need not be computed again
until an update changes the weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from heed.policies.prompt import PADDING

Reading = tuple[Tensor, Tensor | None]
"""Features, (B, D), and scores, (B, A), where the head has them."""

MEMORY_BYTES = 64 * 2**20
"""What the readings of one network may take up; beyond it they are forgotten and gathered anew."""


class ReadingMemory:
    """Remembers what a model read in each prompt, until its weights change.

    Args:
        model: whose weights are watched.
    """

    def __init__(self, model: nn.Module):
        self._parameters = list(model.parameters())
        self._weights: tuple[tuple[int, int], ...] = ()
        self._readings: dict[bytes, tuple[Tensor, Tensor | None]] = {}

    def read(self, prompts: Tensor, compute: Callable[[Tensor], Reading]) -> Reading:
        """Return the reading of each prompt; those that are new are computed together.

        Args:
            prompts: different prompts, (B, L), the shortest first.
            compute: reads prompts of that form.
        """
        self._forget_if_changed()
        rows = prompts.cpu().numpy()
        keys = [row[: int((row != PADDING).sum())].tobytes() for row in rows]
        new = [index for index, key in enumerate(keys) if key not in self._readings]
        if new:
            features, scores = compute(prompts[new] if len(new) < len(keys) else prompts)
            if len(self._readings) * features[0].numel() * features.element_size() > MEMORY_BYTES:
                kept = set(keys)
                self._readings = {key: reading for key, reading in self._readings.items() if key in kept}
            for place, index in enumerate(new):
                self._readings[keys[index]] = (features[place], None if scores is None else scores[place])
        found = [self._readings[key] for key in keys]
        scores_found = [scores for _, scores in found if scores is not None]
        return torch.stack([features for features, _ in found]), torch.stack(scores_found) if scores_found else None

    def _forget_if_changed(self) -> None:
        # Every change in place counts a tensor's version up; a tensor put in another's place has another address.
        weights = tuple((parameter.data_ptr(), parameter._version) for parameter in self._parameters)
        if weights != self._weights:
            self._readings.clear()
            self._weights = weights
