"""From single observations to batches, and back to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Observations = dict[str, npt.NDArray[Any]]
"""A batch of language observations: one array per key, the first axis runs over environments."""


def stack_observations(keys: Sequence[str], observations: Sequence[Any]) -> Observations:
    """Stack single observations into one array per key; texts, and lists of actions, become arrays of `object`."""
    batch: Observations = {}
    for key in keys:
        values = [observation[key] for observation in observations]
        if isinstance(values[0], str | tuple):
            batch[key] = np.empty(len(values), dtype=object)
            batch[key][:] = values
        else:
            batch[key] = np.stack(values)
    return batch


def observation_at(batch: Mapping[str, npt.NDArray[Any]], index: int) -> dict[str, Any]:
    """Return one observation of a batch, which no longer changes with it."""
    values = {key: array[index] for key, array in batch.items()}
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in values.items()}


def keys_of(space: spaces.Space[Any]) -> list[str]:
    """Return the keys of a language environment's observations."""
    assert isinstance(space, spaces.Dict)  # the contract, which is checked where environments come in
    return list(space.spaces)
