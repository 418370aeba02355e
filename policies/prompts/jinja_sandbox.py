"""Jinja templates of prompts, which may be a stranger's: they can read two texts, and neither run code nor run on.

Jinja's own sandbox keeps a template from Python's inner things, but not from taking all time and memory: loops in
loops, `"a" * 10**9`, texts that double each turn. So a template here is made of few kinds of parts, which are named
below: it has no variables of its own, no arithmetic, no macros, and of filters and methods only those that make no text
longer; where one does, and in loops, there is a bound.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from jinja2 import Template, TemplateSyntaxError, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_SOURCE = 10_000
"""Characters of a template."""
MOST_DEPTH = 60
"""How deep its parts may be nested."""
MOST_TURNS = 1000
"""Turns of all its loops together, each time that it is filled in."""
MOST_TEXT = 1_000_000
"""Characters of what comes out, and of every text on the way."""

NAMES = ("instruction", "observation")
FILTERS = (
    "capitalize",
    "default",
    "first",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "replace",
    "title",
    "trim",
    "upper",
)
METHODS = ("endswith", "lower", "lstrip", "rstrip", "split", "splitlines", "startswith", "strip", "upper")
LOOP = ("first", "index", "index0", "last", "length")
"""What a loop tells of itself."""
TESTS = ("defined", "eq", "equalto", "ge", "gt", "in", "le", "lt", "ne", "none", "string")

_PARTS = (
    nodes.And,
    nodes.Call,
    nodes.Compare,
    nodes.Concat,
    nodes.CondExpr,
    nodes.Const,
    nodes.Filter,
    nodes.For,
    nodes.Getattr,
    nodes.Getitem,
    nodes.If,
    nodes.Keyword,
    nodes.Name,
    nodes.Neg,
    nodes.Not,
    nodes.Operand,
    nodes.Or,
    nodes.Output,
    nodes.Slice,
    nodes.Template,
    nodes.TemplateData,
    nodes.Test,
    nodes.Tuple,
)
_TURNS, _SEEN = "_turns", "_seen"
"""Names of Heed's own in a template's context, which no template may name."""


class JinjaError(ValueError):
    """A Jinja template cannot be had, or cannot be filled in. The message says why."""


class Piece(str):
    """A part of a filled template that comes of the instruction or of the observation."""

    part: str | None
    """In which of them it stands; None where the template has changed it."""
    start: int
    """Where in that text."""

    @classmethod
    def of(cls, value: str, part: str | None, start: int = 0) -> Piece:
        """Return a text as such a part."""
        piece = cls(value)
        piece.part, piece.start = part, start
        return piece

    def __str__(self) -> str:
        """Return itself, where a plain text would be made of it."""
        return self


def fill_in(source: str, instruction: str, observation: str) -> list[str]:
    """Return what a template makes of the two texts, in pieces.

    What its expressions write is a `Piece`, whether or not it stands in one of the texts; any other is its own text.

    Raises:
        JinjaError: if it is none that Heed takes, cannot be filled in, or makes too much of it.
    """
    template = _compiled(source)
    context = {"instruction": instruction, "observation": observation}
    pieces, length = [], 0
    try:
        for piece in template.generate(**context, **{_TURNS: [MOST_TURNS], _SEEN: _Seen(context)}):
            length += len(piece)
            if length > MOST_TEXT:
                raise JinjaError(f"it makes more than {MOST_TEXT} characters of an instruction and an observation")
            pieces.append(piece)
    except JinjaError:
        raise
    except Exception as error:  # whatever a template does with what it was given
        raise JinjaError(f"{type(error).__name__}: {error}") from None
    return pieces


class _Seen:
    """Finds what a template puts out in the texts that it was given, from the start of each to its end."""

    def __init__(self, texts: dict[str, str]):
        self._texts = texts
        self._reached = dict.fromkeys(texts, 0)

    def mark(self, value: Any) -> Piece:
        if not isinstance(value, str) or not value:
            return Piece.of(str(value), None)
        for part, text in self._texts.items():
            if value is text:
                return Piece.of(value, part)
        for part, text in self._texts.items():
            start = text.find(value, self._reached[part])
            start = start if start >= 0 else text.find(value)
            if start >= 0:
                self._reached[part] = start + len(value)
                return Piece.of(value, part, start)
        return Piece.of(value, None)


@functools.lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    """Return a template whose parts are all known.

    Raises:
        JinjaError: otherwise.
    """
    if len(source) > MOST_SOURCE:
        raise JinjaError(f"it has {len(source)} characters, but may have {MOST_SOURCE} at most")
    try:
        tree = _ENVIRONMENT.parse(source)
        _require_known(tree, set(NAMES))
        for output in tree.find_all(nodes.Output):  # {{ "text" }} is the template's own, like text around it
            output.nodes = [_as_template_data(node) for node in output.nodes]
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = nodes.Filter(
                loop.iter, _TURNS, [], [], None, None, lineno=loop.lineno, environment=_ENVIRONMENT
            )
        return _ENVIRONMENT.from_string(tree)
    except TemplateSyntaxError as error:
        raise JinjaError(f"line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise JinjaError("its parts are nested too deep") from None


def _require_known(node: nodes.Node, names: set[str], depth: int = 0) -> None:
    """Refuse parts of a template that are not named above.

    Args:
        node: the template, or a part of it.
        names: variables that are there.
        depth: of `node` in the template.
    """
    if depth > MOST_DEPTH:
        raise JinjaError("its parts are nested too deep")
    what = type(node).__name__.lower()
    if not isinstance(node, _PARTS):
        raise JinjaError(f"line {node.lineno}: it has the part {what!r}, which templates of prompts have not")
    if isinstance(node, nodes.Name) and node.name not in names:
        raise JinjaError(f"it names {node.name!r}: there are {{{{ instruction }}}} and {{{{ observation }}}}")
    if isinstance(node, nodes.Filter):
        _require_listed("filter", node.name, FILTERS)
    if isinstance(node, nodes.Test):
        _require_listed("test", node.name, TESTS)
    if isinstance(node, nodes.Getattr) and not (isinstance(node.node, nodes.Name) and node.node.name == "loop"):
        raise JinjaError(f"it reads the attribute {node.attr!r}: there are only the methods {', '.join(METHODS)}")
    if isinstance(node, nodes.Getattr):
        _require_listed("attribute of a loop", node.attr, LOOP)
    below = list(node.iter_child_nodes())
    if isinstance(node, nodes.Call):
        if not isinstance(node.node, nodes.Getattr) or node.dyn_args or node.dyn_kwargs:
            raise JinjaError(f"it calls something else than one of the methods {', '.join(METHODS)}")
        _require_listed("method", node.node.attr, METHODS)
        below = [node.node.node, *node.args, *node.kwargs]
    if isinstance(node, nodes.For):
        if node.recursive:
            raise JinjaError("it has a recursive loop, which templates of prompts have not")
        _require_known(node.iter, names, depth + 1)
        below = [*node.body, *node.else_, *([] if node.test is None else [node.test])]
        names = names | {"loop"} | {name.name for name in _targets(node.target)}
    for child in below:
        _require_known(child, names, depth + 1)


def _as_template_data(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return nodes.TemplateData(node.value, lineno=node.lineno)
    return node


def _targets(target: nodes.Node) -> list[nodes.Name]:
    found = [target] if isinstance(target, nodes.Name) else list(target.find_all(nodes.Name))
    for name in found:
        if name.name in (*NAMES, "loop") or name.name.startswith("_"):
            raise JinjaError(f"a loop's variable cannot be called {name.name!r}")
    return found


def _require_listed(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise JinjaError(f"it uses the {kind} {name!r}: there are {', '.join(known)}")


@pass_context
def _count_turns(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    """Yield the values of a loop until the turns of all loops are used up."""
    left = context[_TURNS]
    for value in values:
        left[0] -= 1
        if left[0] < 0:
            raise JinjaError(f"its loops take more than {MOST_TURNS} turns")
        yield value


@pass_context
def _mark(context: Context, value: Any) -> Piece:
    seen: _Seen = context[_SEEN]
    return seen.mark(value)


def _replace(text: str, old: str, new: str) -> str:
    text, old, new = str(text), str(old), str(new)
    _require_short(len(text) + text.count(old) * max(0, len(new) - len(old)))
    return text.replace(old, new)


def _join(values: Iterable[Any], between: str = "") -> str:
    texts = [str(value) for value in values]
    _require_short(sum(map(len, texts)) + len(texts) * len(between))
    return str(between).join(texts)


def _require_short(length: int) -> None:
    if length > MOST_TEXT:
        raise JinjaError(f"it makes a text of more than {MOST_TEXT} characters")


def _environment() -> ImmutableSandboxedEnvironment:
    # White space around blocks as transformers has it in chat templates.
    environment = ImmutableSandboxedEnvironment(
        finalize=_mark, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    given = environment.filters
    environment.filters = {name: given[name] for name in FILTERS}
    environment.filters |= {"replace": _replace, "join": _join, _TURNS: _count_turns}
    return environment


_ENVIRONMENT = _environment()
