"""From words to token ids: the one place where strings end.

`PromptEncoder` writes a language observation into a template and tokenises it. `PromptVecEnv` puts an encoder
around a vectorised language environment, so that SB3's algorithms and buffers see token ids: one row per
observation, right-padded with -1, in the smallest integer type that holds the vocabulary; and behind the tokens the
auxiliary observations (`heed.policies.prompts.layout`). The observation space that they see, `PromptSpace`, carries the
encoder, so a policy knows how its prompts were made.

Shapes in `heed.policies`: B prompts, L prompt tokens, A actions, T tokens of an action, K trie nodes, D hidden.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from transformers import PreTrainedTokenizerBase

from heed.policies.finite import REWARD_REMEDY, require_finite_array
from heed.policies.heads.action_head import environment_action
from heed.policies.modalities.modality import WORDS, Modality
from heed.policies.models.positions import ActionRoom
from heed.policies.prompts.action_texts import ActionTexts
from heed.policies.prompts.layout import PADDING, PromptLayout
from heed.policies.prompts.template import Chat, FilledTemplate, PromptTemplate, Template, shortened
from heed.policies.prompts.text_tokens import TextTokens

TEMPLATE = PromptTemplate("Instruction: {instruction}\nObservation: {observation}\nAction:")
"""The prompt for a pretrained language model; the action's words follow after a space."""

REMEMBERED_TOKENS = 10_000_000
"""Tokens of prompts that an encoder keeps to hand out again; a level shows the same words many times."""


class PromptEncoder:
    """Turns language observations into prompts (rows of token ids).

    Args:
        tokenizer: of the language model.
        template: a text with `{instruction}` and `{observation}`, or of another kind.
        max_tokens: how many a row holds. A longer prompt loses the end of its observation, with a warning.
        closed: keep the end token that the tokenizer closes a text with. The token that it begins a text with stands
            once, also where the template writes it.
        modalities: what else of an observation is read.
        action_room: of a model with so many positions and no more, where actions change: tells how long a prompt may
            be for its actions to have room behind it.

    Raises:
        TemplateError: if the template cannot be used.
        ValueError: if it alone fills a prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: Template = TEMPLATE,
        max_tokens: int = 256,
        closed: bool = False,
        modalities: tuple[Modality, ...] = (),
        action_room: ActionRoom | None = None,
    ):
        self.tokenizer = tokenizer
        self.action_room = action_room
        self.template = template.template(tokenizer) if isinstance(template, Chat) else PromptTemplate.of(template)
        self.texts = TextTokens(tokenizer, self.template)
        """Turns texts into tokens, of which none is special but those that the template writes."""
        self._begin, self._end = tokens_around(tokenizer)
        self.max_tokens = max_tokens
        self.closed = closed
        self.layout = PromptLayout(max_tokens, modalities)
        written = self.tokens(self._fill_in(("", "")))
        self.largest_id = max(self.texts.largest_id(), *written, *self._begin, *(self._end if closed else ()), 0)
        """The largest token id that a prompt may hold."""
        if len(written) >= max_tokens:
            raise ValueError(
                f"The prompt template {shortened(self.template.text)} alone fills {max_tokens} tokens: raise "
                "max_prompt_tokens."
            )
        fits = max(len(tokenizer), self.largest_id) <= np.iinfo(np.int16).max and not modalities
        self.integer: type[np.signedinteger[Any]] = np.int16 if fits else np.int32
        self._remembered: dict[tuple[str, str] | tuple[str, str, int], npt.NDArray[np.integer[Any]]] = {}
        self._remembered_tokens = 0
        self._warned = False

    @property
    def space(self) -> PromptSpace:
        """The observation space of the prompts that this encoder makes."""
        return PromptSpace(self)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of an observation that a prompt is made of."""
        return (*WORDS, *self.layout.keys)

    @property
    def action_texts(self) -> ActionTexts:
        """Those of prompts whose actions change, by number."""
        return self.layout.action_texts

    def __call__(self, observations: Mapping[str, Any]) -> npt.NDArray[np.integer[Any]]:
        """Encode a batch of language observations.

        Args:
            observations: of the keys `instruction` and `observation` B strings each, and of each modality's key B of
                what it reads: `actions`, B tuples of strings; `numbers`, (B, N); `image`, (B, H, W, C).

        Returns:
            Rows of the encoder's `layout`, (B, width): token ids, padded with -1 on the right, and the rest.

        Raises:
            ValueError: if a key is missing, what it holds is not what the layout has room for, or an action or an
                instruction is longer than the model reads.
        """
        return self.layout.pack(
            self.encode_words(observations, self.room_before(self._listed(observations))), observations
        )

    def _listed(self, observations: Mapping[str, Any]) -> Sequence[Sequence[str]]:
        """Return the texts of the actions that each observation lists; none where there always are the same."""
        choosing = self.layout.choosing
        return () if choosing is None else observations.get(choosing.key, ())

    def room_before(self, actions: Sequence[Sequence[str]]) -> list[int] | None:
        """Return how many tokens prompts may have that lists of actions stand behind; None where there is room for any.

        Raises:
            ValueError: if an action is so long that there is none.
        """
        return None if self.action_room is None else [self.action_room.of(texts) for texts in actions] or None

    def room_with(self, auxiliary: npt.NDArray[np.integer[Any]]) -> list[int] | None:
        """Return the same for what stands behind the tokens in rows of the layout, where actions have numbers."""
        texts, listed = self.action_texts.texts, self.layout.listed_in(auxiliary)
        return self.room_before([[texts[number] for number in row if number >= 0] for row in listed])

    def refused(self, observations: Mapping[str, Any]) -> dict[int, Exception]:
        """Return which observations of a batch no prompt can be made of, by their places, and why.

        What can be read is remembered, so to encode it afterwards takes no longer than without this.

        Args:
            observations: as of a call.
        """
        try:
            self._require_readable(observations)
        except Exception:  # a tokenizer's own errors are of many kinds
            return self._refused_alone(observations)
        return {}

    def _require_readable(self, observations: Mapping[str, Any]) -> None:
        listed = self._listed(observations)
        self._tokens_of_pairs(observations["instruction"], observations["observation"], self.room_before(listed))
        for texts in listed:
            self.action_texts.require(texts, self.require_action)

    def _refused_alone(self, observations: Mapping[str, Any]) -> dict[int, Exception]:
        refused: dict[int, Exception] = {}
        for place in range(len(observations["instruction"])):
            try:
                self._require_readable({key: [observations[key][place]] for key in self.keys if key in observations})
            except Exception as error:  # as above
                refused[place] = error
        return refused

    def require_action(self, text: str) -> None:
        """Refuse an action text without tokens.

        Raises:
            ValueError: saying which.
        """
        if not self.texts.of(f"{self.template.before_action}{text}"):
            raise ValueError(f"The action text {text!r} has no tokens: the tokenizer drops all of its characters.")

    def encode_words(
        self, observations: Mapping[str, Any], room: Sequence[int] | None = None
    ) -> npt.NDArray[np.integer[Any]]:
        """Encode the words of a batch of language observations alone: token ids, (B, max_tokens).

        Args:
            observations: of the keys `instruction` and `observation` B strings each.
            room: how many tokens each prompt may have for its actions to have room behind it; None for all.
        """
        tokens = self._tokens_of_pairs(observations["instruction"], observations["observation"], room)
        prompts = np.full((len(tokens), self.max_tokens), PADDING, dtype=self.integer)
        for row, tokens_of_pair in zip(prompts, tokens, strict=True):
            row[: len(tokens_of_pair)] = tokens_of_pair
        return prompts

    def _tokens_of_pairs(
        self, instructions: Sequence[str], observations: Sequence[str], room: Sequence[int] | None
    ) -> list[npt.NDArray[np.integer[Any]]]:
        """Return the tokens of prompts, each cut where it is too long; `room` as of `encode_words`."""
        pairs = list(zip(instructions, observations, strict=True))
        known = self._remembered
        new = list({pair: None for pair in pairs if pair not in known})
        if new and self._remembered_tokens > REMEMBERED_TOKENS:
            known = self._remembered = {pair: known[pair] for pair in pairs if pair in known}
            self._remembered_tokens = 0
        # All at once: a tokenizer takes as long to be called as to read a short text.
        for pair, tokens in zip(new, self._tokens_of([self._fill_in(pair) for pair in new]), strict=True):
            self._remember(pair, tokens if len(tokens) <= self.max_tokens else self._shortened(pair, len(tokens)))
        if room is None:
            return [known[pair] for pair in pairs]
        return [
            known[pair] if len(known[pair]) <= most else self._cut(pair, most)
            for pair, most in zip(pairs, room, strict=True)
        ]

    def _remember(self, key: tuple[str, str] | tuple[str, str, int], tokens: list[int]) -> None:
        self._remembered[key] = np.array(tokens, dtype=self.integer)
        self._remembered_tokens += len(tokens)

    def _cut(self, pair: tuple[str, str], room: int) -> npt.NDArray[np.integer[Any]]:
        """Return a prompt that leaves room for its actions."""
        key = (*pair, room)
        if key not in self._remembered:
            self._remember(key, self._shortened(pair, len(self._remembered[pair]), room))
        return self._remembered[key]

    def as_written(self, instruction: str, observation: str) -> tuple[str, str]:
        """Return both, each as long as it was, as they stand in the template."""
        return instruction, observation

    def _fill_in(self, pair: tuple[str, str]) -> FilledTemplate:
        instruction, observation = self.as_written(*pair)
        return self.template.format(instruction=instruction, observation=observation)

    def _shortened(self, pair: tuple[str, str], length: int, room: int | None = None) -> list[int]:
        """Tokenise again with as much of the observation's beginning as fits."""
        most = self.max_tokens if room is None else min(room, self.max_tokens)
        told = "Raise max_prompt_tokens to keep it whole."
        if most < self.max_tokens:
            told = (
                f"The model reads {self.action_room and self.action_room.positions} tokens, and actions stand behind."
            )
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"A prompt of {length} tokens is longer than {most}: the end of its observation is cut (this is said "
                f"once). {told}",
                stacklevel=4,
            )
        instruction, observation = pair
        seen = self.seen_of(instruction, observation, room)
        tokens = self.tokens(self._fill_in((instruction, seen)))
        if len(tokens) > most:
            raise ValueError(
                f"The instruction alone needs {len(tokens)} tokens, more than the {most} of a prompt: raise "
                f"max_prompt_tokens. The instruction is {shortened(instruction)}."
            )
        return tokens

    def seen_of(self, instruction: str, observation: str, room: int | None = None) -> str:
        """Return the beginning of an observation that its prompt has room for: mostly all of it.

        Args:
            instruction: in words.
            observation: in words.
            room: how many tokens the prompt may have, if fewer than it has room for.
        """
        most = self.max_tokens if room is None else min(room, self.max_tokens)

        def fits(length: int) -> bool:
            return len(self.tokens(self._fill_in((instruction, observation[:length])))) <= most

        low, high = 0, len(observation)
        if fits(high):
            return observation
        while low < high:  # the longest beginning that fits, by bisection
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return observation[:low]

    def offsets(self, text: str) -> list[tuple[int, int]] | None:
        """Return which characters, (start, end), each token of a text stands for; None if the tokenizer cannot tell.

        Tokens that stand for none, such as one that begins every text, have start = end.
        """
        offsets = self.texts.offsets(text)
        if offsets is None:
            return None
        begin, end = self._missing_around(self.texts.of(text))
        return [(0, 0)] * len(begin) + offsets + [(0, 0)] * len(end)

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of a filled template, however many they are; of any other text none is special."""
        return self._tokens_of([text])[0]

    def _tokens_of(self, texts: list[str]) -> list[list[int]]:
        tokens = []
        for ids in self.texts.of_all(texts):
            begin, end = self._missing_around(ids)
            tokens.append([*begin, *ids, *end])
        return tokens

    def _missing_around(self, ids: list[int]) -> tuple[list[int], list[int]]:
        """Return the tokens that belong before and behind those of a text, less those that the text itself writes."""
        begin = [] if self._begin and ids[: len(self._begin)] == self._begin else self._begin
        if not self.closed or (self._end and ids[-len(self._end) :] == self._end):
            return begin, []
        return begin, self._end

    def decode(self, prompt: Sequence[int] | npt.NDArray[Any]) -> str:
        """Return the text of one prompt."""
        tokens = self.layout.tokens_of(np.asarray(prompt))
        text = self.tokenizer.decode([int(token) for token in tokens if token != PADDING])
        return text if isinstance(text, str) else " ".join(text)


def tokens_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer puts before every text, and those behind it.

    Raises:
        ValueError: if it changes the text where it does.
    """
    bare, whole = (list(tokenizer.encode("a", add_special_tokens=special)) for special in (False, True))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise ValueError(f"{type(tokenizer).__name__} reads a text otherwise where it puts tokens of its own around it.")


class PromptSpace(spaces.Box):
    """The space of prompts: integers from -1 (padding) to the vocabulary's last id, (max_tokens,).

    Where modalities stand behind the tokens, its rows are as wide as the encoder's layout, and hold any integers.
    """

    def __init__(self, encoder: PromptEncoder):
        low, high = PADDING, max(len(encoder.tokenizer) - 1, encoder.largest_id)
        if encoder.layout.modalities:
            low, high = int(np.iinfo(encoder.integer).min), int(np.iinfo(encoder.integer).max)
        super().__init__(low, high, shape=(encoder.layout.width,), dtype=encoder.integer)
        self.encoder = encoder

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptSpace:
        return PromptSpace(self.encoder)  # the encoder holds no state but its memory, which is good to share


class PromptVecEnv(VecEnvWrapper):
    """A vectorised language environment whose observations are prompts.

    Raises:
        ValueError: if `venv` does not carry instructions and observations.
    """

    def __init__(self, venv: VecEnv, encoder: PromptEncoder):
        space = venv.observation_space
        if not isinstance(space, spaces.Dict) or not {"instruction", "observation"} <= set(space.spaces):
            raise ValueError(
                f"This environment carries no words: its observations are {space}. Make it with `heed.envs.make`."
            )
        super().__init__(venv, observation_space=encoder.space)
        self.encoder = encoder
        self.words: dict[str, npt.NDArray[Any]] = {}
        """The language observations behind the prompts given last."""
        self.prompts: npt.NDArray[np.integer[Any]] = np.empty((0, encoder.layout.width), dtype=encoder.integer)
        """The prompts given last, (n_envs, width)."""
        self._read_with = getattr(venv, "read_with", None)  # somebody's own vector may not know what cannot be read
        self.is_stepping = False
        """Whether a step was begun whose prompts were not given: then nobody knows what the environments show."""
        self._read_last: Any = None

    @property
    def is_played_elsewhere(self) -> bool:
        """Whether somebody has played in the environments without this wrapper: they show no longer what it gave."""
        return self._given_by_environments() is not self._read_last

    def _given_by_environments(self) -> Any:
        """Return what the environments gave last, the very object; None where they do not tell."""
        return getattr(self.unwrapped, "observations", None)

    def reset(self) -> npt.NDArray[np.integer[Any]]:
        """Begin new episodes; return their first prompts, (n_envs, width)."""
        self._have_refused()
        return self._prompts(self.venv.reset())

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions for the next `step_wait`."""
        self._have_refused()
        self.is_stepping = True
        self.venv.step_async(environment_action(actions, self.action_space))

    def _have_refused(self) -> None:
        """Have the environments lose the episodes whose words no prompt can be made of."""
        if self._read_with is not None:  # each time: another agent may have read these environments in between
            self._read_with(self.encoder.refused)

    def step_wait(self) -> VecEnvStepReturn:
        """Return what a step gave; `info["terminal_observation"]` becomes a prompt as well."""
        observations, rewards, dones, infos = self.venv.step_wait()
        require_finite_array(rewards, "reward", REWARD_REMEDY)
        for index in np.flatnonzero(dones):
            last = infos[index]["terminal_observation"]
            batch = {key: [last[key]] for key in self.encoder.keys}
            infos[index]["terminal_observation"] = self.encoder(batch)[0]
        return self._prompts(observations), rewards, dones, infos

    def set_state(self, state: dict[str, Any]) -> npt.NDArray[np.integer[Any]]:
        """Bring the environments to a state of `get_state`; return the prompts there."""
        self._have_refused()
        return self._prompts(self.venv.set_state(state))  # type: ignore[attr-defined]

    def _prompts(self, observations: Any) -> npt.NDArray[np.integer[Any]]:
        self.words = observations
        self._read_last = self._given_by_environments()
        self.prompts = self.encoder(observations)
        self.is_stepping = False
        return self.prompts
