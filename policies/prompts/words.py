"""Where the words of an instruction and an observation stand in their prompt.

A *word* is what stands between white space; in scripts that put none between words, each character is one. Where a
tokenizer makes one token of several words (heed-tiny does of "2 left"), they count as one word: what is known of a
token cannot be divided among them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from heed.policies.prompts.prompt import PromptEncoder
from heed.policies.prompts.template import FilledTemplate, Span

Part = Literal["instruction", "observation"]
PARTS: tuple[Part, Part] = ("instruction", "observation")

# Japanese kana, Chinese characters with their rarer blocks; Thai, Lao, Burmese and Khmer stay whole between spaces:
# their signs combine, and a sign alone is no word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a language observation, or several that share a token."""

    part: Part
    start: int
    """Its first character in the instruction or in the observation."""
    end: int
    """The character behind its last."""
    text: str
    tokens: tuple[int, ...]
    """Where in the prompt its tokens stand; none where the tokenizer leaves the word out."""


def words_of(encoder: PromptEncoder, instruction: str, observation: str) -> list[Word]:
    """Return the words that a prompt is made of, the instruction's first.

    Args:
        encoder: makes the prompt.
        instruction: in words.
        observation: in words; what a prompt has no room for is left out (`PromptEncoder.seen_of`).
    """
    texts: dict[Part, str] = {"instruction": instruction, "observation": encoder.seen_of(instruction, observation)}
    spans: dict[Part, list[Span]] = {part: [match.span() for match in _WORD.finditer(texts[part])] for part in PARTS}
    instruction, observation = encoder.as_written(texts["instruction"], texts["observation"])
    filled, places = encoder.template.places(instruction=instruction, observation=observation)
    # For each word, where it stands in the filled template: more than once if the template repeats its part, in parts
    # or not at all if the template cuts it.
    stands = [
        (one.part, index, one.place + max(start - one.start, 0), one.place + min(end - one.start, one.length))
        for one in places
        for index, (start, end) in enumerate(spans[one.part])
        if start < one.start + one.length and end > one.start
    ]
    touched: dict[Part, list[tuple[int, int, int]]] = {part: [] for part in PARTS}  # first and last word, token
    # White space may belong to the token behind it: a word's first token may begin anywhere in the gap before the word.
    gaps = [range(len(filled[:start].rstrip()), start + 1) for *_, start, _ in stands]
    edges = {place for gap in gaps for place in gap} | {end for *_, end in stands}
    for token, (start, end) in enumerate(_token_spans(encoder, filled, sorted(edges))):
        overlaps: dict[Part, dict[int, int]] = {part: {} for part in PARTS}  # characters in common with each word
        for part, index, first, last in stands:
            common = min(end, last) - max(start, first)
            if common > 0:
                overlaps[part][index] = overlaps[part].get(index, 0) + common
        part = max(PARTS, key=lambda one: sum(overlaps[one].values()))
        if overlaps[part]:
            touched[part].append((min(overlaps[part]), max(overlaps[part]), token))
    return [word for part in PARTS for word in _joined(part, texts[part], spans[part], touched[part])]


def without(text: str, word: Word) -> str:
    """Return the instruction or observation `text` without a word of it, and without the gap that it leaves.

    The white space behind it goes too; at the end of a line, that before it.
    """
    start, end = word.start, word.end
    before = re.search(r"\s*\Z", text[:start])
    behind = re.match(r"\s*", text[end:])
    assert before is not None  # both match anything
    assert behind is not None
    alone_before, alone_behind = bool(before[0]) or start == 0, bool(behind[0]) or end == len(text)
    if alone_before and alone_behind:  # in Chinese, the neighbours stand close and stay so
        ends_line = end == len(text) or "\n" in behind[0]
        if ends_line and before[0]:
            start -= len(before[0])
        else:
            end += len(behind[0])
    return text[:start] + text[end:]


def _token_spans(encoder: PromptEncoder, text: FilledTemplate, edges: Sequence[int]) -> list[Span]:
    """Return which characters each token of a prompt stands for.

    A tokenizer that cannot tell is asked for the tokens of the text up to each of `edges`, where words begin and end:
    where they are the first tokens of the whole text, a token ends there. All tokens between two such places stand for
    all the characters there.
    """
    tokens = encoder.tokens(text)
    known = encoder.offsets(text)
    if known is not None:
        return known[: len(tokens)]  # without the end token, where the prompt is without it
    closing = int(encoder.closed and tokens[-1:] == encoder.tokens("")[-1:])
    spans: list[Span] = []
    begin = 0
    for edge in edges:
        before = encoder.tokens(text.up_to(edge))
        before = before[: len(before) - closing]
        if tokens[: len(before)] == before:
            spans += [(begin, edge)] * (len(before) - len(spans))
            begin = edge
    return spans + [(begin, len(text))] * (len(tokens) - closing - len(spans)) + [(0, 0)] * closing


def _joined(part: Part, text: str, spans: Sequence[Span], touched: Sequence[tuple[int, int, int]]) -> list[Word]:
    """Return a part's words, those that share a token as one.

    Args:
        part: of the observation.
        text: of it.
        spans: of the words in it.
        touched: for each token, the first and the last word that it touches, and its place in the prompt.
    """
    groups: list[tuple[int, int, tuple[int, ...]]] = [(index, index, ()) for index in range(len(spans))]
    for first, last, token in touched:
        mine = [group for group in groups if group[0] <= last and first <= group[1]]
        at = groups.index(mine[0])
        held = sorted({token, *(one for *_, ones in mine for one in ones)})
        groups[at : at + len(mine)] = [(mine[0][0], mine[-1][1], tuple(held))]
    words = []
    for first, last, tokens in groups:
        start, end = spans[first][0], spans[last][1]
        words.append(Word(part=part, start=start, end=end, text=text[start:end], tokens=tokens))
    return words
