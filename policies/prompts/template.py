"""Prompt templates: what an instruction and an observation are written into before they become tokens.

- *plain*: text with `{instruction}` and `{observation}`;
- *jinja*: with `{{ instruction }}` and `{{ observation }}`, conditions, and loops over their parts, in a sandbox
  (`heed.policies.prompts.jinja_sandbox`);
- *chat*: what a tokenizer's own chat template makes of a message. It is asked once, with marks in the place of the two
  texts, and what comes out is kept as a plain template: whatever a chat template can do, no checkpoint does it again.

Behind a prompt stand the words of an action, after a space or right there: `PromptTemplate.before_action`.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jinja2 import TemplateError as JinjaTemplateError
from transformers import PreTrainedTokenizerBase

from heed.policies.prompts.jinja_sandbox import JinjaError, Piece, fill_in

Syntax = Literal["plain", "jinja"]

CHAT = "chat"
"""The name of the tokenizer's own chat template, where the name of a file may stand."""

MOST_CHARACTERS = 100_000
"""Of a template."""

JINJA_SUFFIXES = (".j2", ".jinja", ".jinja2")


class TemplateError(ValueError):
    """A prompt template cannot be used. The message says why and what to do."""


Span = tuple[int, int]
"""Where something begins and ends, in characters."""


class FilledTemplate(str):
    """A template with the two texts in it, which knows what of it the template's own text is."""

    own: tuple[Span, ...] = ()
    """Where that stands, from the first to the last."""

    @classmethod
    def of(cls, pieces: Iterable[str]) -> FilledTemplate:
        """Join pieces: a `Piece` comes of one of the two texts, any other text is the template's own."""
        pieces = list(pieces)
        own: list[Span] = []
        end = 0
        for piece in pieces:
            start, end = end, end + len(piece)
            if isinstance(piece, Piece) or not piece:
                continue
            if own and own[-1][1] == start:
                own[-1] = (own[-1][0], end)
            else:
                own.append((start, end))
        filled = cls("".join(pieces))
        filled.own = tuple(own)
        return filled

    def up_to(self, end: int) -> FilledTemplate:
        """Return its beginning."""
        cut = FilledTemplate(self[:end])
        cut.own = tuple((start, min(stop, end)) for start, stop in self.own if start < end)
        return cut

    def followed_by(self, own: str, text: str) -> FilledTemplate:
        """Return it with more of the template's own behind it, and then a text that is not."""
        start = len(self)
        longer = FilledTemplate(f"{self}{own}{text}")
        longer.own = (*self.own, (start, start + len(own))) if own else self.own
        return longer


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a filled template a stretch of the instruction or of the observation stands."""

    part: Literal["instruction", "observation"]
    start: int
    """Its first character in that text."""
    place: int
    """Its first character in the filled template."""
    length: int


@dataclass(frozen=True)
class PromptTemplate:
    """Writes an instruction and an observation into one text.

    Args:
        text: the template.
        syntax: how the places of the two are written.
        before_action: what stands between a filled template and an action's words: a space, or nothing.

    Raises:
        TemplateError: if it cannot be filled in, or leaves one of the two out.
    """

    text: str
    syntax: Syntax = "plain"
    before_action: str = " "

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.syntax not in ("plain", "jinja"):
            raise TemplateError(f"A prompt template is plain or jinja, not {self.syntax!r}.")
        if self.before_action not in ("", " "):
            raise TemplateError(f"Before an action stands a space or nothing, not {self.before_action!r}.")
        if len(self.text) > MOST_CHARACTERS:
            raise TemplateError(
                f"The prompt template has {len(self.text)} characters, but may have {MOST_CHARACTERS} at most."
            )
        _require_fields(self)

    @classmethod
    def of(cls, template: str | PromptTemplate) -> PromptTemplate:
        """Return a template given as it is or as plain text, after which actions follow after a space.

        A space at its end is that space: tokenizers begin words with it, and behind another one they would begin
        otherwise than they ever do.
        """
        return cls(template.rstrip(" ")) if isinstance(template, str) else template

    @classmethod
    def from_file(cls, path: Path) -> PromptTemplate:
        """Return the template in a file: jinja where its name ends in .j2, .jinja or .jinja2, else plain text.

        Its last line break is the file's. If there is another one before that, actions follow right behind it.

        Raises:
            TemplateError: if the file cannot be read, or holds no template.
        """
        try:
            text = path.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateError(f"The prompt template {str(path)!r} cannot be read: {error}.") from None
        syntax: Syntax = "jinja" if path.suffix in JINJA_SUFFIXES else "plain"
        template = cls(text.rstrip(" "), syntax)
        ends_line = template.format(instruction="a", observation="a").endswith("\n")
        return replace(template, before_action="") if ends_line else template

    @classmethod
    def from_json(cls, saved: Any) -> PromptTemplate:
        """Return the template that `as_json` wrote.

        Raises:
            TemplateError: if it is none.
        """
        content = {"text": saved} if isinstance(saved, str) else saved
        if not isinstance(content, dict) or not set(content) <= {"text", "syntax", "before_action"}:
            raise TemplateError(f"A prompt template is a text, or an object with one, not {saved!r}.")
        if "text" not in content or not all(isinstance(value, str) for value in content.values()):
            raise TemplateError(f"A prompt template is a text, or an object with one, not {saved!r}.")
        return cls(**content)

    def as_json(self) -> str | dict[str, str]:
        """Return the template as JSON: its text, and what else it is if that is not the usual."""
        if self.syntax == "plain" and self.before_action == " ":
            return self.text
        return {"text": self.text, "syntax": self.syntax, "before_action": self.before_action}

    @property
    def own_text(self) -> str:
        """What the template may write of its own, wherever it stands."""
        if self.syntax == "jinja":
            return self.text
        return "".join(literal for literal, _ in _parsed(self.text))

    def format(self, *, instruction: str, observation: str) -> FilledTemplate:
        """Return the template with the two texts in it.

        Raises:
            TemplateError: if a jinja template can do nothing with them.
        """
        return FilledTemplate.of(self._pieces(instruction, observation))

    def places(self, *, instruction: str, observation: str) -> tuple[FilledTemplate, list[Place]]:
        """Return the filled template, and where in it the two texts stand, or stretches of them."""
        pieces, places, length = [], [], 0
        for piece in self._pieces(instruction, observation):
            if isinstance(piece, Piece) and piece.part is not None:
                part: Any = piece.part
                places.append(Place(part=part, start=piece.start, place=length, length=len(piece)))
            pieces.append(piece)
            length += len(piece)
        return FilledTemplate.of(pieces), places

    def _pieces(self, instruction: str, observation: str) -> Iterator[str]:
        texts = {"instruction": instruction, "observation": observation}
        if self.syntax == "plain":
            for literal, field in _parsed(self.text):
                yield literal
                if field is not None:
                    yield Piece.of(texts[field], field)
            return
        try:
            yield from fill_in(self.text, **texts)
        except JinjaError as error:
            raise TemplateError(f"The prompt template {shortened(self.text)} cannot be filled in: {error}.") from None


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A tokenizer's own chat template: a language observation is the user's message, and an action the answer."""

    system: str | None = None
    """The system's message, if there is to be one."""
    message: str = "Instruction: {instruction}\nObservation: {observation}"
    """The user's message, a plain template."""

    def template(self, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
        """Return what the tokenizer makes of such a chat, as a plain template that ends where the answer begins.

        Raises:
            TemplateError: if the tokenizer has no chat template, or it does not take such a chat.
        """
        if getattr(tokenizer, "chat_template", None) is None:
            raise TemplateError(
                "This model's tokenizer has no chat template: take a model that was tuned to chat, or a template of "
                "your own."
            )
        message = PromptTemplate(self.message).format(**_MARKS)
        chat = [] if self.system is None else [{"role": "system", "content": self.system}]
        chat.append({"role": "user", "content": message})
        try:
            asked = _as_text(tokenizer, chat, asking=True)
        except (JinjaTemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            told = "" if self.system is None else " Some take no system's message."
            raise TemplateError(f"The tokenizer's chat template does not take the chat: {error}.{told}") from None
        if message not in asked:
            raise TemplateError("The tokenizer's chat template changes or leaves out the user's message.")
        prompt = _up_to_answer(tokenizer, chat, asked)
        text = prompt.replace("{", "{{").replace("}", "}}")
        for field, mark in _MARKS.items():
            text = text.replace(mark, f"{{{field}}}")
        bare = text.rstrip(" ")
        return PromptTemplate(bare, before_action=" " if bare != text else "")


Template = str | PromptTemplate | Chat
"""What may be given as a template: a plain one as a text, one of any kind, or the tokenizer's own for chats."""

_MARKS = {"instruction": "hd7instruction7dh", "observation": "hd7observation7dh"}
"""Stand for the two texts while a chat template writes its text."""
_ANSWER = "hd7answer7dh"


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[tuple[str, str | None], ...]:
    """Return the literals of a plain template, each with the field behind it."""
    return tuple((literal, field) for literal, field, _, _ in string.Formatter().parse(text))


def _as_text(tokenizer: Any, chat: list[dict[str, str]], *, asking: bool = False) -> str:
    # Some can think before they answer; an action is the answer itself. Others do not read this.
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=asking, enable_thinking=False)
    assert isinstance(text, str)
    return text


def _up_to_answer(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], asked: str) -> str:
    """Return a chat up to where the answer's words begin: some templates put a space there, or an empty thought."""
    try:
        answered = _as_text(tokenizer, [*chat, {"role": "assistant", "content": _ANSWER}])
    except (JinjaTemplateError, TypeError, ValueError, LookupError, AttributeError):
        return asked
    before, found, _ = answered.partition(_ANSWER)
    return before if found and before.startswith(asked) else asked


def _require_fields(template: PromptTemplate) -> None:
    """Refuse a template that has other fields, or does not show both texts."""
    told = shortened(template.text)
    if template.syntax == "plain":
        try:
            parts = list(string.Formatter().parse(template.text))
        except ValueError as error:
            raise TemplateError(f"The prompt template {told} cannot be filled in: {error}.") from None
        for _, field, specification, conversion in parts:
            # `str.format` could be made to look into objects, or to fill up a text with spaces for ever.
            plain = field in (None, "instruction", "observation") and not specification and conversion is None
            if not plain:
                raise TemplateError(
                    f"The prompt template {told} cannot be filled in: it has the field {field!r}, which is not a plain "
                    "instruction or observation. Write braces that are no field twice: {{ }}."
                )
        if not {"instruction", "observation"} <= {field for _, field, _, _ in parts}:
            raise TemplateError(f"The prompt template {told} needs {{instruction}} and {{observation}}.")
        return
    usual = {"instruction": "go to the red ball", "observation": "red ball 2 ahead; wall 1 left"}
    for part, text in usual.items():
        for other in (usual, {"instruction": "", "observation": ""}):
            template.format(**{**other, part: text})  # which refuses what cannot be filled in
        if template.format(**usual) == template.format(**{**usual, part: f"{text}; blue key 1 right"}):
            raise TemplateError(f"The prompt template {told} does not show the {part}: it needs {{{{ {part} }}}}.")


def shortened(text: str) -> str:
    """Return a template as a message shows it."""
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
