"""A wrapper that says each episode's instruction in other words: what `heed train --augment` puts around environments.

An episode's seed draws one kind of wording, or none, and with it how everything is said in that episode: the
instruction, one that takes its place midway, and what the environment tells of others. So hindsight relabels an episode
in the episode's own wording, episodes of a group are worded alike, and a resumed training goes on exactly.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from heed.envs.contract import method_of, require_language_env
from heed.envs.hold_out import TELLING_METHODS
from heed.envs.wording.kinds import INJECTED, WORDINGS, Renamed, Wording, data
from heed.envs.wording.words import VOCABULARY, drawn, replacer
from heed.envs.wrappers.shown import generator_of

PLAIN = 0.25
"""Share of episodes that keep their own words."""
INJECTED_SHARE = 0.25
"""Share of episodes with a text that poses as an instruction, where these train too."""
IN_INSTRUCTION = 0.25
"""Of those, the share that has it in the instruction; the others have it in every observation."""

PURPOSE = "augment"
"""Sets these draws apart from others of the same seed."""


class EpisodeWording:
    """How one episode says things.

    Args:
        seed: of the episode.
        names: kinds of `heed.envs.wording.kinds.WORDINGS` of which it draws one.
        instruction: its own; kinds that cannot say this one are not drawn.
        seen: what it shows first: no typo comes to a word of that.
    """

    def __init__(self, seed: int, names: Sequence[str], instruction: str, seen: str = ""):
        self.generator = generator_of(seed, PURPOSE)
        self._key = int(self.generator.integers(2**63))
        self._valid: Collection[str] = VOCABULARY
        self.name = ""
        """The kind; empty for an episode in its own words."""
        self.rename: Callable[[str], str] | None = None
        """Renames words in whatever the agent reads, in an episode that does."""
        self._wording: Wording | None = None
        options = [name for name in names if WORDINGS[name].applies(instruction)]
        if not options or self.generator.random() < PLAIN:
            return
        self.name = drawn(options, self.generator)
        self._wording = WORDINGS[self.name]
        if isinstance(self._wording, Renamed):
            self.rename = replacer(self._wording.names(self.generator))
        elif self.name == "typos":
            self._valid = VOCABULARY.union(re.findall(r"\w+", f"{instruction} {seen}".lower()))

    def say(self, instruction: str) -> str:
        """Return an instruction as this episode says it: the same whenever it is asked."""
        if self._wording is None or not self._wording.applies(instruction):
            return instruction
        if self.rename is not None:
            return self.rename(instruction)
        generator = np.random.default_rng((self._key, zlib.crc32(instruction.encode())))
        return self._wording.say(instruction, generator, self._valid)


class Augmented(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Says instructions in other words, by the episode's seed.

    On the first and last step of an episode `info["wording"]` is the kind that was drawn (empty for none),
    `info["instruction"]` the environment's own instruction and `info["shown"]` how it was said. Success, rewards, ends,
    actions and the expert stay the environment's.

    Args:
        env: a language environment.
        names: of `heed.envs.wording.kinds.WORDINGS`, and "injected" for texts that pose as instructions.

    Raises:
        ContractError: if `env` breaks the static part of the language contract.
        ValueError: if there is no such kind.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], names: Iterable[str]):
        require_language_env(env)
        super().__init__(env)
        asked = tuple(names)
        for name in asked:
            if name not in (*WORDINGS, INJECTED):
                raise ValueError(f"There is no wording {name!r}: there are {', '.join((*WORDINGS, INJECTED))}.")
        self._names = tuple(name for name in WORDINGS if name in asked)
        self._injects = INJECTED in asked
        self._possible: Callable[[], Sequence[str]] | None = method_of(env, "possible_instructions")
        self._seeds = np.random.default_rng()
        self._wording = EpisodeWording(0, (), "")
        self._in_instruction = self._in_observation = self._other = ""
        self._own = self._shown = ""
        for name in TELLING_METHODS:
            tell = method_of(env, name)
            if tell is not None:
                setattr(self, name, functools.partial(self._tell, tell))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode, and draw how it says things."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is None:
            seed = int(self._seeds.integers(2**32))
        self._own = observation["instruction"]
        self._wording = EpisodeWording(seed, self._names, self._own, observation["observation"])
        self._in_instruction = self._in_observation = self._other = ""
        if self._injects and self._wording.generator.random() < INJECTED_SHARE:
            self._inject(self._wording.generator)
        self._shown = self.say(self._own)
        return self._see(observation), {**info, **self._told}

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Act, and go on saying it so."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if observation["instruction"] != self._own:
            self._own = observation["instruction"]
            self._shown = self.say(self._own)
        if terminated or truncated:
            info = {**info, **self._told}
        return self._see(observation), reward, terminated, truncated, info

    def say(self, instruction: str) -> str:
        """Return an instruction as the running episode says it."""
        words = self._wording.say(instruction)
        if not self._in_instruction or not instruction or instruction == self._other:
            return words
        return self._in_instruction.format(instruction=words, other=self._renamed(self._other))

    @property
    def _told(self) -> dict[str, str]:
        return {"wording": self._wording.name, "instruction": self._own, "shown": self._shown}

    def _inject(self, generator: np.random.Generator) -> None:
        """Draw a text that poses as an instruction: another that could be done here, or an order of the file."""
        # What is a part of the true one ("..., then ...") would be right to do.
        listed = [words for words in self._possible() if words not in self._own] if self._possible is not None else []
        texts = data("injected")
        self._other = drawn(listed or texts["orders"], generator)
        if generator.random() < IN_INSTRUCTION:
            self._in_instruction = drawn(texts["instruction"], generator)
        else:
            self._in_observation = drawn(texts["observation"], generator).format(other=self._renamed(self._other))

    def _renamed(self, text: str) -> str:
        return text if self._wording.rename is None else self._wording.rename(text)

    def _see(self, observation: dict[str, Any]) -> dict[str, Any]:
        seen = {**observation, "instruction": self._shown}
        if self._wording.rename is not None:
            seen["observation"] = self._wording.rename(seen["observation"])
            if "actions" in seen:
                seen["actions"] = tuple(map(self._wording.rename, seen["actions"]))
        if self._in_observation:
            # Before it: the end of a long one may be cut from the prompt.
            seen["observation"] = f"{self._in_observation}; {seen['observation']}"
        return seen

    def _tell(self, tell: Callable[[], Any]) -> Any:
        """Return what the environment tells of instructions, as this episode says them."""
        told = tell()
        if isinstance(told, Mapping):
            return {self.say(words): reward for words, reward in told.items()}
        return tuple(map(self.say, told))
