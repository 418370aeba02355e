"""Prompts in segments, for an encoder that does not train: the instruction is one, each part of what is seen another.

A frozen encoder gives a whole prompt one vector, which hardly tells what is where; and almost every prompt is new. But
the parts that observations are made of, such as "red ball 2 left 3 ahead", come again and again: a level has some
hundreds. So each is read by itself, once, and what learns stands on their vectors
(`heed.policies.networks.segment_reader`).

A prompt's first line is the instruction, one segment whatever it holds. The rest is the observation: it is split at
line breaks, semicolons, and ends of sentences. In the row of token ids, the tokenizer's separator stands between them
(BERT's `[SEP]`, RoBERTa's `</s>`), and nowhere else: where a text spells it out, it is tokenised like other words.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from heed.policies.modalities.modality import Modality
from heed.policies.prompts.lines import LinesEncoder, instruction_first
from heed.policies.prompts.template import PromptTemplate, Template, shortened

SEGMENTS = PromptTemplate("{instruction}\n{observation}")
"""The template of such prompts."""

REMEMBERED_SEGMENTS = 100_000
"""Texts whose tokens are kept."""

_BORDER = re.compile(r"[;；\n]|(?<=[.!?])\s|(?<=[。！？])")


class SegmentEncoder(LinesEncoder):
    """Turns language observations into prompts that tell segments apart.

    Args:
        tokenizer: of the encoder.
        template: a plain one: its first line holds the instruction, and the observation comes behind that.
        max_tokens: how many a row holds, separators included.
        most: how many tokens a segment may have; a longer one becomes several.
        modalities: what else of an observation is read.

    Raises:
        ValueError: if the template is not such a one, or the tokenizer has no separator.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: Template = SEGMENTS,
        max_tokens: int = 256,
        most: int = 256,
        modalities: tuple[Modality, ...] = (),
    ):
        plain = instruction_first(template, tokenizer)
        separator = tokenizer.sep_token_id
        if separator is None:
            raise ValueError("The tokenizer has no separator, which is to stand between segments.")
        self.separator = int(separator)
        self.most = most
        self._pieces: dict[str, list[list[int]]] = {}
        super().__init__(tokenizer, template=plain, max_tokens=max_tokens, closed=True, modalities=modalities)

    def offsets(self, text: str) -> list[tuple[int, int]] | None:
        """Return which characters, (start, end), each token of a text stands for; separators stand for none."""
        if not self.texts.tells_offsets:
            return None
        offsets: list[tuple[int, int]] = []
        for start, end in _spans(text):
            if offsets or start:
                offsets.append((0, 0))
            places = [(start + first, start + last) for first, last in self.texts.offsets(text[start:end]) or ()]
            for cut in range(0, max(1, len(places)), self.most):
                offsets += [(0, 0)] * (cut > 0) + places[cut : cut + self.most]
        return offsets

    def _tokens_of(self, texts: list[str]) -> list[list[int]]:
        return [self._segmented(text) for text in texts]

    def _segmented(self, text: str) -> list[int]:
        tokens: list[int] = []
        for start, end in _spans(text):
            for piece in self._pieces_of(text[start:end]):
                if tokens or start:
                    tokens.append(self.separator)
                tokens += piece
        return tokens

    def _pieces_of(self, text: str) -> list[list[int]]:
        """Return the tokens of a segment, cut where it is too long for the encoder; empty texts are one segment."""
        found = self._pieces.get(text)
        if found is None:
            if len(self._pieces) >= REMEMBERED_SEGMENTS:
                self._pieces.clear()
            ids = self.texts.of(text)  # a part of a prompt is no template: nothing in it is special
            found = [ids[cut : cut + self.most] for cut in range(0, max(1, len(ids)), self.most)]
            self._pieces[text] = found
        return found

    def require_action(self, text: str) -> None:
        """Refuse an action text without tokens, or with more than a segment may have: one vector is to stand for it.

        Raises:
            ValueError: saying which.
        """
        super().require_action(text)
        if len(self.texts.of(text)) > self.most:
            raise ValueError(
                f"The action text {shortened(text)} has {len(self.texts.of(text))} tokens, but the encoder reads at "
                f"most {self.most} at once: give it a shorter name."
            )

    def split(self, tokens: npt.NDArray[np.integer[Any]]) -> list[npt.NDArray[np.integer[Any]]]:
        """Return the segments of one prompt without padding, (L,): the instruction first."""
        borders = np.flatnonzero(tokens == self.separator)
        starts, ends = [0, *(borders + 1)], [*borders, len(tokens)]
        return [tokens[start:end] for start, end in zip(starts, ends, strict=True)]


def _spans(text: str) -> list[tuple[int, int]]:
    """Return where the segments of a filled template stand: its first line, and the parts of what follows it."""
    first = text.find("\n")
    if first < 0:
        return [(0, len(text))]
    spans = [(0, first)]
    start = first + 1
    for end, after in [*((m.start(), m.end()) for m in _BORDER.finditer(text, start)), (len(text), len(text))]:
        part = text[start:end]
        stripped = part.strip()
        if stripped:
            begin = start + part.index(stripped[0])
            spans.append((begin, begin + len(stripped)))
        start = after
    return spans
