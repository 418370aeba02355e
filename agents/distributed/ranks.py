"""Several processes that train one agent together: which one this is, how many there are, what they tell each other.

A launcher (`torchrun`, `accelerate launch`) starts the same program several times, on one machine or on many. Each of
these *ranks* has the whole agent and a share of the environments; their gradients are added up, so all of them take
the same steps of the optimizer and have the same weights at all times (data parallelism, as in Li et al. 2020, arXiv
2006.15704). `join` makes them one group by `torch.distributed`, which `accelerate` sets up: gloo where the CPU
computes, NCCL on GPUs.

Every method that says so is called by all ranks, in the same order: one that calls it alone waits for the others
until the time is up. On its own a rank returns at once what it was given.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from heed.agents.distributed.threads import available_cores

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others: one may write a large checkpoint, or play a sample episode, meanwhile."""

BUCKET = 2**26
"""Numbers that are sent at once, at most but for a larger parameter: 256 MiB beside the gradients themselves."""

HOW_TO_INSTALL = "Several processes need accelerate: pip install 'heed[distributed]'"

_TOLD = "heed/told"


class RanksError(RuntimeError):
    """The ranks cannot go on together. The message says why, for the user."""


class Ranks:
    """All ranks, as one of them sees them; made by `join`.

    Args:
        rank: which one this is, from 0.
        count: how many there are.
        device: where numbers are put to be sent.
        store: what the launcher keeps for all of them.
    """

    def __init__(self, rank: int = 0, count: int = 1, *, device: torch.device | str = "cpu", store: Any = None):
        self.rank = rank
        self.count = count
        self._device = torch.device(device)
        self._store = store

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks for all."""
        return self.rank == 0

    @property
    def command(self) -> str:
        """How `heed` is called for as many ranks, on one machine."""
        return f"torchrun --nproc-per-node {self.count} --no-python heed" if self.several else "heed"

    # -- shares --------------------------------------------------------------------------------------------

    def share(self, name: str, number: int) -> int:
        """Return this rank's share of a number that goes out evenly.

        Raises:
            ValueError: if it does not; `name` is what it is called.
        """
        if number % self.count:
            raise ValueError(
                f"{name} is {number}, but must be a multiple of the {self.count} processes: each takes the same share."
            )
        return number // self.count

    def part(self, things: Sequence[T]) -> Sequence[T]:
        """Return this rank's part of a sequence: every `count`-th, beginning with the `rank`-th."""
        return things[self.rank :: self.count] if self.several else things

    def seed(self, seed: int | None) -> int | None:
        """Return the seed of this rank's own random numbers; the first one's is `seed` itself.

        Without a seed every rank but the first draws one: torch begins with the same in each process.
        """
        if self.is_first:
            return seed
        return int(np.random.SeedSequence(seed, spawn_key=(self.rank,)).generate_state(1)[0])

    # -- what is added up ----------------------------------------------------------------------------------

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Return the sum of each number over all ranks, in double precision; called by all."""
        if not self.several:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        with self._together():
            dist.all_reduce(summed)
        return [float(number) for number in summed.tolist()]

    def total(self, number: int) -> int:
        """Return the sum of an integer over all ranks; called by all."""
        return int(self.sums([number])[0]) if self.several else number

    def most(self, number: int) -> int:
        """Return the largest of all ranks' integers; called by all."""
        if not self.several:
            return number
        largest = torch.tensor(number, device=self._device)
        with self._together():
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)

    def least(self, number: float) -> float:
        """Return the smallest of all ranks' numbers; called by all."""
        if not self.several:
            return number
        smallest = torch.tensor(number, dtype=torch.float64, device=self._device)
        with self._together():
            dist.all_reduce(smallest, op=dist.ReduceOp.MIN)
        return float(smallest)

    def moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (by one less than the number) of all ranks' values; called by all.

        Args:
            values: (B,); other ranks may have more or fewer.
        """
        if not self.several:
            return values.mean(), values.std()
        exact = values.double()
        count, total, squares = self.sums([len(exact), float(exact.sum()), float(exact.square().sum())])
        mean = total / count
        variance = max(0.0, squares - count * mean**2) / (count - 1)
        return values.new_tensor(mean), values.new_tensor(variance**0.5)

    def sum_gradients(self, parameters: Iterable[nn.Parameter], measures: dict[str, float]) -> dict[str, float]:
        """Put the sum of all ranks' gradients in place of each one's; called by all.

        A parameter that no rank has a gradient of stays without. Losses are to be divided by all ranks' samples,
        so that the sum is the gradient of the mean over all of them.

        Args:
            parameters: the same ones in every rank.
            measures: what is logged, as each rank's part of a sum; all have the same names.

        Returns:
            The sums of the measures.
        """
        if not self.several:
            return measures
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        told = [float(parameter.grad is not None) for parameter in trained] + list(measures.values())
        extra = torch.tensor(told, dtype=torch.float32, device=self._device)
        for bucket in _buckets(trained):
            flat = torch.cat([*map(self._flat_gradient, bucket), extra])
            with self._together():
                dist.all_reduce(flat)
            if len(extra):  # goes with the first bucket, in one message
                told, extra = flat[-len(extra) :].tolist(), extra[:0]
                has_gradient = dict(zip(map(id, trained), told, strict=False))
            numbers = flat.split([parameter.numel() for parameter in bucket] + [len(flat) - _size(bucket)])
            for parameter, summed in zip(bucket, numbers, strict=False):
                if has_gradient[id(parameter)]:
                    grad = summed.view_as(parameter).to(parameter)
                    parameter.grad = grad.clone() if parameter.grad is None else parameter.grad.copy_(grad)
        return dict(zip(measures, told[len(trained) :], strict=True))

    def _flat_gradient(self, parameter: nn.Parameter) -> Tensor:
        """Return a parameter's gradient, or zeros, in single precision, (numel,)."""
        if parameter.grad is None:
            return torch.zeros(parameter.numel(), device=self._device)
        return parameter.grad.detach().reshape(-1).to(self._device, torch.float32)

    # -- what is handed on ---------------------------------------------------------------------------------

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, in the order of their ranks; called by all."""
        if not self.several:
            return [value]
        values: list[Any] = [None] * self.count
        with self._together():
            dist.all_gather_object(values, value)
        return values

    def to_first(self, value: T) -> list[T]:
        """Return every rank's value to the first one, and to the others nothing; called by all."""
        if not self.several:
            return [value]
        values: list[Any] | None = [None] * self.count if self.is_first else None
        with self._together():
            dist.gather_object(value, values, dst=0)
        return values or []

    def first(self, function: Callable[[], T]) -> T:
        """Have the first rank alone call a function, and return to all what it returned; called by all.

        Raises:
            Exception: in all ranks what the function raised in the first.
        """
        if not self.several:
            return function()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = function()
            except Exception as error:
                outcome[1] = error
        with self._together():
            dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    # -- the same weights ----------------------------------------------------------------------------------

    def are_alike(self, tensors: Iterable[Tensor]) -> bool:
        """Say whether all ranks have the same tensors, to the last bit; called by all."""
        if not self.several:
            return True
        sums = torch.stack([_checksum(tensor) for tensor in tensors]).to(self._device)
        ends = torch.cat([sums, -sums])
        with self._together():
            dist.all_reduce(ends, op=dist.ReduceOp.MAX)
        return bool((ends[: len(sums)] == -ends[len(sums) :]).all())

    def assert_in_sync(self, tensors: Iterable[Tensor]) -> None:
        """Refuse to go on where the ranks' weights are not the same any more; called by all.

        Raises:
            RanksError: in that case.
        """
        if not self.are_alike(tensors):
            raise RanksError(
                f"The weights of the {self.count} processes are not the same any more, which they must be: the "
                "machines compute differently (other processors, or versions of PyTorch), or one of them wrongly."
            )

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Let all ranks have the tensors of the first, in place; called by all."""
        tensors = list(tensors)
        if self.are_alike(tensors):
            return
        for tensor in tensors:
            sent = tensor.detach().to(self._device, copy=True).contiguous()
            with self._together():
                dist.broadcast(sent, src=0)
            tensor.detach().copy_(sent)

    # -- the end -------------------------------------------------------------------------------------------

    def first_to_tell(self) -> bool:
        """Say whether no other rank has asked before: so that why a training ends is told once, by who knows it."""
        if not self.several or self._store is None:
            return True
        try:
            return bool(self._store.add(_TOLD, 1) == 1)
        except RuntimeError:  # the one that keeps it is gone
            return True

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Turn what goes wrong between the ranks into one sentence.

        Raises:
            RanksError: in its place.
        """
        try:
            yield
        except RuntimeError as error:  # gloo raises the class itself, others subclasses
            raise RanksError(
                f"One of the {self.count} processes of this training has ended, or does not answer any more, so all "
                "of them end."
            ) from error


ALONE = Ranks()
"""Of a process that trains by itself."""

_joined = ALONE


def current() -> Ranks:
    """Return the ranks that this process has joined."""
    return _joined


def started() -> int:
    """Return how many processes a launcher has started, by the variables that it sets; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextlib.contextmanager
def join(device: str = "auto") -> Iterator[Ranks]:
    """Join the processes that a launcher has started beside this one, for as long as the context lasts.

    Without a launcher, and within another `join`, nothing is done. Threads of PyTorch are set to this process's share
    of its machine's cores, unless OMP_NUM_THREADS says more than the 1 that `torchrun` sets by itself.

    Args:
        device: where the agents compute: `cpu`, `cuda`, or `auto`.

    Raises:
        RanksError: if accelerate is not installed, there are more processes than GPUs, or they do not find together.
    """
    global _joined
    if started() < 2 or _joined.several:
        yield _joined
        return
    on_gpu = torch.cuda.is_available() if device == "auto" else device.startswith("cuda")
    _set_threads()
    state = _find_together(on_gpu=on_gpu)
    _joined = Ranks(
        dist.get_rank(),
        dist.get_world_size(),
        device=state.device if on_gpu else "cpu",
        store=dist.distributed_c10d._get_default_store(),
    )
    try:
        yield _joined
    finally:
        _joined = ALONE
        with contextlib.suppress(RuntimeError):  # of a group that is broken
            dist.destroy_process_group()
        state._reset_state()


def _find_together(*, on_gpu: bool) -> Any:
    """Make the group; return accelerate's state of it, which has also chosen this process's GPU."""
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise RanksError(f"{HOW_TO_INSTALL} ({error})") from None
    here = int(os.environ.get("LOCAL_WORLD_SIZE", started()))
    if on_gpu and here > torch.cuda.device_count():
        raise RanksError(
            f"There are {here} processes on this machine, but {torch.cuda.device_count()} GPUs: start one for each "
            "GPU, or give --device cpu."
        )
    os.environ.setdefault("LOCAL_RANK", os.environ["RANK"])
    try:
        return PartialState(cpu=not on_gpu, backend="nccl" if on_gpu else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        first = os.environ.get("MASTER_ADDR", "?"), os.environ.get("MASTER_PORT", "?")
        raise RanksError(
            f"The {started()} processes do not find together at {first[0]}, port {first[1]}: {error}"
        ) from None


def _set_threads() -> None:
    """Let each process of a machine have its share of the cores."""
    if int(os.environ.get("OMP_NUM_THREADS") or "1") > 1:
        return
    share = max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", started())))
    os.environ["OMP_NUM_THREADS"] = str(share)  # of processes that this one starts
    torch.set_num_threads(share)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield parameters in groups that are sent at once; an empty one where there are none."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and _size(bucket) + parameter.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    yield bucket


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _checksum(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor's bits, as 64-bit integers that may run over, ()."""
    kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    bits = flat.view(torch.uint8 if flat.dtype == torch.bool else kinds[flat.element_size()])
    return bits.sum(dtype=torch.int64)
