"""Rewards in a unit of their own: divided by the running standard deviation of the discounted return.

Environments pay in units of their choosing, and a value function that learns returns of hundreds drowns the policy that
shares its language model. So rewards are scaled as in the PPO implementations (Engstrom et al. 2020, arXiv 2005.12729,
section 3, "reward scaling"; Stable-Baselines3's `VecNormalize` does the same): by the standard deviation of the
discounted sum of an environment's rewards so far, without moving their mean and without clipping. What is optimal stays
so. Episodes are still reported in the environment's own unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from torch import Tensor

from heed.agents.distributed.ranks import current
from heed.policies.finite import REWARD_REMEDY, require_finite_array

EPSILON = 1e-8
"""Added to the variance: rewards may all be zero for long."""


class ScaledRewardsVecEnv(VecEnvWrapper):
    """Divides rewards by the running standard deviation of the discounted return.

    For agents that learn from what has just been played: a replay buffer would hold rewards of several units. An agent
    saves the scale in its checkpoints. Several ranks scale by the returns of all of them, for which each step waits.

    Args:
        venv: as `heed.envs.make` gives it.
        gamma: discount of the return.

    Raises:
        ValueError: if `gamma` is no discount.
    """

    def __init__(self, venv: VecEnv, *, gamma: float):
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma is {gamma}, but must be between 0 and 1.")
        super().__init__(venv)
        self.gamma = gamma
        self._statistics = RunningMeanStd()
        self._ranks = current()
        self._returns: npt.NDArray[np.float64] = np.zeros(venv.num_envs)

    @property
    def scale(self) -> float:
        """What rewards are divided by now."""
        return float(np.sqrt(self._statistics.var + EPSILON))

    def reset(self) -> Any:
        """Begin new episodes."""
        self._returns[:] = 0
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Return what a step gave, with scaled rewards."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._returns = self.gamma * self._returns + rewards
        self._statistics.update(np.concatenate(self._ranks.gather(self._returns)))
        self._returns[dones] = 0
        scaled = (rewards / self.scale).astype(np.float32)
        require_finite_array(scaled, "scaled reward", REWARD_REMEDY)
        return observations, scaled, dones, infos

    def get_tensors(self) -> dict[str, Tensor]:
        """Return what the scale follows from."""
        return _as_tensors(self._statistics, self._returns)

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `get_tensors` returned; in another number of environments the running returns begin anew."""
        self._returns = _put_back(tensors, self._statistics, self._returns)


class NormalizedRewards:
    """What SB3's `VecNormalize` scales rewards by, for checkpoints: by itself it saves that as a pickle.

    Args:
        wrapper: around the environments.
    """

    def __init__(self, wrapper: VecNormalize):
        self._wrapper = wrapper

    def get_tensors(self) -> dict[str, Tensor]:
        """Return what the scale follows from."""
        return _as_tensors(self._wrapper.ret_rms, self._wrapper.returns)

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `get_tensors` returned; in another number of environments the running returns begin anew."""
        self._wrapper.returns = _put_back(tensors, self._wrapper.ret_rms, self._wrapper.returns)


def _as_tensors(statistics: RunningMeanStd, returns: npt.NDArray[np.float64]) -> dict[str, Tensor]:
    numbers = np.array([float(statistics.mean), float(statistics.var), float(statistics.count)])
    return {"statistics": torch.from_numpy(numbers), "returns": torch.from_numpy(returns.copy())}


def _put_back(
    tensors: dict[str, Tensor], statistics: RunningMeanStd, returns: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Put the statistics back in place; return the running returns, or those that there are of another number."""
    mean, variance, count = tensors["statistics"].tolist()
    statistics.mean, statistics.var, statistics.count = np.array(mean), np.array(variance), count
    saved: npt.NDArray[np.float64] = tensors["returns"].numpy().copy()
    return saved if len(saved) == len(returns) else returns
