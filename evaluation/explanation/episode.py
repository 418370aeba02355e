"""One episode, played step by step before the eyes of whoever wants to show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from PIL import Image

from heed.agents.agent import LanguageAgent
from heed.envs.contract import action_texts_of, as_action, success_of
from heed.envs.demonstrations.demonstrate import most_steps
from heed.envs.detached import Detached
from heed.envs.wrappers.history import History
from heed.evaluation.playing import sampled

PICTURE = 256
"""Side of the square that a picture fits into; MiniGrid draws at just this size."""


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """A step that is about to be taken."""

    number: int
    """From 1."""
    observation: dict[str, Any]
    """What the agent sees."""
    action_texts: tuple[str, ...] | None
    """Of the actions that there are to choose from now, if they have any."""
    probabilities: npt.NDArray[Any] | None
    """Of every one of them, (A,); None where actions have no list of probabilities."""
    action: Any
    """What the agent is going to do: of Discrete actions the number."""

    def describe(self, action: Any) -> str:
        """Return an action in words, or in numbers where it has no text."""
        if self.action_texts is not None:
            return self.action_texts[int(action)]
        if np.ndim(action) == 0 and np.issubdtype(np.asarray(action).dtype, np.integer):
            return f"action {int(action)}"
        return "action " + " ".join(f"{float(number):.2f}" for number in np.asarray(action).ravel())


class Play:
    """An episode with sampled actions. To go through it is to play it; afterwards it says how it ended.

    With `generator = heed.envs.demonstrations.demonstrate.action_generator(seed)` it is the episode that the
    evaluation plays for that seed with sampled actions.

    Args:
        agent: chooses the actions.
        env: a language environment.
        seed: of the episode.
        generator: draws the actions.
        max_episode_steps: an episode that has not ended after so many is given up, and has failed; None as in
            `heed.envs.demonstrations.demonstrate.most_steps`.
    """

    def __init__(
        self,
        agent: LanguageAgent,
        env: gymnasium.Env[Any, Any],
        *,
        seed: int,
        generator: np.random.Generator,
        max_episode_steps: int | None = None,
    ):
        self.env = Detached(env)
        self._most_steps = most_steps(env, max_episode_steps)
        self.finished = False
        """Whether it came to its end."""
        self._action_texts = action_texts_of(env)
        self.observation, info = self.env.reset(seed=seed)
        """What the agent sees now."""
        self.instruction: str = self.observation["instruction"]
        """As the agent is told it at the beginning."""
        self.true_instruction: str = info.get("instruction", self.instruction)
        """The one by which success is judged, where the environment tells that it is another."""
        self.rewards: list[float] = []
        self.success = False
        self.shown_success: bool | None = None
        """Whether the instruction that was shown was fulfilled, where the environment tells."""
        self._agent = agent
        self._choose = sampled(agent)
        self._generator = generator

    @property
    def steps(self) -> int:
        """Steps that were taken."""
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """The sum of the rewards."""
        return sum(self.rewards)

    def __iter__(self) -> Iterator[NextStep]:
        while not self.finished and self.steps < self._most_steps:
            words = {key: [value] for key, value in self.observation.items()}
            texts = self.observation.get("actions", self._action_texts)
            discrete = isinstance(self._agent.action_space, spaces.Discrete)
            # The language model is not asked twice: it remembers what it has just read.
            probabilities = self._agent.action_probabilities(words)[0] if discrete else None
            if probabilities is not None and texts is not None:
                probabilities = probabilities[: len(texts)]
            action = self._choose(words, [self._generator])[0]
            action = as_action(self.env.action_space, action)
            yield NextStep(
                number=self.steps + 1,
                observation=self.observation,
                action_texts=texts,
                probabilities=probabilities,
                action=action,
            )
            self.observation, reward, terminated, truncated, info = self.env.step(action)
            self.rewards.append(float(reward))
            self.finished = bool(terminated or truncated)
        self.success = self.finished and success_of(self.env, info)
        self.shown_success = info.get("shown_success")

    @property
    def verdict(self) -> str:
        """How it ended, in a word."""
        return verdict(success=self.success, finished=self.finished)


def verdict(*, success: bool, finished: bool) -> str:
    """Return in a word how an episode ended, if it did."""
    if not finished:
        return "Unfinished"
    return "Success" if success else "Failure"


def picture_of(env: gymnasium.Env[Any, Any]) -> Image.Image | None:
    """Return what the environment draws, its longer side `PICTURE` pixels, or None where it draws nothing."""
    if env.render_mode != "rgb_array":
        return None
    pixels = env.render()
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] != 3:
        return None
    picture = Image.fromarray(pixels.astype(np.uint8))
    scale = PICTURE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)


def newest_words(env: gymnasium.Env[Any, Any], observation: dict[str, Any]) -> str:
    """Return what the agent perceives now: of a history its end."""
    words: str = env.newest_observation if isinstance(env, History) else observation["observation"]
    return words
