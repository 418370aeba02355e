"""From the steps of an episode to transitions over several of them, for the replay buffer (`buffer.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy.typing as npt


class Transition(NamedTuple):
    """An action, the n steps' rewards from there, and what comes behind them."""

    observation: npt.NDArray[Any]
    action: int
    reward: float
    """r_0 + gamma * r_1 + ... + gamma ** (n - 1) * r_(n - 1)."""
    next_observation: npt.NDArray[Any]
    discount: float
    """Of the value of `next_observation`: gamma ** n, or 0 where the episode ended by its own rules."""


class NStepReturns:
    """Turns one episode's steps after the other into transitions over `n_steps` steps."""

    def __init__(self, n_steps: int, gamma: float):
        self.n_steps = n_steps
        self.gamma = gamma
        self.waiting: list[tuple[npt.NDArray[Any], int, float]] = []
        """Observation, action and reward of the steps whose transition is not complete, fewer than `n_steps`."""
        self.newest: npt.NDArray[Any] | None = None
        """The observation behind the last of these steps."""

    def step(
        self,
        observation: npt.NDArray[Any],
        action: int,
        reward: float,
        next_observation: npt.NDArray[Any],
        *,
        terminated: bool,
        truncated: bool,
    ) -> Iterator[Transition]:
        """Take a step, and yield the transitions that it completes: at most one, and at an episode's end all."""
        self.waiting.append((observation, action, reward))
        self.newest = next_observation
        while self.waiting and (terminated or truncated or len(self.waiting) == self.n_steps):
            discount, total = 1.0, 0.0
            for *_, later in self.waiting:
                total += discount * later
                discount *= self.gamma
            first, chosen, _ = self.waiting.pop(0)
            yield Transition(first, chosen, total, next_observation, 0.0 if terminated else discount)

    def cut(self, observation: npt.NDArray[Any], *, known: bool) -> list[Transition]:
        """End the episode before a step that was lost, of which neither reward nor outcome is known.

        Args:
            observation: in which that step was taken, so what the steps before it came to.
            known: whether it is that; otherwise nothing is known of their outcome either.

        Returns:
            The transitions of the steps before; without the lost one.
        """
        waiting, self.waiting = self.waiting, []
        if not waiting or not known:
            return []
        self.waiting, (before, action, reward) = waiting[:-1], waiting[-1]
        return list(self.step(before, action, reward, observation, terminated=False, truncated=True))

    def interrupt(self) -> list[Transition]:
        """End an episode that is not played on, as a time limit would; return the transitions that it completes."""
        if not self.waiting:
            return []
        before, action, reward = self.waiting.pop()
        assert self.newest is not None  # a step came to something
        return list(self.step(before, action, reward, self.newest, terminated=False, truncated=True))
