"""What several ranks count together: the steps of all environments, their episodes, and those that were lost.

Between two rollouts all ranks have the same counts and the same last episodes, in the order in which one process
with all environments would have seen them. So whatever hangs on these, the learning rate, a checkpoint, the end of the
training, they decide alike without asking each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.type_aliases import MaybeCallback

from heed.agents.distributed.ranks import Ranks

if TYPE_CHECKING:
    import numpy.typing as npt

_TOLD = ("episode", "is_success")
"""What of an episode's last `info` the statistics are made of."""


class EpisodesOfAll:
    """Keeps the episodes that ended here until the next rollout, when all ranks take in everybody's.

    Args:
        ranks: all of them.
    """

    def __init__(self, ranks: Ranks):
        self._ranks = ranks
        self._here: list[list[tuple[dict[str, Any], bool]]] = []
        self._lost_here = 0
        self.lost = 0
        """Episodes that all environments have lost."""
        self.count = 0
        """Episodes that were exchanged."""

    def note(self, infos: list[dict[str, Any]], dones: npt.NDArray[Any] | None) -> None:
        """Take in one step of the environments here."""
        ended = [False] * len(infos) if dones is None else [bool(done) for done in dones]
        step = zip(infos, ended, strict=True)
        self._here.append([({k: info[k] for k in _TOLD if k in info}, done) for info, done in step if done])

    def exchange(self, lost: int) -> tuple[list[dict[str, Any]], npt.NDArray[np.bool_]]:
        """Return the episodes of all ranks since the last exchange, in order; called by all.

        Args:
            lost: episodes that the environments here have lost so far.

        Returns:
            Their last `info`s, as far as statistics are made of them, and for each that it ended.
        """
        here, self._here = self._here, []
        news, self._lost_here = any(here) or lost != self._lost_here, lost
        if not self._ranks.most(int(news)):
            return [], np.zeros(0, dtype=bool)  # in most steps, where an update follows every step
        everybody = self._ranks.gather((here, lost))
        self.lost = sum(theirs for _, theirs in everybody)
        steps = zip(*(ended for ended, _ in everybody), strict=True)
        together = [episode for step in steps for ended in step for episode in ended]
        self.count += len(together)
        return [info for info, _ in together], np.array([done for _, done in together], dtype=bool)


class CountTogether(BaseCallback):
    """Comes before all other callbacks, and lets them find the counts of all ranks."""

    def _on_step(self) -> bool:
        # SB3 has just counted the environments here.
        others = self.model.ranks.count - 1  # type: ignore[attr-defined]
        self.model.num_timesteps += others * self.training_env.num_envs
        return True

    def _on_rollout_end(self) -> None:
        self.model.take_in_episodes()  # type: ignore[attr-defined]


def counting_together(callback: MaybeCallback) -> CallbackList:
    """Return the callbacks with `CountTogether` before them."""
    if callback is None:
        return CallbackList([CountTogether()])
    if isinstance(callback, list):
        return CallbackList([CountTogether(), *callback])
    return CallbackList(
        [CountTogether(), callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)]
    )
