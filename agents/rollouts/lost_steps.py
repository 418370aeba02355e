"""A rollout without the steps in which an environment lost its episode.

Such a step has no outcome: neither its reward nor what came of its action is known. So nothing is learned from it, and
what came before it is worth what the critic expected there. The estimates of those steps are exactly those of a rollout
that ends with the step before: with the value as its reward, a lost step's advantage is 0 and adds nothing to them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecNormalize

from heed.agents.distributed.ranks import ALONE, Ranks
from heed.agents.rollouts.sample import RolloutBatch

EPISODE_LOST = "episode_lost"
"""The key of an `info` that ends a lost episode, as `heed.envs` writes it."""

OBSERVATION_UNKNOWN = "observation_unknown"
"""The key of such an `info` where the observation before it is not of that episode either."""


class RolloutWithoutLostSteps(RolloutBuffer):
    """SB3's buffer, which gives all samples but those of lost steps.

    Minibatches are of like size: where a rollout is no multiple of theirs, SB3 ends with the rest, however small it is.
    Where it is one, and no step is lost, this is SB3's altogether.

    Several ranks give equally many minibatches, each of its own samples.
    """

    ranks: Ranks = ALONE
    lost: npt.NDArray[np.bool_]
    """(n_steps, n_envs)"""

    def reset(self) -> None:
        """Drop everything."""
        super().reset()
        self.lost = np.zeros((self.buffer_size, self.n_envs), dtype=bool)

    def lose(self, infos: Sequence[dict[str, Any]]) -> None:
        """Take in which environments lost their episode in the step that is added next."""
        self.lost[self.pos] = [EPISODE_LOST in info for info in infos]

    def add(self, obs: Any, action: Any, reward: Any, episode_start: Any, value: Any, log_prob: Any) -> None:
        """Add a step of every environment; the arguments are SB3's."""
        lost = self.lost[self.pos]
        if lost.any():
            reward = np.where(lost, value.detach().cpu().numpy().flatten(), reward)
        super().add(obs, action, reward, episode_start, value, log_prob)

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        """The samples that are learned from, as SB3 numbers them: environment by environment."""
        kept = np.flatnonzero(~self.lost.swapaxes(0, 1).reshape(-1))
        return kept if len(kept) else np.arange(self.lost.size)

    def get(  # type: ignore[override]  # of SB3's samples, with more in them
        self, batch_size: int | None = None
    ) -> Generator[RolloutBatch, None, None]:
        """Yield the samples in random order, in as many minibatches of like size as there would be without losses."""
        self._number_episodes()
        divides = batch_size is None or batch_size >= self.lost.size or self.lost.size % batch_size == 0
        if divides and not self.lost.any() and not self.ranks.several:
            yield from super().get(batch_size)  # type: ignore[misc]  # `_get_samples` below
            return
        parts = 1 if batch_size is None else -(-self.lost.size * self.ranks.count // batch_size)
        next(super().get(1))  # SB3 flattens its arrays where it gives the first sample
        order = np.random.permutation(self.rows)  # noqa: NPY002 - from where SB3 draws, so that resuming is exact
        if self.ranks.several and len(order) < parts:
            order = np.resize(order, parts)  # nearly all was lost here: some samples are taken more than once
        for rows in np.array_split(order, parts):
            if len(rows):
                yield self._get_samples(rows)

    def _number_episodes(self) -> None:
        """Number the episodes, and the steps within each, environment by environment as SB3 numbers samples."""
        begins = self.episode_starts.astype(bool).swapaxes(0, 1).copy()
        begins[:, 0] = True
        flat, steps = begins.reshape(-1), np.arange(begins.size)
        self._episodes = flat.cumsum() - 1
        self._turns = steps - np.maximum.accumulate(np.where(flat, steps, 0))

    def _get_samples(  # type: ignore[override]
        self, batch_inds: npt.NDArray[np.intp], env: VecNormalize | None = None
    ) -> RolloutBatch:
        places = (torch.from_numpy(place[batch_inds]).to(self.device) for place in (self._episodes, self._turns))
        return RolloutBatch(*super()._get_samples(batch_inds, env), *places)
