"""A task: what an agent can be told to do in an environment, and how it is seen that it did."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is known after a reset or a step: what the functions of a task look at."""

    observation: Mapping[str, Any]
    """The language observation. Its `instruction` is the environment's own."""
    reward: float
    """The environment's; 0 after a reset."""
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]
    number: int
    """Steps since the reset."""
    env: gymnasium.Env[Any, Any]
    """The environment below all wrappers, for what the words do not say; to be read only."""


Text = str | Callable[[Moment], str]
"""Words, or a function from the moment after the reset to words."""


@dataclass(frozen=True)
class Task:
    """One thing that an agent can be told to do.

    Its functions see a `Moment`. They may be called several times for one, and must follow from it alone.

    Raises:
        ValueError: if something of it cannot be. The message says what.
    """

    texts: Text | Sequence[Text] | None
    """The instruction, or several ways to say it, of which an episode draws one; each words, or a function of the
    moment after the reset. None gives the environment's own instruction."""
    _: dataclasses.KW_ONLY
    success: Callable[[Moment], bool] | None = None
    """Whether a step did it, which ends the episode. None leaves ends and success to the environment."""
    at_end: bool = False
    """Ask `success` only where the environment ends the episode, for what is to be true then."""
    reward: float | Callable[[Moment, bool], float] | None = None
    """What success brings, all other steps bringing 0; or a function of a step's moment and whether it succeeded, for
    each step. None is 1, and without `success` the environment's own rewards."""
    possible: Callable[[Moment], bool] | None = None
    """Whether it can be done, seen after the reset; only such tasks are given. None is always."""
    first: tuple[str, ...] = ()
    """The names of other tasks that have to be done on the way to it. None of them can stand in its place, nor it in
    theirs: an episode would end with the one before the other is done."""
    weight: float = 1.0
    """How often it is drawn, against the others' weights."""
    name: str = field(default="")
    """What `info["task"]` says; the first text, unless that is a function."""

    def __post_init__(self) -> None:
        """Fill in the name, and refuse what cannot be."""
        options = self.options
        if self.texts is not None and not options:
            raise ValueError("A task needs a text at least; None stands for the environment's own instruction.")
        for option in options:
            if not callable(option) and not str(option).strip():
                raise ValueError(f"A task's text is some words, or a function that returns them, but is {option!r}.")
        if not self.name:
            if options and callable(options[0]):
                raise ValueError("A task whose first text is a function needs a name: Task(..., name='...').")
            object.__setattr__(self, "name", str(options[0]) if options else "the environment's own")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"The weight of {self.name!r} is {self.weight}, but must be a positive number.")
        if self.at_end and self.success is None:
            raise ValueError(f"{self.name!r} is to be judged at the end, but has no `success` to judge it by.")
        if isinstance(self.reward, int | float) and self.success is None:
            raise ValueError(f"{self.name!r} has a reward for success, but no `success`: only the environment knows.")

    @property
    def options(self) -> tuple[Text, ...]:
        """The texts; empty for the environment's own instruction."""
        if self.texts is None:
            return ()
        return (self.texts,) if isinstance(self.texts, str) or callable(self.texts) else tuple(self.texts)

    @property
    def is_the_environments(self) -> bool:
        """Whether it is the environment's own task, in its own or other words."""
        return self.success is None and self.reward is None

    @property
    def success_reward(self) -> float | None:
        """What success brings where all other steps bring 0 and success ends the episode, else None."""
        if self.success is None or self.at_end or callable(self.reward):
            return None
        return 1.0 if self.reward is None else float(self.reward)

    def reward_for(self, moment: Moment, succeeded: bool) -> float:
        """Return what a step brings."""
        if callable(self.reward):
            return float(self.reward(moment, succeeded))
        if self.success is None:
            return moment.reward
        return (1.0 if self.reward is None else float(self.reward)) if succeeded else 0.0
