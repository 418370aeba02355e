"""AdaLoRA's way to share a budget of ranks among a model's layers (Zhang et al. 2023, arXiv 2303.10512).

Each layer begins with more rank than it may keep, in the form of a singular value decomposition, P diag(E) Q. While the
training goes on, values that matter least to the loss are set to zero, until the budget is met; a penalty keeps P and Q
near orthogonal, so that the values can be told apart. `peft` computes what matters; what it leaves to a training loop
stands here: the penalty, and when the ranks are shared anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

TICKS = 1000
"""A training in the allocator's steps: it counts its schedule in whole ones."""
RISE, FINAL = 100, 300
"""Ticks at the beginning in which all ranks are learned, and at the end in which those that are left are."""
PENALTY = 0.1
"""Weight of the orthogonality, gamma in equation 4."""


class RankBudget:
    """Shares ranks among the AdaLoRA layers of one model.

    Args:
        model: with an adapter of that kind; its weights are set to zero where a rank is lost.
        name: of the adapter.
    """

    def __init__(self, model: nn.Module, config: Any, name: str):
        from peft.tuners.adalora.layer import RankAllocator

        self._model = model
        self._allocator: Any = RankAllocator(model, config, name)  # type: ignore[no-untyped-call]
        self._pattern: dict[str, list[bool]] | None = None
        """Which ranks are left, once that is settled."""

    def penalty(self) -> Tensor:
        """Return how far from orthogonal the factors are: the mean Frobenius norm of their Gram matrices less one."""
        norms = []
        for name, weight in self._model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                gram = weight @ weight.T if ".lora_A." in name else weight.T @ weight
                identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
                norms.append(torch.linalg.matrix_norm(gram - identity))
        return PENALTY * torch.stack(norms).mean()

    def share(self, done: float) -> None:
        """Share the ranks anew, if it is time; behind an optimizer's step, with the gradients it followed.

        Args:
            done: how much of the training is over, from 0 to 1.
        """
        tick = int(done * TICKS)
        if tick < TICKS - FINAL:
            self._allocator.update_and_allocate(self._model, tick)
        elif self._pattern is None:
            if not self._allocator.ipt:  # nothing was measured yet, in so short a training
                self._allocator.update_ipt(self._model)
            _, self._pattern = self._allocator.update_and_allocate(self._model, tick, force_mask=True)
        else:
            self._allocator.mask_using_rank_pattern(self._model, self._pattern)

    def get_state(self) -> dict[str, Tensor]:
        """Return what the sharing has measured so far, as tensors by name."""
        state = {f"{kind}.{name}": tensor for kind, measured in self._measured() for name, tensor in measured.items()}
        for name, left in (self._pattern or {}).items():
            state[f"left.{name}"] = torch.tensor(left)
        return state

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `get_state` returned."""
        for kind, measured in self._measured():
            own = {name: tensor for name, tensor in state.items() if name.startswith(f"{kind}.")}
            measured.update({name.removeprefix(f"{kind}."): tensor.clone() for name, tensor in own.items()})
        left = {name.removeprefix("left."): t.tolist() for name, t in state.items() if name.startswith("left.")}
        self._pattern = left or None

    def _measured(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield how much each weight matters: of late, on the average, and the average's deviation."""
        yield "now", self._allocator.ipt
        yield "mean", self._allocator.exp_avg_ipt
        yield "deviation", self._allocator.exp_avg_unc
