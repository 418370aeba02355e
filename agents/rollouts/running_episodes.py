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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heed.agents.agent import LanguageAgent


class RunningEpisodes:
    """Knows when the running episodes of an agent are not played on.

    Episodes run where the agent's `_last_episode_starts` is set; `_last_obs` is what it saw of their environments last.

    Args:
        agent: whose episodes they are.
    """

    def __init__(self, agent: LanguageAgent):
        self._agent = agent
        self.step_is_open = False
        """Whether the environments have taken a step, or are about to, that the agent has not taken in."""

    def interrupt(self) -> None:
        """End what belongs to the running episodes, if there are any; the next `learn` resets the environments."""
        if self._agent._last_episode_starts is None:
            return
        self._agent._last_obs = self._agent._last_episode_starts = None
        self.step_is_open = False
        for part in self._agent.parts():
            part.interrupted()

    def are_as_seen(self) -> bool:
        """Whether what the agent saw last is what the environments gave last."""
        shown, env = self._agent.shown(), self._agent.env
        # Not by its content: an episode that somebody else has begun since may look the same.
        if shown is None:
            return True
        elsewhere = getattr(env, "is_stepping", False) or getattr(env, "is_played_elsewhere", False)
        return shown is self._agent._last_obs and not elsewhere

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Interrupt the episodes where playing raises, unless the agent is known to have taken in all steps.

        A training that is ended between two rollouts (`on_rollout_start`) goes on exactly.
        """
        try:
            yield
        except BaseException:
            if getattr(self._agent.env, "is_stepping", True) or self.step_is_open or not self.are_as_seen():
                self.interrupt()
            raise
