"""What belongs to an episode ends, as truncated, when its episode is no longer being played.

A training stops in the middle of episodes. The next `learn` may begin new ones: it resets the environments unless it is
told not to, and it must where others are set, where a loaded agent's could not be brought back, or where nobody knows
what they show (an exception in the middle of a step, or somebody else who has played in them since). Whatever an agent
keeps of the running episodes is ended at that moment, in one place: each of its parts is told (`Part.interrupted`).
Otherwise a return would add up the rewards of two episodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback

from heed.agents.parts import Part


class RunningEpisodes(BaseAlgorithm):
    """Mixin before an SB3 algorithm: knows when running episodes are not played on.

    Episodes run where `_last_episode_starts` is set; `_last_obs` is what their environments show.
    """

    _step_is_open: bool = False
    """Whether the environments have taken a step, or are about to, that the agent has not taken in."""

    def _interrupt_episodes(self) -> None:
        """End what belongs to the running episodes, if there are any; the next `learn` resets the environments."""
        if self._last_episode_starts is None:
            return
        self._last_obs = self._last_episode_starts = None
        self._step_is_open = False
        for part in self._parts():
            part.interrupted()

    def _parts(self) -> list[Part]:
        """Return what the agent has beside its policy, in the order in which it is told of what happens."""
        return []

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if reset_num_timesteps or not self._sees_what_is_shown():
            self._interrupt_episodes()
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    def _shown(self) -> Any:
        """Return what the environments gave last, the very object; None where they do not tell."""
        return getattr(self.env, "prompts", None)

    def _sees_what_is_shown(self) -> bool:
        """Whether what the agent saw last is what the environments gave last."""
        shown = self._shown()
        # Not by its content: an episode that somebody else has begun since may look the same.
        if shown is None:
            return True
        elsewhere = getattr(self.env, "is_stepping", False) or getattr(self.env, "is_played_elsewhere", False)
        return shown is self._last_obs and not elsewhere

    @contextmanager
    def _playing(self) -> Iterator[None]:
        """Interrupt the episodes where playing raises, unless the agent is known to have taken in all steps.

        A training that is ended between two rollouts (`on_rollout_start`) goes on exactly.
        """
        try:
            yield
        except BaseException:
            if getattr(self.env, "is_stepping", True) or self._step_is_open or not self._sees_what_is_shown():
                self._interrupt_episodes()
            raise
