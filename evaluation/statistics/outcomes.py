"""What the figures are made of: outcomes of episodes, of one agent or of several runs, checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from heed.evaluation.statistics.estimate import Floats

SUCCESS = (0.0, 1.0)
"""The bounds of success."""


def runs_by_episodes(outcomes: npt.ArrayLike, what: str, bounds: tuple[float, float] | None = None) -> Floats:
    """Return outcomes as (R, E): R runs, each on the same E episodes.

    Args:
        outcomes: (E,) of one agent, or (R, E).
        what: they are, for the error.
        bounds: what an outcome cannot be below and above, if that is known.

    Raises:
        ValueError: if there are none, or they have another shape, are not finite, or outside of the bounds.
    """
    try:
        array = np.asarray(outcomes, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"The {what} cannot be read as numbers: give one for each episode, or of several runs a list of such "
            "lists, all of the same length."
        ) from None
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"The {what} have the shape {np.shape(outcomes)}, but must be (episodes,) or (runs, episodes), with at "
            "least one of each."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"The {what} hold a number that is not finite: leave out the episodes that did not end.")
    if bounds is not None and (array.min() < bounds[0] or array.max() > bounds[1]):
        raise ValueError(
            f"The {what} go from {array.min():g} to {array.max():g}, but must be between {bounds[0]:g} and "
            f"{bounds[1]:g}."
        )
    return array


def require_same_episodes(**outcomes: Floats) -> int:
    """Return the number of episodes that all have.

    Args:
        outcomes: (R, E) by their names, which the error tells.

    Raises:
        ValueError: if they differ.
    """
    numbers = {name: array.shape[1] for name, array in outcomes.items()}
    if len(set(numbers.values())) > 1:
        told = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in numbers.items())
        raise ValueError(f"Outcomes are paired by the episodes' seeds, but of different numbers of episodes: {told}.")
    (number,) = set(numbers.values())
    return int(number)
