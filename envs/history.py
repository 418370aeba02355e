"""What the agent has seen and done, written before what it sees now: a memory for levels that show only a part.

The observation becomes a transcript, a line for each step, with the action and what the agent saw then:

    wall 3 ahead; red ball 1 left 2 ahead
    > turn left: wall 1 ahead; red ball 1 right 2 ahead
    > go forward: wall 1 right

The transcript of a step begins with that of the step before, so that what a language model has computed for the one
serves the other. A window that moved on with each step would change the beginning each time; so the transcript
grows to twice the history's length and is then cut back to it, and its beginning changes once in `length` + 1 steps.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs.contract import MAX_TEXT_LENGTH, FreeText, action_texts_of, require_language_env
from heed.envs.verbalize import describe


class History(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows the agent the last observations and actions of the episode before the current observation.

    The instruction and all other keys stay as they are. What the agent reads follows from the episode's seed and
    actions alone, as it does without a history.

    Args:
        env: a language environment.
        length: how many observations, the current one among them, are shown at least, once there are so many; at
            most there are twice as many.

    Raises:
        ValueError: if `length` is not positive.
        ContractError: if `env` breaks the static part of the language contract.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, length: int):
        if length < 1:
            raise ValueError(f"A history's length must be at least 1, but is {length}.")
        require_language_env(env)
        super().__init__(env)
        self.length = length
        self.newest_observation = ""
        """What the agent perceives now: the end of the transcript."""
        self._past: list[str] = []  # each an observation and the action that followed, ready to be joined
        self._action_texts = action_texts_of(env) if isinstance(env.action_space, spaces.Discrete) else None
        self.observation_space = _space_of_transcripts(env.observation_space, length)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode, with nothing in its past."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._past = []
        return self._transcript(observation), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act, and write the action and what follows below what was there."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        # A space stands before the observation, as in the prompts' templates: many tokenizers take a word at the
        # beginning of a line for another word.
        self._past.append(f"{self.newest_observation}\n> {self._words_for(action)}: ")
        if len(self._past) == 2 * self.length:  # with the newest observation one too many
            self._past = self._past[self.length + 1 :]
        return self._transcript(observation), reward, terminated, truncated, info

    def _transcript(self, observation: dict[str, Any]) -> dict[str, Any]:
        self.newest_observation = observation["observation"]
        return {**observation, "observation": "".join([*self._past, self.newest_observation])}

    def _words_for(self, action: Any) -> str:
        # An action without a text is written on one line, as the automatic verbalizer writes numbers.
        return self._action_texts[int(action)] if self._action_texts else describe(self.action_space, action)


def _space_of_transcripts(space: spaces.Space[Any], length: int) -> spaces.Dict:
    """Return `space` with room for `2 * length` observations and the actions between them."""
    assert isinstance(space, spaces.Dict)  # the contract
    one = space.spaces["observation"]
    assert isinstance(one, spaces.Text)
    return spaces.Dict({**space.spaces, "observation": FreeText(2 * length * (one.max_length + MAX_TEXT_LENGTH))})
