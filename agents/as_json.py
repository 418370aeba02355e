"""What a checkpoint holds as JSON, and what as tensors: an agent's arguments, its action space, its optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule
from torch import Tensor

from heed.agents.checkpoint import CheckpointError
from heed.agents.exploration import Exploration, exploration_from_json
from heed.agents.schedules import CosineSchedule, Warmup
from heed.envs.contract import ChangingActions, TextActions
from heed.policies.adapters import Adapter
from heed.policies.parameter_groups import LearningRates

_SCHEDULES: dict[str, Any] = {
    "linear_schedule": LinearSchedule,
    "cosine_schedule": CosineSchedule,
    "constant_schedule": ConstantSchedule,
}


def flatten_optimizer(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Split an optimizer's state into JSON and tensors, named "<parameter>.<key>"."""
    tensors, numbers = {}, {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                numbers[f"{index}.{key}"] = value
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
        # A single number, such as Adam's count of steps, or one for each of the parameter's.
        fits = tensor.numel() == 1 or tensor.shape == parameters[int(index)].shape
        if not fits or not tensor.is_floating_point():
            raise CheckpointError(
                f"{path} does not fit the agent: {name!r} has the shape {tuple(tensor.shape)} and the type "
                f"{tensor.dtype}, its parameter the shape {tuple(parameters[int(index)].shape)}."
            )
    state = unflatten_optimizer(saved, tensors)
    for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        for name, value in group.items():
            if name not in own or not isinstance(value, bool | int | float | None | tuple | list):
                raise CheckpointError(f"{path} does not fit the agent: its optimizer has no {name!r} of {value!r}.")
    optimizer.load_state_dict(state)


def unflatten_optimizer(saved: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Put together what `flatten_optimizer` split."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**saved["numbers"], **tensors}.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in saved["groups"]]
    return {"state": state, "param_groups": groups}


def argument_to_json(name: str, value: Any) -> Any:
    """Return a constructor argument as JSON; a schedule and a strategy are told apart by their keys.

    Raises:
        TypeError: if it is a function or another thing that JSON cannot hold.
    """
    if isinstance(value, LinearSchedule):
        return {"linear_schedule": [value.start, value.end, value.end_fraction]}
    if isinstance(value, Adapter):
        return {"adapter": value.as_json()}
    if isinstance(value, LearningRates):
        return {"learning_rates": value.as_json()}
    if isinstance(value, Warmup):
        return {"warmup": [argument_to_json(name, value.schedule), value.fraction]}
    if isinstance(value, Exploration):
        return {"exploration": value.as_json()}
    if isinstance(value, CosineSchedule):
        return {"cosine_schedule": [value.start, value.end]}
    if isinstance(value, ConstantSchedule):
        return {"constant_schedule": [value.val]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(entry, bool | int | float | str) for entry in value):
        return list(value)
    raise TypeError(
        f"The argument {name}={value!r} cannot be saved without pickle. Give a number, or "
        "stable_baselines3.common.utils.LinearSchedule or heed.agents.schedules.CosineSchedule for a schedule."
    )


def argument_from_json(value: Any) -> Any:
    """Return the argument that `argument_to_json` wrote."""
    if isinstance(value, dict) and "adapter" in value:
        return Adapter(**value["adapter"])
    if isinstance(value, dict) and "learning_rates" in value:
        return LearningRates(**value["learning_rates"])
    if isinstance(value, dict) and "warmup" in value:
        schedule, fraction = value["warmup"]
        return Warmup(argument_from_json(schedule), fraction)
    if isinstance(value, dict) and "exploration" in value:
        return exploration_from_json(value["exploration"])
    if isinstance(value, dict):
        ((kind, numbers),) = value.items()
        return _SCHEDULES[kind](*numbers)
    return tuple(value) if isinstance(value, list) else value


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return an action space as JSON.

    Raises:
        TypeError: if it is of a kind that SB3's algorithms do not act in.
    """
    match space:
        case TextActions():
            return {"texts": list(space.texts)}
        case ChangingActions():
            return {"most": int(space.n)}
        case spaces.Discrete():
            return {"n": int(space.n)}
        case spaces.MultiDiscrete():
            return {"nvec": space.nvec.tolist()}
        case spaces.MultiBinary():
            return {"binary": int(np.prod(space.shape))}
        case spaces.Box():
            return {"low": space.low.tolist(), "high": space.high.tolist(), "dtype": str(space.dtype)}
    raise TypeError(f"The action space {space} cannot be saved.")


def space_from_json(saved: dict[str, Any]) -> spaces.Space[Any]:
    """Return the action space that `space_to_json` wrote."""
    if "texts" in saved:
        return TextActions(saved["texts"])
    if "most" in saved:
        return ChangingActions(saved["most"])
    if "n" in saved:
        return spaces.Discrete(saved["n"])
    if "nvec" in saved:
        return spaces.MultiDiscrete(saved["nvec"])
    if "binary" in saved:
        return spaces.MultiBinary(saved["binary"])
    dtype: Any = np.dtype(saved["dtype"]).type
    return spaces.Box(np.array(saved["low"], dtype=dtype), np.array(saved["high"], dtype=dtype), dtype=dtype)
