"""Observations that nobody can read: a prompt that is too long, a text that cannot be tokenised, no words at all.

Whoever makes prompts of the words (`heed.policies.PromptVecEnv`) tells a vector of environments, with `read_with`, what
it can read. What it refuses is a fault of the environment like any other, and costs the episode: the step that came to
it is lost, or the reset, or, where an episode had ended there, its last step.

Where nothing at all can be read from the beginning, no environment is at fault but the configuration: that is an error
at once, the reader's own.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from heed.envs.faults import EPISODE_LOST, FaultError, LostEpisode, LostEpisodes, LostEpisodeWarning
from heed.envs.seeds import episode_seed
from heed.envs.vectorize.episode_numbers import group_of
from heed.envs.vectorize.stacking import Observations, observation_at

Reader = Callable[[Mapping[str, Any]], Mapping[int, Exception]]
"""Takes a batch of observations, and returns for each that cannot be read, by its place, why."""

FIRST_TRIED = 8
"""Episodes at least whose first observation nobody could read, before it is the configuration that is at fault."""


class LosesUnreadable:
    """Mixin for a vector of language environments: what its reader cannot read costs an episode."""

    num_envs: int
    first_index: int
    group_size: int
    _keys: Sequence[str]
    _seed: int
    _tells_fulfilled: bool
    _reader: Reader | None = None
    _was_readable = False
    """Whether anything ever was."""

    @property
    @abstractmethod
    def _losses(self) -> LostEpisodes:
        """The record of lost episodes."""

    @property
    @abstractmethod
    def episodes(self) -> list[int]:
        """The numbers of the running episodes."""

    @abstractmethod
    def lose_running(self, faults: Mapping[int, FaultError], *, pending: bool = False) -> Observations:
        """Lose the running episodes of some environments, and begin the next ones.

        Args:
            faults: what is wrong, by the environments' indices.
            pending: the next step is to tell of it.

        Returns:
            The observations of all environments.
        """

    def read_with(self, reader: Reader | None) -> None:
        """Have a reader look, from the next reset or step on, at what environments say; None for nobody."""
        self._reader = reader

    def _refused(self, observations: Mapping[str, Any]) -> dict[int, Exception]:
        """Return what is wrong with the observations that cannot be read, by their places."""
        assert self._reader is not None
        refused: dict[int, Exception] = dict(self._reader(observations))
        for key in ("instruction", "observation"):
            for place, text in enumerate(observations[key]):
                if not text or text.isspace():
                    refused[place] = ValueError(
                        f"an empty {key}. Say something, if only `nothing`: the agent reads it."
                    )
        return refused

    def _readable_beginning(self, observations: Observations, *, pending: bool = False) -> Observations:
        """Return first observations that can be read.

        Raises:
            Exception: what the reader has to say, where nothing could ever be read.
        """
        if self._reader is None:
            return observations
        refused = self._refused(observations)
        if len(refused) == self.num_envs and not self._was_readable:
            observations, refused = self._try_more(observations, refused)
        self._was_readable = True
        while refused:
            observations = self.lose_running(_as_faults(refused), pending=pending)
            refused = self._refused(observations)
        return observations

    def _try_more(
        self, observations: Observations, refused: dict[int, Exception]
    ) -> tuple[Observations, dict[int, Exception]]:
        """Look at more episodes, since so far nothing could be read; return the first batch of which something can."""
        tried = len(refused)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LostEpisodeWarning)
            while len(refused) == self.num_envs:
                if tried >= FIRST_TRIED:
                    raise next(iter(refused.values()))
                observations = self.lose_running(_as_faults(refused))
                tried += len(refused)
                refused = self._refused(observations)
        self._losses.warn()
        return observations, refused

    def _readable_step(
        self, before: Observations, episodes: Sequence[int], in_a_row: int, result: VecEnvStepReturn
    ) -> VecEnvStepReturn:
        """Return a step of which all can be read.

        Args:
            before: the observations before it.
            episodes: the numbers of the episodes that were stepped.
            in_a_row: episodes that were lost in a row before it.
            result: what it gave.
        """
        observations, rewards, dones, infos = result
        assert isinstance(observations, dict)
        ended = [index for index in np.flatnonzero(dones).tolist() if EPISODE_LOST not in infos[index]]
        last = self._refused_ends(infos, ended)
        if len(last) == len(ended) and last:
            self._losses.in_a_row = in_a_row  # none of them came to its end
        for index, fault in last.items():
            lost = self._record(fault, index, episodes[index], int(infos[index]["episode"]["l"]))
            self._losses.note(lost, fault)
            infos[index] = self._info_of(lost.reason, before, index, infos[index].get("episode_group"))
            rewards[index] = 0.0
        refused = self._refused(observations)
        while refused:
            faults = _as_faults(refused)
            for index, fault in faults.items():
                if not dones[index]:
                    group = self._group(index, episodes[index]) if self.group_size > 1 else None
                    reason = LostEpisode.of(fault, env=index, seed=0, step=0).reason
                    infos[index] = self._info_of(reason, before, index, group)
                    rewards[index], dones[index] = 0.0, True
            observations = self.lose_running(faults)
            refused = self._refused(observations)
        return observations, rewards, dones, infos

    def _refused_ends(self, infos: Sequence[dict[str, Any]], ended: Sequence[int]) -> dict[int, FaultError]:
        if not ended:
            return {}
        last = [infos[index]["terminal_observation"] for index in ended]
        refused = self._refused({key: [one[key] for one in last] for key in self._keys})
        return _as_faults({ended[place]: error for place, error in refused.items()})

    def _record(self, fault: FaultError, index: int, episode: int, step: int) -> LostEpisode:
        seed = episode_seed(self._seed, *self._group(index, episode))
        return LostEpisode.of(fault, env=self.first_index + index, seed=seed, step=step)

    def _group(self, index: int, episode: int) -> tuple[int, int]:
        return group_of(self.first_index + index, episode, self.group_size)

    def _info_of(self, reason: str, before: Observations, index: int, group: Any) -> dict[str, Any]:
        info: dict[str, Any] = {
            EPISODE_LOST: reason,
            "TimeLimit.truncated": True,
            "terminal_observation": observation_at(before, index),
        }
        if self._tells_fulfilled:
            info["fulfilled_instructions"] = {}
        return info if group is None else {**info, "episode_group": group}


def _as_faults(refused: Mapping[int, Exception]) -> dict[int, FaultError]:
    """Return errors of somebody's reader as faults, which any process can rebuild."""
    return {place: FaultError(f"nobody can read the observation: {error}") for place, error in sorted(refused.items())}
