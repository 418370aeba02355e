"""A BabyAI level whose episodes have different tasks, and which tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel


class LevelOfTasks(RoomGridLevel):
    """Draws one of several tasks for each episode.

    `info["level"]` names it on every step, so evaluations report success by task.

    Args:
        tasks: the names of those that are drawn, each as often.
        known: the names of all that there are.
        kwargs: go to `RoomGridLevel`.

    Raises:
        ValueError: if there is no task, or one that is not known.
    """

    def __init__(self, *, tasks: Sequence[str], known: Sequence[str], **kwargs: Any):
        if isinstance(tasks, str) or not tasks or not set(tasks) <= set(known):
            raise ValueError(f"The tasks are {tasks!r}, but must be a list of some of: {', '.join(known)}.")
        self.tasks = tuple(tasks)
        self.task = self.tasks[0]
        """The running episode's."""
        super().__init__(**kwargs)

    def draw_task(self) -> str:
        """Draw the task of the episode that begins."""
        self.task = str(self._rand_elem(self.tasks))
        return self.task

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode, and name its task."""
        observation, info = super().reset(**kwargs)  # type: ignore[no-untyped-call]
        return observation, {**info, "level": self.task}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act, and name the task."""
        observation, reward, terminated, truncated, info = super().step(action)  # type: ignore[no-untyped-call]
        return observation, reward, terminated, truncated, {**info, "level": self.task}
