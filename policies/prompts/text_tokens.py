"""Text becomes token ids here, and text is text: none spells a special token.

A tokenizer finds special tokens by their spelling, whoever wrote it: an observation that holds `<|im_start|>` would
open a turn of its own. So here they have other names, which nobody can guess: what a text spells out is then letters
like any others. Only the template's own text is written with those names where it spells special tokens
(`FilledTemplate` tells which text is whose).

Special are the tokens that the tokenizer calls so, and added tokens in brackets, such as `<think>`, which the template
itself writes. Other added tokens are words of the vocabulary, and stay so: heed-tiny has some for whole actions, Gemma
for runs of line breaks. The token of what is unknown still stands for what is unknown.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from heed.policies.prompts.template import FilledTemplate, PromptTemplate, Span

LONG_TEXTS = 10_000
"""Characters from which texts are tokenised in several threads."""

_BRACKETED = re.compile(r"[<\[|].*[>\]|]", re.DOTALL)


class TextTokens:
    """Turns texts into token ids.

    Args:
        tokenizer: of the language model.
        template: whose own text may write special tokens; None where there is none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: PromptTemplate | None = None):
        self._tokenizer = tokenizer
        self.special = _special_tokens(tokenizer, "" if template is None else template.own_text)
        """The tokens that no text spells, with their ids."""
        names = sorted(self.special, key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, names))) if names else None
        inside = getattr(tokenizer, "backend_tokenizer", None)
        self._fast = Tokenizer.from_str(inside.to_str()) if isinstance(inside, Tokenizer) else None
        """A copy of what does the work inside a tokenizer, if that is in Rust; what is around it takes longer."""
        self._marks: Mapping[str, str] | None = None
        """The names that special tokens have in that copy; None where they have their own, so that texts are cut."""
        if self._fast is not None:
            renamed = _renamed(self._fast, self.special)
            if renamed is not None:
                self._fast, self._marks = renamed
            self._fast.no_padding()  # others may set padding and truncation of theirs
            self._fast.no_truncation()
        self._own: dict[str, str] = {}  # stretches of templates, and as they are written here

    @property
    def tells_offsets(self) -> bool:
        """Whether the tokenizer can tell which characters a token stands for."""
        return self._fast is not None

    def largest_id(self) -> int:
        """Return the largest id that a text can become."""
        barred = set(self.special.values()) - {self._tokenizer.unk_token_id}
        return max((number for number in self._tokenizer.get_vocab().values() if number not in barred), default=0)

    def of(self, text: str) -> list[int]:
        """Return the token ids of one text: of a `FilledTemplate`, or of a text that is no template's own."""
        return self.of_all([text])[0]

    def of_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text."""
        if self._fast is None or self._marks is None:
            return [[token for piece, _ in self._pieces(text) for token in self._cut(piece)] for text in texts]
        marked = [self._marked(text) for text in texts]
        # A batch is spread over threads, which for short texts takes longer than the texts.
        batches = [marked] if sum(map(len, marked)) > LONG_TEXTS else [[text] for text in marked]
        return [
            encoding.ids
            for batch in batches
            for encoding in self._fast.encode_batch_fast(batch, add_special_tokens=False)
        ]

    def offsets(self, text: str) -> list[Span] | None:
        """Return which characters each token of a text stands for, (start, end); None if the tokenizer cannot tell."""
        if self._fast is None:
            return None
        found: list[Span] = []
        if self._marks is None:
            for piece, start in self._pieces(text):
                encoding = self._fast.encode(piece, add_special_tokens=False)
                found += [(start + first, start + last) for first, last in encoding.offsets]
            return found
        moved = list(self._moved(text))
        for first, last in self._fast.encode(self._marked(text), add_special_tokens=False).offsets:
            found.append((_before_marks(first, moved, end=False), _before_marks(last, moved, end=True)))
        return found

    # -- where the tokenizer has the names of our own -------------------------------------------------------------

    def _marked(self, text: str) -> str:
        """Return a text with the special tokens of the template's own text by their names here."""
        if not isinstance(text, FilledTemplate):
            return text
        parts, reached = [], 0
        for start, end in text.own:
            parts += [text[reached:start], self._marked_own(text[start:end])]
            reached = end
        return "".join([*parts, text[reached:]])

    def _marked_own(self, text: str) -> str:
        found = self._own.get(text)
        if found is None:
            marks = self._marks or {}
            found = text if self._spelled is None else self._spelled.sub(lambda one: marks.get(one[0], one[0]), text)
            self._own[text] = found
        return found

    def _moved(self, text: str) -> Iterator[tuple[Span, Span]]:
        """Yield for each special token of the template's own text where it stands as marked, and in the text."""
        if not isinstance(text, FilledTemplate) or self._spelled is None or not self._marks:
            return
        longer = 0
        for start, end in text.own:
            for one in self._spelled.finditer(text[start:end]):
                first, last = start + one.start(), start + one.end()
                mark = len(self._marks[one[0]])
                yield (first + longer, first + longer + mark), (first, last)
                longer += mark - (last - first)

    # -- where it has not: texts are cut where they spell a special token -----------------------------------------

    def _cut(self, piece: str) -> list[int]:
        if self._fast is not None:
            return list(self._fast.encode(piece, add_special_tokens=False).ids)
        return list(self._tokenizer.encode(piece, add_special_tokens=False))

    def _pieces(self, text: str) -> Iterator[tuple[str, int]]:
        """Yield a text in pieces, with where they begin, so that none spells a special token but the template's own."""
        own = text.own if isinstance(text, FilledTemplate) else ()
        begin = reached = 0
        while self._spelled is not None and (one := self._spelled.search(text, reached)) is not None:
            if any(start <= one.start() and one.end() <= end for start, end in own):
                reached = one.end()
                continue
            reached = one.start() + 1
            yield text[begin:reached], begin
            begin = reached
        if begin < len(text):
            yield text[begin:], begin


def spelled_apart(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Return a text with a space in each special token that it spells, for those that tokenise it by themselves."""
    for name in sorted(_special_tokens(tokenizer, ""), key=len, reverse=True):
        text = text.replace(name, f"{name[0]} {name[1:]}")
    return text


def _special_tokens(tokenizer: PreTrainedTokenizerBase, own_text: str) -> dict[str, int]:
    """Return the tokens that no text is to spell, with their ids."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {str(token.content): int(number) for number, token in added.items() if token.special}
    for token, number in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True):
        special.setdefault(str(token), int(number))
    for number, token in added.items():
        if _BRACKETED.fullmatch(token.content) and token.content in own_text:
            special[token.content] = int(number)
    # Some call an ordinary character special, such as the one they pad with: without it, texts could not be written.
    return {name: number for name, number in special.items() if len(name) > 1 and not name.isspace()}


def _renamed(inner: Tokenizer, special: Mapping[str, int]) -> tuple[Tokenizer, dict[str, str]] | None:
    """Return the tokenizer with other names for special tokens, and these; None if it does not take them."""
    secret = secrets.token_hex(8)
    # Small letters and digits: no normalizer changes them, and none begins like another.
    marks = {name: f"hd{secret}x{number}x" for number, name in enumerate(special)}
    content = json.loads(inner.to_str())
    for token in content["added_tokens"]:
        if token["content"] in marks:
            token |= {"content": marks[token["content"]], "single_word": False}
    _rename_in_model(content["model"], marks)
    try:
        renamed = Tokenizer.from_str(json.dumps(content))
    except Exception:  # tokenizers raises nothing more precise
        return None
    kept = all(renamed.token_to_id(marks[name]) == inner.token_to_id(name) for name in special)
    same = kept and renamed.get_vocab_size() == inner.get_vocab_size()
    return (renamed, marks) if same else None


def _rename_in_model(model: dict[str, Any], marks: Mapping[str, str]) -> None:
    """Give special tokens their other names in the vocabulary too, out of which a model could spell them."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {marks.get(piece, piece): number for piece, number in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[marks.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in marks:
        model["unk_token"] = marks[model["unk_token"]]
    merges = model.get("merges")
    if merges:
        pairs = [one.split(" ", 1) if isinstance(one, str) else one for one in merges]
        model["merges"] = [pair for pair in pairs if not {*pair, "".join(pair)} & set(marks)]


def _before_marks(place: int, moved: Sequence[tuple[Span, Span]], *, end: bool) -> int:
    """Return where in the text a place of the marked text is; within a mark, where the special token begins or ends."""
    for (first, last), (start, stop) in reversed(moved):
        if place >= last:
            return stop + place - last
        if place > first or (place == first and not end):
            return stop if end else start
    return place
