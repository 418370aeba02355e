"""From texts to a scene: words are numbered, and each different one gets its vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from heed.policies.words.scene import INSTRUCTION, OBSERVATION, Scene
from heed.policies.words.splitting import NUMBER, split, words_of
from heed.policies.words.vectors import WordVectors

MOST_NUMBERED = 200_000
"""Different words and numbers that are numbered at a time."""

MOST_SPLIT = 2_000_000
"""Words of prompts that are kept as they were split: 32 MB."""

MOST_ACTION_WORDS = 12
"""Words of an action that are read."""

NO_WORD = "?"
"""Stands where a text has no words."""


class SplitPrompt(NamedTuple):
    """A prompt's words."""

    words: npt.NDArray[np.int32]
    """Their numbers, parts, segments and places, (4, L)."""
    starts: npt.NDArray[np.int32]
    """Where each begins in the prompt's text, (L,)."""
    phrases: tuple[str, ...]
    """The instruction, and each segment of the observation, without numbers."""


class SceneBuilder:
    """Makes scenes of texts, each different one split once.

    Args:
        vectors: of words.
        reads_phrases: whether segments are compared with instructions as a whole.
    """

    def __init__(self, vectors: WordVectors, *, reads_phrases: bool = True):
        self._vectors = vectors
        self.reads_phrases = reads_phrases
        self._numbers: dict[str, int] = {}
        self._words: list[str] = []
        self._prompts: dict[str, SplitPrompt] = {}
        self._split_words = 0
        self._actions: dict[str, list[int]] = {}

    def split(self, texts: Sequence[str]) -> list[SplitPrompt]:
        """Return the words of prompts, whose first line is the instruction.

        What is returned holds until the next call: when too many words are numbered, all begins anew.
        """
        if len(self._words) > MOST_NUMBERED or self._split_words > MOST_SPLIT:
            self._numbers, self._words, self._prompts, self._actions = {}, [], {}, {}
            self._split_words = 0
        return [self._prompts.get(text) or self._split(text) for text in texts]

    def _split(self, text: str) -> SplitPrompt:
        told, _, seen = text.partition("\n")
        columns = [
            (self._number_of(word.text), INSTRUCTION, 0, place, word.start) for place, word in enumerate(split(told))
        ] or [(self._number_of(NO_WORD), INSTRUCTION, 0, 0, 0)]
        before = len(told) + 1
        columns += [
            (self._number_of(word.text), OBSERVATION, 1 + word.segment, word.place, before + word.start)
            for word in split(seen)
        ]
        table = np.array(columns, dtype=np.int32).T
        self._split_words += table.shape[1]
        phrases: list[list[str]] = [[] for _ in range(1 + int(table[2].max()))]
        for number, segment in zip(table[0], table[2], strict=True):
            if not NUMBER.fullmatch(word := self._words[number]):
                phrases[segment].append(word)
        found = SplitPrompt(table[:4], table[4], tuple(" ".join(phrase) or NO_WORD for phrase in phrases))
        self._prompts[text] = found
        return found

    def build(self, prompts: Sequence[SplitPrompt], actions: Sequence[str], listed: npt.NDArray[np.integer]) -> Scene:
        """Return prompts and actions as a scene.

        Args:
            prompts: U of them, as the last `split` returned them.
            actions: texts.
            listed: which of the texts each prompt has to choose from, (U, A), -1 behind the last.
        """
        length = max(len(prompt.starts) for prompt in prompts)
        table = np.zeros((4, len(prompts), length), dtype=np.int64)
        real = np.zeros((len(prompts), length), dtype=bool)
        for row, prompt in enumerate(prompts):
            count = len(prompt.starts)
            table[:, row, :count] = prompt.words
            real[row, :count] = True
        chosen, rows = np.unique(listed, return_inverse=True)
        rows = rows.reshape(listed.shape)
        if len(chosen) and chosen[0] < 0:
            chosen, rows = chosen[1:], rows - 1
        action_words, action_real = self._words_of_actions([actions[number] for number in chosen])
        # In the order in which they first appear, so that a prompt's words have the same numbers whatever its actions.
        flat = np.concatenate([table[0][real], action_words[action_real]])
        different, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(different), dtype=np.int64)
        rank[order] = np.arange(len(different))
        table[0][real], action_words[action_real] = np.split(rank[inverse], [int(real.sum())])
        found = self._vectors.of([self._words[number] for number in different[order]])
        # A copy in PyTorch's memory: products of arrays that begin anywhere differ in their last bits.
        vectors = torch.from_numpy(found).clone()
        near = self._nearness(prompts, table[2]) * (table[1] == OBSERVATION)
        arrays = (*table, near, real, action_words, action_real, rows)
        return Scene(vectors, *(torch.from_numpy(array) for array in arrays))

    def _nearness(self, prompts: Sequence[SplitPrompt], segments: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return how near the segment of each word, (U, L), is to the instruction in meaning."""
        near = np.zeros(segments.shape, dtype=np.float32)
        if not self.reads_phrases:
            return near
        different = list(dict.fromkeys(phrase for prompt in prompts for phrase in prompt.phrases))
        places = {phrase: place for place, phrase in enumerate(different)}
        vectors = self._vectors.of_phrases(different)
        for row, prompt in enumerate(prompts):
            told, *seen = (places[phrase] for phrase in prompt.phrases)
            near[row] = np.concatenate([[0.0], (vectors[seen] * vectors[told]).sum(axis=1)])[segments[row]]
        return near

    def _words_of_actions(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the numbers of the words of actions, (G, W), and which of them there are."""
        rows = []
        for text in texts:
            found = self._actions.get(text)
            if found is None:
                words = words_of(text)[:MOST_ACTION_WORDS] or [NO_WORD]
                found = self._actions[text] = [self._number_of(word) for word in words]
            rows.append(found)
        width = max(1, max(map(len, rows), default=1))
        table, real = np.zeros((len(rows), width), dtype=np.int64), np.zeros((len(rows), width), dtype=bool)
        for index, row in enumerate(rows):
            table[index, : len(row)], real[index, : len(row)] = row, True
        return table, real

    def _number_of(self, word: str) -> int:
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self._words)
            self._words.append(word)
        return number
