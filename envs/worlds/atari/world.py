"""Atari games in words (`ALE/Pong-v5` and the others of ale-py, which brings the games along).

Bellemare et al. 2013 (arXiv 1207.4708); sticky actions and frame skip as the `v5` ids have them (Machado et al. 2018,
arXiv 1709.06009). The observation has the screen, made 84 x 84 pixels small, under `image`; the words know only lives
and score. Made with `obs_type="ram"`, an environment has the console's memory under `numbers` in place of the screen.

A single screen does not show which way things move. Success is a score above zero, which is what the instruction says;
what a game is played for is told by the return.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from PIL import Image

from heed.envs.words.verbalize import EpisodeReturn, Verbalizer
from heed.envs.worlds.atari.words import action_in_words, game_of, instruction_for
from heed.envs.worlds.extra import load

gymnasium.register_envs(load("ale_py"))

SIZE = 84
"""Pixels of a side of the picture; the screen has 160 x 210."""


class AtariVerbalizer(Verbalizer):
    """Lives and score in words, and the screen or the memory beside them.

    Raises:
        TypeError: if the environment shows neither a screen nor the memory alone.
    """

    reads_through = ("AtariPreprocessing", "GrayscaleObservation", "MaxAndSkipObservation", "ResizeObservation")

    @classmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        """Say whether a space holds a screen, in colour or in shades of grey, or the memory."""
        if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
            return False
        return len(space.shape) in (1, 2) or (len(space.shape) == 3 and space.shape[2] == 3)

    def __init__(self, env: gymnasium.Env[Any, Any]):
        space = env.observation_space
        if not isinstance(space, spaces.Box):
            raise TypeError(f"This verbalizer needs a screen or the memory as the observation, not {space}.")
        self._episode = EpisodeReturn(env)
        super().__init__(self._episode)
        self._console: Any = env.unwrapped
        self._memory = len(space.shape) == 1
        self._game = game_of(env.spec.id) if env.spec is not None else ""

    def instruction(self, observation: Any) -> str:
        """Return which game is played, and what counts in it."""
        return instruction_for(self._game)

    def observation(self, observation: Any) -> str:
        """Return lives and score."""
        lives = int(self._console.ale.lives())
        score = f"score {self._episode.value:g}"
        return f"lives {lives}; {score}" if lives else score  # some games know no lives

    def action_texts(self) -> tuple[str, ...] | None:
        """Return what the joystick does; None where actions are continuous."""
        if not isinstance(self.env.action_space, spaces.Discrete):
            return None
        return tuple(action_in_words(meaning) for meaning in self._console.get_action_meanings())

    def spaces(self) -> dict[str, spaces.Space[Any]]:
        """Return the space of the picture, or of the memory."""
        if self._memory:
            return {"numbers": spaces.Box(0.0, 255.0, self.env.observation_space.shape, np.float32)}
        return {"image": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)}

    def auxiliary(self, observation: Any) -> dict[str, Any]:
        """Return the small picture, or the memory."""
        if self._memory:
            return {"numbers": np.asarray(observation, np.float32)}
        return {"image": small(observation)}

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the score is above zero."""
        return self._episode.value > 0


def small(screen: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a screen, in colour or in shades of grey, as a picture of 84 x 84 pixels in colour, shape (84, 84, 3)."""
    picture = Image.fromarray(screen).convert("RGB")
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX))
