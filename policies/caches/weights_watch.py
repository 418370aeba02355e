"""Notices that weights have changed, whoever wrote them and however.

What was computed with some weights is kept only while they stay as they are. PyTorch counts most changes in place in a
tensor's version, but not all of them:

- Fused optimizers, and optimizers with kernels of their own, write past the count. A hook behind every optimizer's step
  makes up for it.
- `.data`, NumPy views and pointers leave no trace but in the numbers themselves, so these are looked at: a few of each
  weight every time, which notices any write that covers a whole weight; all of them every time where they are few,
  and every so often where they are many, since reading a large model takes as long as a small forward pass.
- A module may get another parameter object (`load_state_dict(..., assign=True)`), or the model another module.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim.optimizer import register_optimizer_step_post_hook

READ_WHOLE_BYTES = 4 * 2**20
"""Weights of so many bytes together are read whole at every look: a fraction of a millisecond."""

READ_WHOLE_EVERY = 64
"""Larger ones are read whole at every so many looks, and as soon as another sign says that they have changed."""

SAMPLES = 32
"""Of a larger weight, so many of its words are compared at every look."""

SMALL_WEIGHT = 512
"""A weight of up to so many words, such as a normalisation's, is compared whole."""

_WORDS = (torch.int64, torch.int32, torch.int16, torch.uint8)


class WeightsWatch:
    """Says whether the weights of a module have changed since it was last asked.

    Args:
        module: whose parameters are watched.
        skip: the names of parameters that are not.
    """

    def __init__(self, module: nn.Module, *, skip: Collection[str] = ()):
        self._module = module
        self._skip = frozenset(skip)
        self._slots: list[dict[str, Any]] = []
        """Where modules keep their parameters and modules."""
        self._held: list[Any] = []
        """What stood in the slots; none of it is freed before the next look, so none has another's identity."""
        self._weights: list[nn.Parameter] = []
        self._addresses: list[int] = []
        self._versions: list[int] = []
        self._words: list[Tensor] = []
        """The larger weights as words, (N,) each. They keep an address from being used again before the next look."""
        self._sampled: list[Tensor] = []
        self._samples: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._looks = 0
        """Since the weights were read whole."""
        self._reads_whole_every = 1
        self.changes = 0
        """How many looks have found a change."""

    def changed(self) -> bool:
        """Return True at first, and whenever a weight has changed."""
        changed = self._other_tensors()
        versions = [weight._version for weight in self._weights]
        if versions != self._versions:
            changed, self._versions = True, versions
        samples = _joined(self._sampled)
        if changed or not _equal(samples, self._samples):
            changed, self._samples = True, samples
        self._looks += 1
        if changed or self._looks >= self._reads_whole_every:
            sums = self._sums_of_all()
            changed = changed or not _equal(sums, self._sums)
            self._sums, self._looks = sums, 0
        self.changes += changed
        return changed

    def _sums_of_all(self) -> list[Tensor]:
        if self._reads_whole_every == 1:  # one sum of them all is faster than many, and a copy of so few is nothing
            return [words.sum() for words in _joined(self._words)]
        return _joined([words.sum()[None] for words in self._words])

    def _other_tensors(self) -> bool:
        """Say whether other tensors than at the last look are the weights, and hold on to them."""
        held = [value for slots in self._slots for value in slots.values()]
        is_first = not self._slots
        if is_first or len(held) != len(self._held) or not all(map(operator.is_, held, self._held)):
            self._slots = [slots for m in self._module.modules() for slots in (m._parameters, m._modules)]
            self._held = [value for slots in self._slots for value in slots.values()]
            self._weights = [
                weight for name, weight in self._module.named_parameters() if name not in self._skip and weight.numel()
            ]
            self._addresses = []
        addresses = [weight.data_ptr() for weight in self._weights]
        if not is_first and addresses == self._addresses:
            return False
        self._addresses = addresses
        words = [_as_words(weight) for weight in self._weights]
        self._words = [word for word in words if len(word) > SMALL_WEIGHT]
        self._sampled = [word if len(word) <= SMALL_WEIGHT else word[:: len(word) // SAMPLES] for word in words]
        size = sum(len(word) * word.dtype.itemsize for word in self._words)
        self._reads_whole_every = 1 if size <= READ_WHOLE_BYTES else READ_WHOLE_EVERY
        return True

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightsWatch:
        """Return one that has seen nothing yet; the words must not be copied, they are the weights."""
        return WeightsWatch(copy.deepcopy(self._module, memo), skip=self._skip)


def _as_words(weight: nn.Parameter) -> Tensor:
    """Return the memory of a weight as whole numbers, (N,), of the widest type that it can be read as.

    Whole numbers, since their sums are exact: a change of a single bit changes them.
    """
    plain = weight.detach().as_subclass(Tensor)
    last = sum((size - 1) * stride for size, stride in zip(plain.shape, plain.stride(), strict=True))
    flat = plain.as_strided((last + 1,), (1,))  # in the order of memory, whatever order the dimensions have
    size, offset = len(flat) * flat.dtype.itemsize, flat.storage_offset() * flat.dtype.itemsize
    for dtype in _WORDS:
        if all(number % dtype.itemsize == 0 for number in (size, offset, flat.data_ptr())):
            return flat.view(dtype)
    raise AssertionError("bytes are bytes")


def _joined(parts: list[Tensor]) -> list[Tensor]:
    """Return parts, (N,) each, as one tensor for each device that they are on."""
    devices = dict.fromkeys(part.device for part in parts)
    return [torch.cat([part for part in parts if part.device == device]) for device in devices]


def _equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def _count_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Count the change of every weight that a step had a gradient for, as fused kernels do not."""
    increment_version([p for group in optimizer.param_groups for p in group["params"] if p.grad is not None])


register_optimizer_step_post_hook(_count_step)
