"""What an optimizer allocates, measured by a step on tensors that have shapes but no numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from heed.training.memory.peak import LiveBytes


@dataclass(frozen=True, kw_only=True)
class OptimizerStep:
    """What an optimizer allocates."""

    state: int
    """Bytes that it keeps from its first step on."""
    temporary: int
    """Bytes at the peak of a step, beyond its state."""


def measure_step(
    weights: Iterable[torch.Tensor],
    kind: type[torch.optim.Optimizer],
    settings: Mapping[str, Any],
    *,
    device: torch.device,
) -> OptimizerStep:
    """Return what an optimizer allocates for weights of these shapes and types.

    Args:
        weights: that it trains; they are not touched.
        kind: of the optimizer.
        settings: of its constructor, without the learning rate.
        device: of the training. On a GPU, PyTorch's optimizers compute all weights at once (`foreach`).

    Raises:
        Exception: whatever the optimizer raises; one that runs kernels of its own may not work without numbers.
    """
    more: dict[str, Any] = dict(settings)
    if device.type == "cuda" and "foreach" in signature(kind).parameters and not {"foreach", "fused"} & settings.keys():
        more["foreach"] = True
    with FakeTensorMode():
        parameters = [nn.Parameter(torch.empty(weight.shape, dtype=weight.dtype)) for weight in weights]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        with LiveBytes() as live, _AnyNumber():  # type: ignore[no-untyped-call]
            optimizer: Any = kind(parameters, lr=1e-3, **more)  # type: ignore[call-arg]
            optimizer.step()
            return OptimizerStep(state=live.now, temporary=live.peak - live.now)


class _AnyNumber(TorchDispatchMode):
    """Lets an optimizer read a number out of a tensor without any: sizes do not depend on it."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, or make up the number that it should read."""
        try:
            return func(*args, **(kwargs or {}))
        except DataDependentOutputException:
            return 1.0
