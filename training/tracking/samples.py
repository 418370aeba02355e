"""Sample episodes: every so many steps the agent plays one to be looked at, and its training notices nothing of it."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
from stable_baselines3.common.callbacks import BaseCallback

from heed.agents.agent import LanguageAgent
from heed.agents.persistence.random_state import get_random_state, set_random_state
from heed.envs.demonstrations.demonstrate import action_generator
from heed.envs.make import make_env
from heed.envs.watchdog import Watchdog
from heed.evaluation.explanation.recording import make_recordable_env, record_episode
from heed.evaluation.playing import held_out_seeds
from heed.policies.networks.prompt_network import PromptNetwork
from heed.training.options import TrainConfig
from heed.training.tracking.tracking import SampleEpisode, Tracking
from heed.training.wrappers import augmentations_for, wrappers_of_agent

MAX_STEPS = 200
"""Longer episodes are given up there, as unfinished: one is to cost little."""

MAX_SECONDS = 60.0
"""After so long an episode is given up, and no other is played."""

SEED = 1
"""Of the sample episodes, which are others than those of the training, and than those of an evaluation with seed 0."""

logger = logging.getLogger(__name__)


class TrackTraining(BaseCallback):
    """Tells the trackers when the training begins, and has the agent play a sample episode every so many steps.

    An episode is played between two rollouts, once the training has come past another multiple of `sample_every`. Which
    one it is depends on the steps alone, so a resumed training shows the same ones.

    Args:
        tracking: where the episodes go.
        config: of the training; with `sample_every=0` no episode is played.
    """

    def __init__(self, tracking: Tracking, config: TrainConfig):
        super().__init__()
        self._tracking = tracking
        self._config = config
        self._every = config.sample_every
        self._played = 0
        """How many multiples of `every` the training has come past."""

    def _on_training_start(self) -> None:
        self._tracking.begin(self.num_timesteps)
        self._played = self._due()

    def _on_rollout_start(self) -> None:
        due = self._due()
        if due > self._played:
            self._played = due
            self._play(due)

    def _on_step(self) -> bool:
        return True

    def _due(self) -> int:
        return self.num_timesteps // self._every if self._every else 0

    def _play(self, number: int) -> None:
        """Play the sample episode with that number; one that fails costs itself and those after it, and no more."""
        assert isinstance(self.model, LanguageAgent)
        seed = held_out_seeds(SEED, number)[-1]
        try:
            with unnoticed(self.model), Watchdog() as watchdog:
                episode = watchdog.call("A sample episode", MAX_SECONDS, play_sample, self.model, self._config, seed)
        except Exception as error:  # whatever a stranger's environment raises: the training goes on without it
            self._every = 0
            logger.warning("No more sample episodes: %s: %s", type(error).__name__, error)
            return
        self._tracking.write_episode(episode, self.num_timesteps)


@contextlib.contextmanager
def unnoticed(agent: LanguageAgent) -> Iterator[None]:
    """Within this, play with an agent that trains: its random states, and what it remembers, come out as they were."""
    numbers, tensors = get_random_state(agent.action_space)
    with contextlib.ExitStack() as stack:
        for policy in agent._policies():
            for module in policy.modules():
                if isinstance(module, PromptNetwork):
                    stack.enter_context(module.reading_anew())
        try:
            yield
        finally:
            set_random_state(agent.action_space, numbers, tensors)


def play_sample(agent: LanguageAgent, config: TrainConfig, seed: int) -> SampleEpisode:
    """Play one episode with sampled actions, in an environment of its own.

    Args:
        agent: plays.
        config: says which environment; wrappers that only a training has are left out, as in an evaluation.
        seed: of the episode.

    Raises:
        Exception: whatever the environment raises.
    """
    make: Callable[..., gymnasium.Env[Any, Any]] = functools.partial(
        make_env,
        max_steps=config.max_steps,
        hold_out=config.hold_out,
        wrappers=wrappers_of_agent(augmentations_for(config.augment, config.env, **config.env_arguments)),
        **config.env_arguments,
    )
    env = make_recordable_env(config.env, history=config.history, make=make)
    try:
        generator = action_generator(seed)
        recording = record_episode(agent, env, seed=seed, generator=generator, max_episode_steps=MAX_STEPS)
    finally:
        env.close()
    return SampleEpisode(
        gif=recording.gif,
        text=recording.transcript,
        caption=recording.caption,
        metrics={
            "episode_return": recording.episode_return,
            "length": float(recording.steps),
            "success": float(recording.success),
        },
    )
