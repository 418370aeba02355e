"""Optimizers of an agent: which may train it, and how their class and their state are saved without pickle.

Any subclass of `torch.optim.Optimizer` may be given as `policy_kwargs["optimizer_class"]`. A checkpoint holds its name,
which is looked up among the optimizers that the program knows when the checkpoint is loaded: a file can name no other
code, and has none imported. What could not be saved, or cannot make a step, is found out by a trial step before a
training begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heed.agents.persistence.checkpoint import CheckpointError

Kind = type[torch.optim.Optimizer]


def name_of(kind: Kind) -> str:
    """Return the name that a checkpoint holds of an optimizer's class."""
    if getattr(torch.optim, kind.__name__, None) is kind:
        return f"torch.optim.{kind.__name__}"  # wherever in it this version of PyTorch has it
    return f"{kind.__module__}.{kind.__qualname__}"


def find_optimizer(name: str) -> Kind:
    """Return the optimizer's class of that name; of several, as a notebook that runs again makes them, the last.

    Raises:
        CheckpointError: if the program has no such class.
    """
    found = [kind for kind in _subclasses(torch.optim.Optimizer) if name_of(kind) == name]
    if not found:
        raise CheckpointError(
            f"The agent was trained by the optimizer {name!r}, which this program does not know: import the module "
            "that defines it, then load the agent."
        )
    return found[-1]


def _subclasses(kind: type[Any]) -> Iterator[Kind]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def require_optimizer(kind: Any, settings: Mapping[str, Any], device: torch.device) -> None:
    """Refuse an optimizer that cannot train a policy, or whose state a checkpoint could not hold, by a trial step.

    Args:
        kind: `policy_kwargs["optimizer_class"]`.
        settings: `policy_kwargs["optimizer_kwargs"]`.
        device: of the policy.

    Raises:
        TypeError: if it is no optimizer's class, or its state cannot be saved.
        ValueError: if it makes no step with these settings.
    """
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise TypeError(
            f"optimizer_class is {kind!r}, but must be a subclass of torch.optim.Optimizer, which a checkpoint can "
            "name. Settings belong into optimizer_kwargs."
        )
    for name, whose in (("lr", "the agent's learning_rate sets it"), ("params", "they are the policy's")):
        if name in settings:
            raise ValueError(f"optimizer_kwargs has {name!r}: leave it out, {whose}.")
    weight = nn.Parameter(torch.ones(128, 64, device=device))  # as large as those for which some do things differently
    weight.grad = torch.ones_like(weight)
    try:
        optimizer: Any = kind([weight], lr=1e-3, **settings)  # type: ignore[call-arg]
        optimizer.step()
    except Exception as error:
        raise ValueError(
            f"{name_of(kind)} cannot train a policy with optimizer_kwargs={dict(settings)}: {type(error).__name__}: "
            f"{error}"
        ) from error
    try:
        saved, tensors = flatten_optimizer(optimizer.state_dict())
        read_optimizer(optimizer, saved, tensors, Path("a checkpoint"))
    except (CheckpointError, TypeError) as error:
        raise TypeError(
            f"A checkpoint cannot hold the state of {name_of(kind)}, so no training could be resumed: {error}"
        ) from error


def flatten_optimizer(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Split an optimizer's state into JSON and tensors, named "<parameter>.<key>".

    Raises:
        TypeError: if it holds something else.
    """
    if more := sorted(set(state) - {"state", "param_groups"}):
        raise TypeError(f"it has {more[0]!r} besides what belongs to its parameters.")
    tensors, numbers = {}, {}
    for index, entries in state["state"].items():
        if not isinstance(index, int):
            raise TypeError(f"it has {index!r}, which belongs to no parameter.")
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            elif _is_number(value):
                numbers[f"{index}.{key}"] = value
            else:
                raise TypeError(f"{key!r} is {value!r}, neither a number nor a tensor.")
    return {"groups": state["param_groups"], "numbers": numbers}, tensors


def read_optimizer(
    optimizer: torch.optim.Optimizer, saved: dict[str, Any], tensors: dict[str, Tensor], path: Path
) -> None:
    """Put what `flatten_optimizer` split back into an optimizer of the same parameters.

    Args:
        optimizer: of the agent.
        saved: the part that is JSON.
        tensors: the rest.
        path: of the file that held it, for messages.

    Raises:
        CheckpointError: if a tensor is not of the shape or type of the parameter that it belongs to, or a group has
            other settings than the optimizer knows.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        index = name.split(".", 1)[0]
        if not index.isdecimal() or int(index) >= len(parameters):
            raise CheckpointError(f"{path} does not fit the agent: {name!r} belongs to none of its parameters.")
        if not _fits(tensor, parameters[int(index)]):
            raise CheckpointError(
                f"{path} does not fit the agent: {name!r} has the shape {tuple(tensor.shape)} and the type "
                f"{tensor.dtype}, its parameter the shape {tuple(parameters[int(index)].shape)}."
            )
    state = unflatten_optimizer(saved, tensors)
    for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        for name, value in group.items():
            if name not in own or not _is_alike(value, own[name]):
                raise CheckpointError(f"{path} does not fit the agent: its optimizer has no {name!r} of {value!r}.")
            if isinstance(own[name], tuple):
                group[name] = tuple(value)
    optimizer.load_state_dict(state)


def unflatten_optimizer(saved: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Put together what `flatten_optimizer` split."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**saved["numbers"], **tensors}.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": [dict(group) for group in saved["groups"]]}


def _fits(tensor: Tensor, parameter: Tensor) -> bool:
    """Say whether a tensor may be a parameter's state: one number, one for each of its, or one for each row or column.

    Adam counts its steps by the first, and Adafactor has the last.
    """
    if tensor.numel() == 1:
        return not tensor.is_complex()
    sizes = zip(tensor.shape, parameter.shape, strict=False)
    return (
        tensor.is_floating_point()
        and tensor.ndim == parameter.ndim
        and all(size in (1, whole) for size, whole in sizes)
    )


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _is_alike(value: Any, own: Any) -> bool:
    """Say whether a group's setting is of the kind that the optimizer itself has."""
    if isinstance(own, tuple | list):
        return isinstance(value, tuple | list) and len(value) == len(own) and all(map(_is_number, value))
    return isinstance(value, str) if isinstance(own, str) else _is_number(value)
