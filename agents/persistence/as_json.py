"""What a checkpoint holds as JSON: an agent's arguments and its action space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

from heed.agents.exploration import Exploration, exploration_from_json
from heed.agents.persistence.optimizers import find_optimizer, name_of
from heed.agents.schedules import CosineSchedule, Warmup
from heed.envs.contract import ChangingActions, TextActions
from heed.policies.adapters.adapters import Adapter
from heed.policies.adapters.parameter_groups import LearningRates

_SCHEDULES: dict[str, Any] = {
    "linear_schedule": LinearSchedule,
    "cosine_schedule": CosineSchedule,
    "constant_schedule": ConstantSchedule,
}


def argument_to_json(name: str, value: Any) -> Any:
    """Return a constructor argument as JSON.

    What JSON has no kind of its own for is an object with one key, which tells the kind: schedules, strategies,
    dictionaries. Lists are told apart from tuples, which are JSON's arrays.

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
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer):
        return {"optimizer_class": name_of(value)}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        entries = [argument_to_json(f"{name}[{index}]", entry) for index, entry in enumerate(value)]
        return entries if isinstance(value, tuple) else {"list": entries}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: argument_to_json(f"{name}[{key!r}]", entry) for key, entry in value.items()}}
    raise TypeError(
        f"The argument {name}={value!r} cannot be saved without pickle. Give a number, a text, or a list or dictionary "
        "of such; stable_baselines3.common.utils.LinearSchedule or heed.agents.schedules.CosineSchedule for a schedule."
    )


def argument_from_json(value: Any) -> Any:
    """Return the argument that `argument_to_json` wrote.

    Raises:
        CheckpointError: if it names an optimizer that the program does not know.
        KeyError, TypeError, ValueError: if it did not write this.
    """
    if isinstance(value, list):
        return tuple(argument_from_json(entry) for entry in value)
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "adapter":
            return Adapter(**content)
        case "learning_rates":
            return LearningRates(**content)
        case "warmup":
            schedule, fraction = content
            return Warmup(argument_from_json(schedule), fraction)
        case "exploration":
            return exploration_from_json(content)
        case "optimizer_class":
            return find_optimizer(content)
        case "list":
            return [argument_from_json(entry) for entry in content]
        case "dict":
            return {key: argument_from_json(entry) for key, entry in content.items()}
        case _:
            return _SCHEDULES[kind](*content)


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
