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
from heed.envs.words.describe import describe


class Transcript:
    """The last observations and actions of one episode after another, as texts.

    Args:
        length: how many observations, the newest among them, a text holds at least, once there are so many; at most
            it holds twice as many.

    Raises:
        ValueError: if `length` is not positive.
    """

    def __init__(self, length: int):
        if length < 1:
            raise ValueError(f"A history's length must be at least 1, but is {length}.")
        self.length = length
        self.newest_observation = ""
        """What the agent perceives now: the end of the text."""
        self._past: list[str] = []  # each an observation and the action that followed, ready to be joined

    def begin(self, observation: str) -> str:
        """Return the text of an episode's first observation, with nothing before it."""
        self._past = []
        return self._text(observation)

    def add(self, action: str, observation: str) -> str:
        """Return the text after an action that led to an observation."""
        # A space stands before the observation, as in the prompts' templates: many tokenizers take a word at the
        # beginning of a line for another word.
        self._past.append(f"{self.newest_observation}\n> {action}: ")
        if len(self._past) == 2 * self.length:  # with the newest observation one too many
            self._past = self._past[self.length + 1 :]
        return self._text(observation)

    def _text(self, observation: str) -> str:
        self.newest_observation = observation
        return "".join([*self._past, observation])


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
        self._transcript = Transcript(length)
        require_language_env(env)
        super().__init__(env)
        self.length = length
        self._admissible: tuple[str, ...] = ()
        self._action_texts = action_texts_of(env) if isinstance(env.action_space, spaces.Discrete) else None
        self.observation_space = _space_of_transcripts(env.observation_space, length)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode, with nothing in its past."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._admissible = tuple(observation.get("actions", ()))
        return {**observation, "observation": self._transcript.begin(observation["observation"])}, info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act, and write the action and what follows below what was there."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        transcript = self._transcript.add(self._words_for(action), observation["observation"])
        self._admissible = tuple(observation.get("actions", ()))
        return {**observation, "observation": transcript}, reward, terminated, truncated, info

    @property
    def newest_observation(self) -> str:
        """What the agent perceives now: the end of the transcript."""
        return self._transcript.newest_observation

    def _words_for(self, action: Any) -> str:
        texts = self._admissible or self._action_texts
        # An action without a text is written on one line, as the automatic verbalizer writes numbers.
        return texts[int(action)] if texts else describe(self.action_space, action)


def _space_of_transcripts(space: spaces.Space[Any], length: int) -> spaces.Dict:
    """Return `space` with room for `2 * length` observations and the actions between them."""
    assert isinstance(space, spaces.Dict)  # the contract
    one = space.spaces["observation"]
    assert isinstance(one, spaces.Text)
    return spaces.Dict({**space.spaces, "observation": FreeText(2 * length * (one.max_length + MAX_TEXT_LENGTH))})
