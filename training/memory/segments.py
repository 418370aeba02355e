"""The dry run of a frozen encoder that reads segments: its small network on their vectors is what learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from heed.policies.networks.action_reader import ActionReader
from heed.policies.networks.segment_reader import WIDTH, SegmentReader
from heed.training.memory.dry_run import Chunk, DryRun


@dataclass(frozen=True, kw_only=True)
class SegmentDryRun(DryRun):
    """What a policy reads, as `SegmentNetwork` does it."""

    segments: int
    """Of the prompt that has most, the instruction included."""
    different: int
    """Segments of a minibatch."""
    new_segments: Chunk
    """How many are read together that were never read, and their tokens with padding."""

    def __post_init__(self) -> None:
        """There are no layers to prepare."""

    @property
    def features_dim(self) -> int:
        """How many numbers the network gives of a prompt."""
        return WIDTH

    @cached_property
    def _network(self) -> SegmentReader:
        with self.mode:
            return SegmentReader(self.language_model.backbone.width)

    @cached_property
    def _scores(self) -> ActionReader | None:
        with self.mode:
            return None if self.tries is None else ActionReader(self.language_model.backbone.width)

    def trained(self) -> list[nn.Parameter]:
        """Return the weights of the network."""
        return [weight for part in (self._network, self._scores) if part is not None for weight in part.parameters()]

    def _read(self, chunks: Sequence[Chunk], *, whole: bool = False) -> Tensor:
        """Read prompts at once, since they are short here; with `whole` new segments come before that."""
        width, count = self.language_model.backbone.width, sum(chunk[0] for chunk in chunks)
        if whole:
            with torch.no_grad():
                self._read_texts(self.language_model.pooling, *self.new_segments)
        look = self._network(torch.empty(self.different, width), torch.zeros(count, self.segments, dtype=torch.long))
        if self._scores is None or self.tries is None:
            features: Tensor = look.features
            return features
        actions = self.tries.n_actions
        index = torch.zeros(count, actions, dtype=torch.long)
        return torch.cat([look.features, self._scores(torch.empty(actions, width), index, look)], dim=1)
