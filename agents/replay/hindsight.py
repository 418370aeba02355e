"""Hindsight instruction replay: an episode that reached something else, as if that had been its instruction.

After hindsight experience replay (Andrychowicz et al. 2017, arXiv 1707.01495), with instructions for goals as in ACTRCE
(Chan et al. 2019, arXiv 1902.04546) and HIGhER (Cideron et al. 2020, arXiv 1910.09451). The environment tells what each
step fulfilled (`fulfilled_instructions` in `heed.envs.contract`); no teacher or learned model has to guess it.

An episode is kept as it was played. For an instruction that it fulfilled at step t, another one is stored beside it:
the same observations and actions up to step t under that instruction, ended there with the reward that the environment
says the step would have brought. What the papers do and this does not:

- they relabel when they draw; here it is done once, when the episode ends, so that n-step transitions and priorities
  are those of any other episode;
- so goals are not drawn for each transition anew ("future"): what was fulfilled is the instruction of all that came
  before;
- rewards are the environment's own (`environment_reward`): bonuses for what is new, and whatever else a wrapper adds to
  a reward, belong to the instruction and the moment in which they were paid;
- no negative example is made ("go to the ball" unfulfilled by what was not the ball): the episodes as played are those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heed.agents.parts import Part
from heed.agents.persistence.checkpoint import read_json, write_json
from heed.agents.replay.buffer import ReplayBuffer
from heed.policies.prompts.prompt import PromptEncoder

HINDSIGHT = "hindsight.json"
"""The file of a checkpoint that holds the running episodes, as hindsight has seen them."""

ENVIRONMENT_REWARD = "environment_reward"
"""The key of an `info` that holds the environment's own reward, as `heed.envs` writes it beside what was fulfilled."""


@dataclass(frozen=True)
class RelabelledEpisode:
    """An episode of T steps that succeeds at its last one."""

    instruction: str
    prompts: npt.NDArray[np.integer[Any]]
    """(T + 1, L). The last one stands for what nobody sees, since the episode is over."""
    actions: list[int]
    rewards: list[float]


@dataclass
class _RunningEpisode:
    """What an environment has shown since its reset."""

    instruction: str = ""
    observations: list[str] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    auxiliary: list[list[int]] = field(default_factory=list)
    """The auxiliary observations in each prompt's row."""
    fulfilled: dict[str, tuple[int, float]] = field(default_factory=dict)
    """When each instruction was fulfilled first, as a number of steps, and with which reward."""


class HindsightReplay:
    """Watches the episodes of vectorised environments and relabels those that end.

    Args:
        n_envs: how many environments.
        encoder: makes the prompts, as it made those that the agent saw.
        per_episode: instructions at most that an episode is relabelled with; drawn from those that it fulfilled.
        seed: of that draw.
    """

    def __init__(self, n_envs: int, encoder: PromptEncoder, *, per_episode: int, seed: int | None = None):
        self.n_envs = n_envs
        self.encoder = encoder
        self.per_episode = per_episode
        self._episodes = [_RunningEpisode() for _ in range(n_envs)]
        self._random = np.random.default_rng(seed)

    def step(
        self,
        words: Mapping[str, npt.NDArray[Any]],
        prompts: npt.NDArray[np.integer[Any]],
        actions: npt.NDArray[Any],
        rewards: npt.NDArray[Any],
        dones: npt.NDArray[Any],
        infos: Sequence[Mapping[str, Any]],
    ) -> Iterator[RelabelledEpisode]:
        """Take one step of every environment, and yield the ended episodes in hindsight.

        Args:
            words: `instruction` and `observation` before the step, each (n_envs,).
            prompts: what the agent read before the step, (n_envs, L).
            actions: (n_envs,).
            rewards: the environments' own, (n_envs,).
            dones: (n_envs,).
            infos: each with `fulfilled_instructions`.
        """
        for index, episode in enumerate(self._episodes):
            episode.instruction = str(words["instruction"][index])
            episode.observations.append(str(words["observation"][index]))
            episode.auxiliary.append(self.encoder.layout.auxiliary_of(prompts[index]).tolist())
            episode.actions.append(int(actions[index]))
            episode.rewards.append(float(rewards[index]))
            for instruction, reward in infos[index]["fulfilled_instructions"].items():
                episode.fulfilled.setdefault(instruction, (len(episode.actions), float(reward)))
            if dones[index]:
                yield from self._relabel(episode)
                self._episodes[index] = _RunningEpisode()

    def interrupt(self) -> Iterator[RelabelledEpisode]:
        """End the running episodes, which are not played on, and yield them in hindsight."""
        running, self._episodes = self._episodes, [_RunningEpisode() for _ in range(self.n_envs)]
        for episode in running:
            yield from self._relabel(episode)

    def _relabel(self, episode: _RunningEpisode) -> Iterator[RelabelledEpisode]:
        others = [instruction for instruction in episode.fulfilled if instruction != episode.instruction]
        if len(others) > self.per_episode:
            others = [others[index] for index in sorted(self._random.choice(len(others), self.per_episode, False))]
        for instruction in others:
            steps, reward = episode.fulfilled[instruction]
            words = {"instruction": [instruction] * steps, "observation": episode.observations[:steps]}
            if self.encoder.refused(words):
                continue  # an instruction that is too long, say, and was nobody's
            auxiliary = np.array(episode.auxiliary[:steps], dtype=self.encoder.integer).reshape(steps, -1)
            prompts = np.concatenate(
                [self.encoder.encode_words(words, self.encoder.room_with(auxiliary)), auxiliary], axis=1
            )
            yield RelabelledEpisode(
                instruction,
                np.concatenate([prompts, prompts[-1:]]),
                episode.actions[:steps],
                [*episode.rewards[: steps - 1], reward],
            )

    def get_state(self) -> dict[str, Any]:
        """Return what `set_state` needs, as JSON."""
        episodes = [
            {**vars(episode), "fulfilled": [[words, *when] for words, when in episode.fulfilled.items()]}
            for episode in self._episodes
        ]
        return {"episodes": episodes, "random": self._random.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `get_state`; of another number of environments there must be an `interrupt` first."""
        self._random.bit_generator.state = state["random"]
        self._episodes = [
            _RunningEpisode(**{**saved, "fulfilled": {words: (when, r) for words, when, r in saved["fulfilled"]}})
            for saved in state["episodes"]
        ]


class Hindsight(Part):
    """Stores episodes a second time in a replay buffer, with the instructions that they did fulfil.

    Args:
        replay: watches the episodes.
        buffer: where those in hindsight go.
    """

    def __init__(self, replay: HindsightReplay, buffer: ReplayBuffer):
        self._replay = replay
        self._buffer = buffer
        self._words: Mapping[str, npt.NDArray[Any]] = {}

    def uses(self, env: Any) -> None:
        """Have other environments tell what each step fulfils."""
        have_told(env)

    def shown(self, words: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take notice of what the environments show before a step: `instruction` and `observation`, each (n_envs,)."""
        self._words = words

    def stepped(
        self,
        prompts: npt.NDArray[np.integer[Any]],
        actions: npt.NDArray[Any],
        rewards: npt.NDArray[Any],
        dones: npt.NDArray[Any],
        infos: Sequence[Mapping[str, Any]],
    ) -> None:
        """Take one step of every environment, with the prompts before it and the rewards that the agent is given."""
        own = [info.get(ENVIRONMENT_REWARD, seen) for info, seen in zip(infos, rewards, strict=True)]
        self._add(self._replay.step(self._words, prompts, actions, np.array(own), dones, infos))

    def interrupted(self) -> None:
        """Store the running episodes in hindsight."""
        self._add(self._replay.interrupt())

    def _add(self, episodes: Iterable[RelabelledEpisode]) -> None:
        for episode in episodes:
            self._buffer.add_episode(episode.prompts, episode.actions, episode.rewards, terminated=True)

    def write(self, folder: Path) -> None:
        """Write the running episodes, and the state of the draw."""
        write_json(folder / HINDSIGHT, self._replay.get_state())

    def read(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put them back, if the training that was saved had any."""
        if (folder / HINDSIGHT).is_file():
            self._replay.set_state(read_json(folder / HINDSIGHT))


def have_told(env: Any) -> None:
    """Have environments tell what each step fulfils.

    Raises:
        ValueError: if they cannot.
    """
    if not hasattr(env, "words") or not hasattr(env.unwrapped, "tell_fulfilled_instructions"):
        raise ValueError("Hindsight replay needs environments that tell what was fulfilled, from heed.envs.make.")
    env.unwrapped.tell_fulfilled_instructions()
