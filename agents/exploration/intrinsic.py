"""Rewards for what is new, in training only: around the training environments, for every agent.

The bonus is of the state that a step reaches, and is added to the reward that the agent learns from. Episode
statistics, `info["is_success"]` and evaluations know nothing of it.

- `CountBonus`: 1 / sqrt(n(s)) (Tang et al. 2017, arXiv 1611.04717). There a state is counted by a hash that puts like
  states together; here by its words, which leave out already what does not matter.
- `RandomNetworkDistillation` (Burda et al. 2018, arXiv 1810.12894), in its own file.

What a state is: the words that the agent sees there, without the instruction, which it cannot change, and of a
`heed.envs.History` the newest observation only, since a transcript is almost always new.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from torch import Tensor

from heed.agents.exploration.counts import Counts, fingerprint
from heed.agents.rollouts.lost_steps import EPISODE_LOST
from heed.policies.finite import REMEDY, require_finite_array

SMOOTHING = 0.01
"""Weight of the newest step in the mean bonus that is logged."""


class IntrinsicReward(ABC):
    """Says how new states are, and remembers them."""

    @abstractmethod
    def __call__(self, texts: Sequence[str], dones: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the bonus, (n_envs,), of the states that a step reached, and take them in.

        Args:
            texts: the words for these states, one for each environment.
            dones: whether the episode ended there, (n_envs,).
        """

    @abstractmethod
    def get_state(self) -> dict[str, Tensor]:
        """Return all that is remembered."""

    @abstractmethod
    def set_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `get_state` returned."""


class CountBonus(IntrinsicReward):
    """1 / sqrt(n), n being how often the state's words were seen, this time included."""

    def __init__(self) -> None:
        self.counts = Counts()

    def __call__(self, texts: Sequence[str], dones: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the bonus of the states, (n_envs,)."""
        states = [fingerprint(text.encode()) for text in texts]
        self.counts.add(states, [0] * len(states))
        bonus: npt.NDArray[np.float64] = 1 / np.sqrt(self.counts.of(states)[:, 0])
        return bonus

    def get_state(self) -> dict[str, Tensor]:
        """Return the counts."""
        return self.counts.get_state()

    def set_state(self, tensors: dict[str, Tensor]) -> None:
        """Put the counts back."""
        self.counts.set_state(tensors)


class IntrinsicRewardVecEnv(VecEnvWrapper):
    """Adds `coefficient` times the bonus of the reached state to the rewards of language environments.

    The bonus itself is in `info["intrinsic_reward"]`. An agent saves what the bonus remembers in its checkpoints.

    Args:
        venv: as `heed.envs.make` gives it.
        bonus: how new states are.
        coefficient: of the bonus.

    Raises:
        ValueError: if `coefficient` is negative.
    """

    def __init__(self, venv: VecEnv, bonus: IntrinsicReward, *, coefficient: float):
        if coefficient < 0:
            raise ValueError(f"The coefficient of the intrinsic reward is {coefficient}, but must not be negative.")
        super().__init__(venv)
        self.bonus = bonus
        self.coefficient = coefficient
        self.mean_bonus = 0.0
        """A running mean of what is added to a reward."""

    def reset(self) -> Any:
        """Begin new episodes."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Return what a step gave, with the bonus in the rewards."""
        observations, rewards, dones, infos = self.venv.step_wait()
        assert isinstance(observations, dict)
        texts = list(observations["observation"])
        for index in np.flatnonzero(dones):
            texts[index] = infos[index]["terminal_observation"]["observation"]
        bonus = self.coefficient * self.bonus([newest_observation(text) for text in texts], dones)
        bonus[[EPISODE_LOST in info for info in infos]] = 0.0  # nobody knows what these steps reached
        require_finite_array(bonus, "intrinsic reward", REMEDY)
        self.mean_bonus += SMOOTHING * (float(bonus.mean()) - self.mean_bonus)
        for info, extra in zip(infos, bonus, strict=True):
            info["intrinsic_reward"] = float(extra)
        return observations, (rewards + bonus).astype(np.float32), dones, infos

    def get_tensors(self) -> dict[str, Tensor]:
        """Return what the bonus remembers."""
        return {**self.bonus.get_state(), "mean_bonus": torch.tensor(self.mean_bonus, dtype=torch.float64)}

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `get_tensors` returned."""
        self.mean_bonus = float(tensors["mean_bonus"])
        self.bonus.set_state({name: tensor for name, tensor in tensors.items() if name != "mean_bonus"})


def newest_observation(text: str) -> str:
    """Return what is perceived now: of a `heed.envs.History`'s transcript the end, any other text as it is."""
    _, found, last = text.rpartition("\n> ")
    return last.partition(": ")[2] if found else text
