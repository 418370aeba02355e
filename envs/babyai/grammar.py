"""BabyAI's instructions as sentences with parts: from the words to a tree and back.

    instruction = part | part ", then " part | part " after you " part
    part        = action | action " and " action
    action      = "go to " thing | "pick up " thing | "open " thing | "put " thing " next to " thing
    thing       = ("a" | "the") [color] (kind | "object") [place]

after Chevalier-Boisvert et al. 2019 (arXiv 1810.08272, figure 2), and of our own, for `heed.envs.babyai.relations`,

    action      = ("go to " | "pick up " | "open ") thing relation thing

`str` gives back the words that `parse` read.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Literal

from heed.envs.babyai.relations import RELATIONS

COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
KINDS = ("ball", "box", "key", "door", "object")
"""What a thing can be called; an "object" is any of the others."""
PLACES = ("on your left", "on your right", "in front of you", "behind you")
"""Where a thing was when the episode began, as the agent stood then."""

Article = Literal["a", "the"]
Verb = Literal["go to", "pick up", "open", "put"]
VERBS: tuple[Verb, ...] = ("go to", "pick up", "open", "put")
Order = Literal["and", "then", "after"]

_THING = re.compile(rf"(a|the)(?: ({'|'.join(COLORS)}))? ({'|'.join(KINDS)})(?: ({'|'.join(PLACES)}))?")
JOINTS: dict[Order, str] = {"then": ", then ", "after": " after you ", "and": " and "}


class GrammarError(ValueError):
    """These words are no instruction of BabyAI's. The message quotes them."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """What an action is about: "a red ball on your left"."""

    article: Article
    color: str | None = None
    kind: str
    place: str | None = None
    relation: str | None = None
    """To `anchor`: one of `heed.envs.babyai.relations.RELATIONS`. Both are None where the thing is named by itself."""
    anchor: Thing | None = None

    def __str__(self) -> str:
        words = " ".join(filter(None, (self.article, self.color, self.kind, self.place)))
        return f"{words} {self.relation} {self.anchor}" if self.anchor else words

    @property
    def alone(self) -> Thing:
        """The thing without its relation."""
        return replace(self, relation=None, anchor=None)


@dataclass(frozen=True, kw_only=True)
class Action:
    """One thing to do; `beside` is the second thing of "put … next to …", and None of the others."""

    verb: Verb
    thing: Thing
    beside: Thing | None = None

    def __str__(self) -> str:
        return f"{self.verb} {self.thing}" + (f" next to {self.beside}" if self.beside else "")


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """Two parts in some order; only an `and` may stand inside another sequence."""

    order: Order
    first: Action | Sequence
    second: Action | Sequence

    def __str__(self) -> str:
        return f"{self.first}{JOINTS[self.order]}{self.second}"


Instruction = Action | Sequence


@functools.lru_cache(maxsize=10_000)
def parse(words: str) -> Instruction:
    """Return what `words` say.

    Raises:
        GrammarError: if they are not of BabyAI's grammar.
    """
    instruction = _parse(words, ("then", "after", "and"))
    if instruction is None:
        raise GrammarError(f"{words!r} is no instruction of BabyAI's grammar.")
    return instruction


def is_of_the_grammar(words: str) -> bool:
    """Say whether `parse` reads these words."""
    try:
        parse(words)
    except GrammarError:
        return False
    return True


def with_roles_swapped(instruction: Instruction) -> Action | None:
    """Return the same action with its two things in each other's place, or None where it has not two.

    "put the ball next to the box" becomes "put the box next to the ball"; "go to the ball left of the box" likewise.
    """
    if isinstance(instruction, Sequence):
        return None
    thing, anchor = instruction.thing, instruction.thing.anchor
    if instruction.beside is not None:
        return replace(instruction, thing=instruction.beside, beside=thing)
    if anchor is None:
        return None
    return replace(instruction, thing=replace(anchor, relation=thing.relation, anchor=thing.alone))


def _parse(words: str, orders: tuple[Order, ...]) -> Instruction | None:
    """Read a sequence of one of `orders`, or an action."""
    for order in orders:
        first, joint, second = words.partition(JOINTS[order])
        if joint:
            inside: tuple[Order, ...] = () if order == "and" else ("and",)
            parts = _parse(first, inside), _parse(second, inside)
            return None if None in parts else Sequence(order=order, first=parts[0], second=parts[1])  # type: ignore[arg-type]
    return _parse_action(words)


def _parse_action(words: str) -> Action | None:
    for verb in VERBS:
        if not words.startswith(f"{verb} "):
            continue
        rest = words.removeprefix(f"{verb} ")
        if verb == "put":
            thing, beside = (_parse_thing(part) for part in (*rest.split(" next to ", 1), "")[:2])
            return Action(verb=verb, thing=thing, beside=beside) if thing and beside else None
        only = _parse_thing(rest) or _parse_related(rest)
        return Action(verb=verb, thing=only) if only else None
    return None


def _parse_related(words: str) -> Thing | None:
    for relation in RELATIONS:
        first, joint, second = words.partition(f" {relation} ")
        thing, anchor = _parse_thing(first), _parse_thing(second)
        if joint and thing and anchor:
            return replace(thing, relation=relation, anchor=anchor)
    return None


def _parse_thing(words: str) -> Thing | None:
    match = _THING.fullmatch(words)
    if match is None:
        return None
    article, color, kind, place = match.groups()
    return Thing(article="a" if article == "a" else "the", color=color, kind=kind, place=place)
