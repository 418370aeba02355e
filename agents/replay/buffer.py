"""The replay buffer of `DQN`: n-step transitions, drawn evenly or by priority, some of them kept for good.

SB3's n-step buffer keeps steps and adds up their rewards when it draws. This one adds them up when they come in and
keeps *transitions*: a prompt, the action, the discounted rewards of the n steps from there, the prompt behind them, and
the discount of that prompt's value, which is 0 behind an episode's end. So a transition needs no neighbour, and those
of relabelled episodes (`heed.agents.replay.hindsight`) and of demonstrations stand beside those that were just made.

- n-step returns: Sutton 1988; as in Rainbow (Hessel et al. 2018, arXiv 1710.02298). An episode's last transitions are
  shorter; where a time limit cut it off, they bootstrap from the last prompt. A transition comes in n - 1 steps late.
- Prioritized replay: Schaul et al. 2016, arXiv 1511.05952, the proportional variant: P(i) is proportional to
  (|TD error| + epsilon) ** alpha, new transitions have the highest priority so far, and the draw is stratified.
  Importance weights are divided by the greatest of the batch, not of the buffer.
- Demonstrations: as in DQfD (Hester et al. 2018, arXiv 1704.03732) they are never overwritten, and with priorities
  theirs have a bonus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

from heed.agents.distributed.ranks import ALONE, Ranks
from heed.agents.parts import Part
from heed.agents.persistence.checkpoint import CheckpointError, read_json, read_tensors, write_json, write_tensors
from heed.agents.replay.n_step_returns import NStepReturns, Transition
from heed.agents.replay.sum_tree import SumTree
from heed.agents.rollouts.lost_steps import EPISODE_LOST, OBSERVATION_UNKNOWN
from heed.agents.rollouts.micro_batches import Rows

PRIORITY_EPSILON = 1e-3
"""Added to every TD error's size, so that no transition is never drawn again (DQfD's epsilon_a)."""

TENSORS, NUMBERS = "replay_buffer.safetensors", "replay_buffer.json"
"""The files of a replay buffer in a checkpoint."""

_ARRAYS = ("observations", "actions", "rewards", "next_observations", "discounts")


class Batch(NamedTuple):
    """Drawn transitions, B of them."""

    observations: Tensor
    """(B, L)"""
    actions: Tensor
    """(B, 1), int64"""
    rewards: Tensor
    """(B, 1)"""
    next_observations: Tensor
    """(B, L)"""
    discounts: Tensor
    """(B, 1)"""
    weights: Tensor
    """Importance weights, (B, 1), at most 1; all 1 without priorities."""
    demonstrated: Tensor
    """Which are of demonstrations, (B, 1), 0 or 1."""
    indices: npt.NDArray[np.int64]
    """Where they stand in the buffer, (B,)."""

    def part(self, rows: Rows) -> Batch:
        """Return some of the transitions; `indices` stay those of the whole batch."""
        parts: Any = {name: part[rows] for name, part in self._asdict().items() if isinstance(part, Tensor)}
        return self._replace(**parts)


class ReplayBuffer(Part):
    """Keeps the last `capacity` transitions of all environments together.

    Args:
        capacity: how many transitions it holds.
        observation_space: of the prompts, or any other `Box`.
        n_envs: environments that `add` is given the steps of.
        n_steps: of a transition.
        gamma: discount of a step.
        priority_exponent: alpha; 0 draws evenly.
        demonstration_bonus: added to the TD error of demonstrations, as a priority.
        n_actions: which a checkpoint's actions must be among; None for any.
        device: where batches go.
        seed: of the draw.

    Raises:
        ValueError: if a number cannot be.
    """

    def __init__(
        self,
        capacity: int,
        observation_space: spaces.Box,
        *,
        n_envs: int = 1,
        n_steps: int = 1,
        gamma: float = 0.99,
        priority_exponent: float = 0.0,
        demonstration_bonus: float = 0.0,
        n_actions: int | None = None,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ):
        for name, value, least in (("buffer_size", capacity, 1), ("n_steps", n_steps, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}, but must be at least {least}.")
        for name, number in (("priority_exponent", priority_exponent), ("demonstration_bonus", demonstration_bonus)):
            if number < 0:
                raise ValueError(f"{name} is {number}, but must not be negative.")
        self.capacity = capacity
        self.n_steps, self.gamma = n_steps, gamma
        self.priority_exponent = priority_exponent
        self.demonstration_bonus = demonstration_bonus
        self.n_actions = n_actions
        self.device = torch.device(device)
        self.observations = np.zeros((capacity, *observation_space.shape), dtype=observation_space.dtype)
        self.next_observations = np.zeros_like(self.observations)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.discounts = np.zeros(capacity, dtype=np.float32)
        self.size = 0
        """Transitions that are there."""
        self.kept = 0
        """How many of them, the first ones, are of demonstrations and stay."""
        self.position = 0
        """Where the next transition goes."""
        self.priorities = SumTree(capacity) if priority_exponent > 0 else None
        """Each to the power `priority_exponent`; None to draw evenly."""
        self.highest_priority = 1.0
        self._streams = [NStepReturns(n_steps, gamma) for _ in range(n_envs)]
        self._random = np.random.default_rng(seed)

    # -- what comes in -------------------------------------------------------------------------------------

    def add(
        self,
        obs: npt.NDArray[Any],
        next_obs: npt.NDArray[Any],
        action: npt.NDArray[Any],
        reward: npt.NDArray[Any],
        done: npt.NDArray[Any],
        infos: Sequence[dict[str, Any]],
    ) -> None:
        """Take one step of every environment; the names are those by which SB3 calls it.

        Args:
            obs: (n_envs, L).
            next_obs: (n_envs, L), at an episode's end its last observation.
            action: (n_envs,).
            reward: (n_envs,).
            done: (n_envs,), whether an episode ended.
            infos: `TimeLimit.truncated` says that it was only cut off, `episode_lost` that nobody knows what this step
                came to: then it is left out, and the episode was cut off before it.
        """
        obs, next_obs, actions = obs.copy(), next_obs.copy(), np.asarray(action).reshape(-1).tolist()
        complete: list[Transition] = []
        for index, stream in enumerate(self._streams):
            if EPISODE_LOST in infos[index]:
                complete += stream.cut(obs[index], known=OBSERVATION_UNKNOWN not in infos[index])
                continue
            truncated = bool(done[index] and infos[index].get("TimeLimit.truncated", False))
            complete += stream.step(
                obs[index],
                actions[index],
                float(reward[index]),
                next_obs[index],
                terminated=bool(done[index]) and not truncated,
                truncated=truncated,
            )
        self._insert(complete)

    def interrupted(self) -> None:
        """Complete the transitions of episodes that are not played on: they bootstrap from what was seen last."""
        self._insert([transition for stream in self._streams for transition in stream.interrupt()])

    def add_episode(
        self,
        observations: npt.NDArray[Any],
        actions: Sequence[int],
        rewards: Sequence[float],
        *,
        terminated: bool,
    ) -> None:
        """Take a whole episode of T steps, as `add` would have taken it step by step.

        Args:
            observations: (T + 1, L).
            actions: (T,).
            rewards: (T,).
            terminated: whether it ended by its own rules; otherwise it was cut off.
        """
        self._insert(list(self._episode(observations, actions, rewards, terminated)))

    def keep_episode(
        self,
        observations: npt.NDArray[Any],
        actions: Sequence[int],
        rewards: Sequence[float],
        *,
        terminated: bool,
    ) -> None:
        """Take a demonstrated episode, which stays; the arguments are those of `add_episode`.

        Raises:
            ValueError: if other transitions are there already, or the demonstrations leave no room for any.
        """
        if self.size > self.kept:
            raise ValueError("Demonstrations come before the first step of a training: this buffer holds others.")
        if self.kept + len(actions) >= self.capacity:
            raise ValueError(
                f"The demonstrations fill the replay buffer of {self.capacity} transitions, which they never leave: "
                "raise buffer_size, or give fewer."
            )
        self.add_episode(observations, actions, rewards, terminated=terminated)
        self.kept = self.size

    def _episode(
        self, observations: npt.NDArray[Any], actions: Sequence[int], rewards: Sequence[float], terminated: bool
    ) -> Iterator[Transition]:
        stream, last = NStepReturns(self.n_steps, self.gamma), len(actions) - 1
        for step, (action, reward) in enumerate(zip(actions, rewards, strict=True)):
            yield from stream.step(
                observations[step],
                int(action),
                float(reward),
                observations[step + 1],
                terminated=terminated and step == last,
                truncated=not terminated and step == last,
            )

    def _insert(self, transitions: Sequence[Transition]) -> None:
        """Write transitions over the oldest that may go."""
        places = np.empty(len(transitions), dtype=np.int64)
        for number, transition in enumerate(transitions):
            places[number] = place = self.position
            self.observations[place] = transition.observation
            self.actions[place] = transition.action
            self.rewards[place] = transition.reward
            self.next_observations[place] = transition.next_observation
            self.discounts[place] = transition.discount
            self.size = max(self.size, place + 1)
            self.position = place + 1 if place + 1 < self.capacity else self.kept
        if self.priorities is not None:
            self.priorities[places] = self.highest_priority

    # -- what goes out -------------------------------------------------------------------------------------

    def seed(self, seed: int | None) -> None:
        """Set the seed of the draw."""
        self._random = np.random.default_rng(seed)

    def sample(self, batch_size: int, importance_exponent: float = 0.0, ranks: Ranks = ALONE) -> Batch:
        """Draw transitions, with replacement.

        Args:
            batch_size: how many; of several ranks each draws so many from its own buffer.
            importance_exponent: beta, how far the weights make up for the priorities: 1 altogether, 0 not at all.
            ranks: that draw at the same time. Importance weights are divided by the greatest of all their batches.

        Raises:
            ValueError: if there are none.
        """
        if self.size == 0:
            raise ValueError("The replay buffer is empty: take steps before learning (learning_starts).")
        weights = np.ones(batch_size, dtype=np.float32)
        if self.priorities is None:
            indices = self._random.integers(self.size, size=batch_size)
        else:
            shares = (np.arange(batch_size) + self._random.random(batch_size)) / batch_size
            indices = self.priorities.find(shares * self.priorities.total)
            # (N * P(i)) ** -beta over the greatest of the batch: N and the total fall out.
            chosen = self.priorities[indices]
            weights = ((chosen / chosen.min()) ** -importance_exponent).astype(np.float32)
            if ranks.several:
                rarest = float(chosen.min() / self.priorities.total)
                weights *= (rarest / ranks.least(rarest)) ** -importance_exponent
        return self.at(indices, weights)

    def at(self, indices: npt.NDArray[np.int64], weights: npt.NDArray[np.float32] | None = None) -> Batch:
        """Return the transitions that stand at `indices`, (B,)."""
        weights = np.ones(len(indices), dtype=np.float32) if weights is None else weights

        def moved(rows: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(rows).to(self.device)

        return Batch(
            observations=moved(self.observations[indices]),
            actions=moved(self.actions[indices][:, None]),
            rewards=moved(self.rewards[indices][:, None]),
            next_observations=moved(self.next_observations[indices]),
            discounts=moved(self.discounts[indices][:, None]),
            weights=moved(weights[:, None]),
            demonstrated=moved((indices < self.kept)[:, None].astype(np.float32)),
            indices=indices,
        )

    def update_priorities(self, indices: npt.NDArray[np.int64], errors: npt.NDArray[np.floating[Any]]) -> None:
        """Set the priorities of transitions to the size of their TD errors, (B,); without priorities do nothing."""
        if self.priorities is None:
            return
        bonus = self.demonstration_bonus * (indices < self.kept)
        priorities = (np.abs(errors).astype(np.float64) + PRIORITY_EPSILON + bonus) ** self.priority_exponent
        self.priorities[indices] = priorities
        self.highest_priority = max(self.highest_priority, float(priorities.max(initial=0.0)))

    # -- checkpoints ---------------------------------------------------------------------------------------

    def write(self, folder: Path) -> None:
        """Write the buffer into a checkpoint's folder."""
        arrays = {name: getattr(self, name)[: self.size] for name in _ARRAYS}
        if self.priorities is not None:
            arrays["priorities"] = self.priorities[: self.size]
        waiting = [stream.waiting for stream in self._streams]
        shape = self.observations.shape[1:]
        steps = [observation for steps in waiting for observation, *_ in steps]
        arrays["waiting"] = np.array(steps, dtype=self.observations.dtype).reshape(-1, *shape)
        newest = [stream.newest for stream in self._streams if stream.waiting]
        arrays["newest"] = np.array(newest, dtype=self.observations.dtype).reshape(-1, *shape)
        write_tensors(folder / TENSORS, {name: torch.from_numpy(array) for name, array in arrays.items()})
        state = {
            "position": self.position,
            "kept": self.kept,
            "highest_priority": self.highest_priority,
            "waiting": [[[action, reward] for _, action, reward in steps] for steps in waiting],
            "random": self._random.bit_generator.state,
        }
        write_json(folder / NUMBERS, state)

    def read(self, folder: Path, saved: dict[str, Any] | None = None) -> None:
        """Bring the buffer back from a checkpoint's folder.

        Steps whose transition was not complete come back if there are as many environments as there were; of another
        number nothing is played on, and their transitions are completed as those of a time limit.

        Raises:
            CheckpointError: if a file is missing or damaged, or the tensors do not go together.
            ValueError: if the buffer is smaller than what was saved, or of other prompts.
        """
        arrays = {name: tensor.numpy() for name, tensor in read_tensors(folder / TENSORS).items()}
        state = read_json(folder / NUMBERS)
        size, shape = len(arrays["actions"]), arrays["observations"].shape[1:]
        if size > self.capacity or shape != self.observations.shape[1:]:
            raise ValueError(
                f"The checkpoint's replay buffer holds {size} transitions with observations of shape {shape}; this one "
                f"has room for {self.capacity} of shape {self.observations.shape[1:]}."
            )
        for name in _ARRAYS:
            own = getattr(self, name)
            if arrays[name].dtype != own.dtype or arrays[name].shape != (size, *own.shape[1:]):
                raise CheckpointError(
                    f"{folder / TENSORS} does not fit the agent: {name!r} is {arrays[name].dtype} of shape "
                    f"{arrays[name].shape}, not {own.dtype} of shape {(size, *own.shape[1:])}."
                )
            own[:size] = arrays[name]
        actions = self.actions[:size]
        if self.n_actions is not None and size and not 0 <= actions.min() <= actions.max() < self.n_actions:
            raise CheckpointError(f"{folder / TENSORS} holds actions that are not in Discrete({self.n_actions}).")
        # The place behind the last is the first one again, and behind demonstrations alone their number.
        if not 0 <= state["kept"] <= size or not state["kept"] <= state["position"] <= min(size, self.capacity - 1):
            raise CheckpointError(f"{folder / NUMBERS} is damaged: its places are not in the buffer of {size} steps.")
        self.size, self.kept, self.position = size, state["kept"], state["position"]
        self.highest_priority = state["highest_priority"]
        if self.priorities is not None:
            # What was saved without priorities begins as new transitions do.
            self.priorities[np.arange(size)] = arrays.get("priorities", self.highest_priority)
        streams = self._read_streams(folder, arrays, state["waiting"])
        if len(streams) == len(self._streams):
            self._streams = streams
        else:
            self._insert([transition for stream in streams for transition in stream.interrupt()])
        self._random.bit_generator.state = state["random"]

    def _read_streams(
        self, folder: Path, arrays: Mapping[str, npt.NDArray[Any]], waiting: Sequence[Sequence[Any]]
    ) -> list[NStepReturns]:
        """Return the steps whose transition was not complete, of each environment.

        Raises:
            CheckpointError: if the tensors are not of these steps.
        """
        shape, begun = self.observations.shape[1:], sum(bool(steps) for steps in waiting)
        for name, count in {"waiting": sum(map(len, waiting)), "newest": begun}.items():
            if arrays[name].dtype != self.observations.dtype or arrays[name].shape != (count, *shape):
                raise CheckpointError(f"{folder / TENSORS} does not fit the agent: {name!r} is not of its steps.")
        observations, newest = iter(arrays["waiting"]), iter(arrays["newest"])
        streams = []
        for steps in waiting:
            stream = NStepReturns(self.n_steps, self.gamma)
            stream.waiting = [(next(observations), int(action), float(reward)) for action, reward in steps]
            stream.newest = next(newest) if steps else None
            streams.append(stream)
        return streams
