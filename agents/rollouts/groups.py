"""Episodes in groups that began alike, and what each was worth against the others of its group."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from heed.agents.distributed.ranks import ALONE, Ranks
from heed.agents.parts import Part
from heed.agents.persistence.checkpoint import read_tensors, write_tensors
from heed.agents.rollouts.lost_steps import EPISODE_LOST
from heed.agents.rollouts.sample import RolloutBatch

PENDING = "episodes.safetensors"
"""The file of a checkpoint that holds the steps which wait for their group."""

GROUP = "episode_group"
"""The key of an episode's last `info` that names its group: two integers."""

SMALLEST = 1e-8
"""Added to a group's standard deviation: where all episodes have the same return, all advantages are 0."""


@dataclass
class Episode:
    """The steps of one episode: T of them, so far."""

    prompts: list[npt.NDArray[np.integer[Any]]] = field(default_factory=list)
    """(L,) each."""
    actions: list[npt.NDArray[Any]] = field(default_factory=list)
    """(D,) each, as SB3's buffers hold them."""
    log_probabilities: list[float] = field(default_factory=list)
    """Of the actions, under the policy that took them."""
    rewards: list[float] = field(default_factory=list)

    def discounted_return(self, gamma: float) -> float:
        """Return the sum of the rewards from the episode's beginning."""
        total = 0.0
        for reward in reversed(self.rewards):
            total = reward + gamma * total
        return total


class EpisodeGroups(BaseBuffer, Part):
    """Collects steps of vectorised environments, and gives those of groups of which every episode has ended.

    Nothing is cut: the steps of a group wait until its last episode has ended, be it in a later rollout. An episode
    that counted only where it ended in time would count the more often the shorter it was. An episode that its
    environment lost counts for nothing, and the others of its group are compared among themselves, once no episode of
    it runs or is still to come; where fewer than two are left they are dropped. Which groups these are, the
    environments tell: they alone know what they have begun.

    Args:
        observation_space: of the prompts.
        action_space: as SB3's buffers take it.
        group_size: episodes in a group.
        gamma: discount.
        divide_by_deviation: of a group's advantages, by the standard deviation of its returns.
        divide_by_length: of an episode's advantages, by its length, so that each episode weighs as much as any other.
        device: of the samples.
        n_envs: how many environments.
    """

    ranks: Ranks = ALONE
    """Those who learn from groups of their own at the same time."""
    running_groups: Collection[tuple[int, int]] = ()
    """The groups of which an episode runs; only of these may others be still to come. As of the last step."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        group_size: int,
        gamma: float,
        divide_by_deviation: bool,
        divide_by_length: bool,
        device: torch.device | str,
        n_envs: int,
    ):
        super().__init__(0, observation_space, action_space, device, n_envs)
        self.group_size = group_size
        self.gamma = gamma
        self.divide_by_deviation = divide_by_deviation
        self.divide_by_length = divide_by_length
        self.clear()

    def interrupted(self) -> None:
        """Drop all steps: of an episode that was not played to its end nobody knows what it is worth."""
        self.clear()

    def clear(self) -> None:
        """Drop all steps."""
        self._running = [Episode() for _ in range(self.n_envs)]
        self._ended: dict[tuple[int, int], list[Episode]] = {}
        self._samples: RolloutBatch | None = None

    def reset(self) -> None:
        """Drop the complete groups, which were trained on; what is not complete stays."""
        self._ended = {name: episodes for name, episodes in self._ended.items() if not self._is_over(name)}
        self._samples = None

    def add(
        self,
        prompts: npt.NDArray[np.integer[Any]],
        actions: npt.NDArray[Any],
        log_probabilities: npt.NDArray[np.floating[Any]],
        rewards: npt.NDArray[np.floating[Any]],
        dones: npt.NDArray[np.bool_],
        infos: Sequence[dict[str, Any]],
        running_groups: Collection[tuple[int, int]],
    ) -> None:
        """Add one step of every environment.

        Args:
            prompts: where the actions were taken, (N, L).
            actions: (N, D).
            log_probabilities: (N,).
            rewards: (N,).
            dones: which episodes ended with the step, (N,).
            infos: of the step; where an episode ended, `infos[n]["episode_group"]` names its group.
            running_groups: behind the step.
        """
        self._samples = None
        self.running_groups = set(running_groups)
        for index, episode in enumerate(self._running):
            episode.prompts.append(prompts[index])
            episode.actions.append(actions[index])
            episode.log_probabilities.append(float(log_probabilities[index]))
            episode.rewards.append(float(rewards[index]))
            if dones[index]:
                if EPISODE_LOST not in infos[index]:
                    first, second = infos[index][GROUP]
                    self._ended.setdefault((first, second), []).append(episode)
                self._running[index] = Episode()

    @property
    def complete(self) -> list[list[Episode]]:
        """The groups of which every episode has ended, or was lost, and at least two have ended."""
        return [episodes for name, episodes in self._ended.items() if self._is_over(name) and len(episodes) > 1]

    def _is_over(self, name: tuple[int, int]) -> bool:
        """Whether no episode of a group runs or is still to come."""
        return name not in self.running_groups

    def samples(self) -> RolloutBatch:
        """Return all steps of the complete groups, M of them; there must be such a group."""
        if self._samples is None:
            groups = self.complete
            episodes = [episode for group in groups for episode in group]
            lengths = np.array([len(episode.rewards) for episode in episodes])
            returns = [np.array([episode.discounted_return(self.gamma) for episode in group]) for group in groups]
            worth = np.concatenate([self.advantages_of(group) for group in returns])
            if self.divide_by_length:
                steps_of_all, episodes_of_all = self.ranks.sums([int(lengths.sum()), len(lengths)])
                worth = worth * (steps_of_all / episodes_of_all) / lengths  # so that the loss stays as large as it is
            steps = RolloutBatch(
                observations=torch.as_tensor(np.stack([p for one in episodes for p in one.prompts])),
                actions=torch.as_tensor(np.stack([action for one in episodes for action in one.actions])),
                old_values=torch.zeros(int(lengths.sum())),
                old_log_prob=torch.tensor([log for one in episodes for log in one.log_probabilities]),
                advantages=torch.as_tensor(np.repeat(worth, lengths), dtype=torch.float32),
                returns=torch.as_tensor(np.repeat(np.concatenate(returns), lengths), dtype=torch.float32),
                episodes=torch.as_tensor(np.repeat(np.arange(len(lengths)), lengths)),
                turns=torch.as_tensor(np.concatenate([np.arange(length) for length in lengths])),
            )
            self._samples = RolloutBatch(*(part.to(self.device) for part in steps))
        return self._samples

    def advantages_of(self, returns: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        """Return the advantage of each episode of a group, (G,), from their returns, (G,)."""
        advantages = returns - returns.mean()
        if self.divide_by_deviation:
            advantages = advantages / (returns.std() + SMALLEST)
        return np.asarray(advantages)

    def get(self, batch_size: int | None = None) -> Iterator[RolloutBatch]:
        """Yield the samples in random order, in minibatches of about `batch_size`, or all at once.

        Their sizes differ by one at most, since a small rest would move the weights as far as a whole minibatch.
        """
        count = len(self.samples().advantages)
        parts = 1 if batch_size is None else max(1, round(self.ranks.total(count) / batch_size))
        order = torch.randperm(count)
        if self.ranks.several and count < parts:
            order = order.repeat(-(-parts // count))[:parts]  # each rank has something for each minibatch
        for rows in order.tensor_split(parts):
            yield self._get_samples(rows.numpy())

    def _get_samples(  # type: ignore[override]  # of SB3's samples, with more in them
        self, batch_inds: npt.NDArray[Any], env: VecNormalize | None = None
    ) -> RolloutBatch:
        rows = torch.as_tensor(batch_inds, device=self.device)
        return RolloutBatch(*(part[rows] for part in self.samples()))

    # -- checkpoints ---------------------------------------------------------------------------------------

    def write(self, folder: Path) -> None:
        """Write the steps that wait, and which groups run."""
        write_tensors(folder / PENDING, self.state())

    def read(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put the steps back; if their episodes are not played on, `interrupted` follows."""
        if saved["n_envs"] == self.n_envs:
            self.set_state(read_tensors(folder / PENDING))

    def state(self) -> dict[str, Tensor]:
        """Return all steps as tensors; `set_state` is its inverse."""
        ended = [(group, episode) for group, episodes in self._ended.items() for episode in episodes]
        everything = [*((index, -1, -1, one) for index, one in enumerate(self._running))]
        everything += [(-1, *group, one) for group, one in ended]
        episodes = [one for *_, one in everything]
        prompts = [prompt for one in episodes for prompt in one.prompts]
        actions = [action for one in episodes for action in one.actions]
        return {
            # of each episode: its environment, or -1; its group, or -1 twice; its length
            "episodes": torch.tensor([[*names, len(one.rewards)] for *names, one in everything]),
            "prompts": torch.as_tensor(np.stack(prompts)) if prompts else torch.zeros(0),
            "actions": torch.as_tensor(np.stack(actions)) if actions else torch.zeros(0),
            "log_probabilities": torch.tensor(
                [log for one in episodes for log in one.log_probabilities], dtype=torch.float64
            ),
            "rewards": torch.tensor([reward for one in episodes for reward in one.rewards], dtype=torch.float64),
        }

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Put the steps of `state` in place of those that are here.

        Raises:
            ValueError: if its tensors do not go together.
        """
        lengths = state["episodes"][:, -1]
        steps_of_all = {len(state[name]) for name in ("prompts", "actions", "log_probabilities", "rewards")}
        if steps_of_all != {int(lengths.sum())} or bool((lengths < 0).any()):
            raise ValueError("the steps of the groups that wait are not as many as their episodes have")
        self.clear()
        prompts, actions = state["prompts"].numpy(), state["actions"].numpy()
        log_probabilities, rewards = state["log_probabilities"].tolist(), state["rewards"].tolist()
        begin = 0
        for env, first, second, length in state["episodes"].tolist():
            steps = slice(begin, begin + length)
            begin += length
            episode = Episode([*prompts[steps]], [*actions[steps]], log_probabilities[steps], rewards[steps])
            if env >= 0:
                self._running[env] = episode
            else:
                self._ended.setdefault((first, second), []).append(episode)
