"""A vector's own seed, and the sizes that vectors of environments may have."""

from __future__ import annotations

from typing import Any

import numpy as np


def drawn_seed() -> int:
    """Return a seed from the operating system."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def check_state_size(state: dict[str, Any], num_envs: int) -> None:
    """Refuse a state of another number of environments.

    Raises:
        ValueError: naming both numbers.
    """
    if len(state["episodes"]) != num_envs:
        raise ValueError(f"The state is of {len(state['episodes'])} environments, but there are {num_envs}.")


def check_group_size(num_envs: int, group_size: int) -> None:
    """Refuse environments that cannot be parted into groups.

    Raises:
        ValueError: naming both numbers.
    """
    if group_size < 1 or num_envs % group_size:
        raise ValueError(f"{num_envs} environments cannot be parted into groups of {group_size}.")
