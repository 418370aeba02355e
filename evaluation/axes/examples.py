"""What the axes look like: the first words of some episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from heed.evaluation.axes.registry import Axis


@dataclass(frozen=True, kw_only=True)
class Example:
    """An episode's beginning on an axis."""

    axis: str
    """Its label."""
    seed: int
    true: str
    """The true instruction."""
    shown: str
    """What is shown in its place or beside it."""
    instruction: str
    """What the agent reads as its instruction."""
    observation: str


def examples(axis: Axis, env_id: str, *, seeds: Sequence[int] = range(5), **arguments: Any) -> Iterator[Example]:
    """Yield the beginnings of some episodes, to look at an axis.

    Args:
        axis: such as `axis("synonyms")`.
        env_id: as in `Axis.make_env`.
        seeds: of the episodes.
        arguments: as in `Axis.make_env`.

    Raises:
        AxisDoesNotApplyError: if the axis has no meaning in the environment.
    """
    env = axis.make_env(env_id, **arguments)
    for seed in seeds:
        words, info = env.reset(seed=seed)
        yield Example(
            axis=axis.label,
            seed=seed,
            true=info["instruction"],
            shown=info["shown"],
            instruction=words["instruction"],
            observation=words["observation"],
        )
    env.close()
