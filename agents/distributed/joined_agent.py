"""What lets several processes train an agent together, each with environments of its own.

They begin with the same weights, and count steps and episodes together (`heed.agents.distributed.counts`). The
algorithms add up their gradients (`heed.agents.distributed.ranks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_wrapper
from torch import Tensor

from heed.agents.distributed.counts import EpisodesOfAll, counting_together
from heed.agents.distributed.ranks import ALONE, Learners, current
from heed.agents.exploration import IntrinsicRewardVecEnv
from heed.agents.rollouts.running_episodes import RunningEpisodes


class JoinedAgent(RunningEpisodes):
    """Mixin before an SB3 algorithm: knows the processes that train it; one alone has nobody to wait for."""

    learners: Learners = ALONE
    """The processes that train it together."""
    episodes_of_all: EpisodesOfAll
    """What keeps their episodes until all of them take them in."""

    def _join(self) -> None:
        """Learn which processes train it; before all else."""
        self.learners = current()
        self.episodes_of_all = EpisodesOfAll(self.learners)

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[safe-super]  # the algorithm's, behind this mixin
        if self.learners.several:
            self._begin_together()

    def _begin_together(self) -> None:
        """Let all learners begin with the same weights, each with environments and random numbers of its own.

        Raises:
            ValueError: if the environments are not shares of a larger vector, or what they remember cannot be shared.
        """
        learners = self.learners
        self._require_shares()
        learners.make_alike(self._weights())
        own_seed = learners.seed(self.seed)
        if not learners.is_first and own_seed is not None:
            # Minibatches and actions are drawn anew in each learner; the weights were drawn alike.
            set_random_seed(own_seed, using_cuda=self.device.type == "cuda")
            self.action_space.seed(own_seed)

    def _require_shares(self) -> None:
        """Refuse environments that are no shares of a larger vector, or remember what cannot be shared; called by all.

        Raises:
            ValueError: saying why.
        """
        if self.env is None:
            return
        shares = self.learners.gather((self.env.num_envs, getattr(self.env.unwrapped, "first_index", None)))
        sizes = [size for size, _ in shares]
        if len(set(sizes)) > 1:
            raise ValueError(f"Each process must have as many environments as any other, but they have {sizes}.")
        if any(first not in (None, rank * sizes[0]) for rank, (_, first) in enumerate(shares)):
            raise ValueError(
                "The processes would play the same episodes: make the environments of each with "
                f"heed.envs.make(..., n_envs={sizes[0]}, first_index=learners.rank * {sizes[0]})."
            )
        if unwrap_vec_wrapper(self.env, IntrinsicRewardVecEnv) is not None:
            raise ValueError(
                "Rewards for what is new cannot be had in several processes: each would know only what it has seen "
                "itself. Train in one process, or without them."
            )
        if unwrap_vec_wrapper(self.env, VecNormalize) is not None:
            raise ValueError(
                "VecNormalize would scale the rewards of each process in a unit of its own: use "
                "heed.agents.rollouts.scaled_rewards.ScaledRewardsVecEnv, which scales by the returns of all of them."
            )

    def _weights(self) -> Iterator[Tensor]:
        """Yield all tensors of the policy, which are the same in all learners."""
        yield from self.policy.parameters()
        yield from self.policy.buffers()

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.env is None:
            raise ValueError(
                "There is no environment to train in: load the agent with one (env=...), or give it one by set_env."
            )
        if self.learners.several:
            callback = counting_together(callback)
            if not self.learners.is_first:
                progress_bar = False
                if not self._custom_logger:
                    self.set_logger(Logger(folder=None, output_formats=[]))
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: npt.NDArray[Any] | None = None) -> None:
        """Log how many episodes the environments have lost, once one is."""
        if self.learners.several:
            self.episodes_of_all.note(infos, dones)  # `take_in_episodes` follows
            return
        super()._update_info_buffer(infos, dones)
        self._log_lost(self._lost_here)

    @property
    def _lost_here(self) -> int:
        return 0 if self.env is None else getattr(self.env.unwrapped, "lost_count", 0)

    def _log_lost(self, lost: int) -> None:
        if lost:
            self.logger.record("rollout/lost_episodes", lost)

    def take_in_episodes(self) -> None:
        """Take the episodes of all learners since the last rollout into the statistics; called by all."""
        infos, dones = self.episodes_of_all.exchange(self._lost_here)
        super()._update_info_buffer(infos, dones)
        self._log_lost(self.episodes_of_all.lost)
