"""What can be done on a web page, in words: "click button Login", "choose Ann in list", "type Myron into text box".

Each action has a text of its own, made of the names that `web_words.py` gives to the things on the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heed.envs.worlds.miniwob.words import CONTROLS, TYPED, Thing


@dataclass(frozen=True, kw_only=True)
class WebAction:
    """One thing that can be done on a page."""

    text: str
    """Its words."""
    what: str
    """"click", "type", "choose", "press" or "wait"."""
    ref: int = 0
    """Of the element."""
    typed: str = ""
    """What to type, or the key to press."""
    index: int = 0
    """Which option to choose."""


def actions_on(
    things: Sequence[Thing], instruction: str, texts: Sequence[str], *, most: int, wait: bool = False
) -> tuple[WebAction, ...]:
    """Return what can be done: each action under a text of its own, at least one, at most `most`, in reading order.

    Where there is more than `most`, what shares a word with the instruction is kept first, then typing and choosing,
    then controls, then the rest.

    Args:
        things: on the page.
        instruction: of the episode.
        texts: that can be typed.
        most: how many.
        wait: whether one may do nothing.
    """
    ranked: dict[str, tuple[int, WebAction]] = {}
    told = set(_words_of(instruction))
    for thing in things:
        if not thing.usable or "disabled" in thing.states:
            continue
        near = 0 if told & set(_words_of(thing.name)) else 1
        rank = near if thing.kind in CONTROLS else near + 2
        _add(ranked, rank, WebAction(text=f"click {thing.title}", what="click", ref=thing.ref))
        if thing.kind in TYPED:
            for text in texts:
                action = WebAction(text=f"type {text} into {thing.title}", what="type", ref=thing.ref, typed=text)
                _add(ranked, 0, action)
            if "focused" in thing.states:
                _add(ranked, 0, WebAction(text="press enter", what="press", typed="Enter"))
        for option in thing.options:
            near = 0 if told & set(_words_of(option.name)) else 1
            verb = "unselect" if option.taken_back else "choose"
            text = f"{verb} {option.name} in {thing.title}"
            _add(ranked, near, WebAction(text=text, what="choose", ref=thing.ref, index=option.index))
    if wait or not ranked:
        _add(ranked, 0, WebAction(text="wait", what="wait"))
    if len(ranked) > most:
        worst = sorted(rank for rank, _ in ranked.values())[most - 1]
        room = most - sum(rank < worst for rank, _ in ranked.values())
        kept = []
        for rank, action in ranked.values():
            if rank == worst:
                room -= 1
            if rank < worst or (rank == worst and room >= 0):
                kept.append(action)
        return tuple(kept)
    return tuple(action for _, action in ranked.values())


def typed_texts(instruction: str, fields: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return what an instruction gives to type: its fields, else what stands in quotes, else its words.

    Args:
        instruction: such as 'Enter "Myron" into the text field and press Submit.'
        fields: names and values that the task knows the instruction to hold.
    """
    found = [value.strip() for _, value in fields]
    if not any(found):
        found = [text.strip() for text in re.findall(r'"([^"]*)"', instruction)]
    if not any(found):
        found = [word.strip(".,:;!?()") for word in instruction.split()]
    return tuple(dict.fromkeys(text for text in found if text))


def words_to_type(instruction: str) -> tuple[str, ...]:
    """Return what stands in quotes in an instruction, and each of its words, however little they look like a name."""
    quoted = [text.strip() for text in re.findall(r'"([^"]*)"', instruction)]
    words = [word.strip("\"'.,:;!?()") for word in instruction.split()]
    return tuple(dict.fromkeys(text for text in (*quoted, *words) if text))


def _add(ranked: dict[str, tuple[int, WebAction]], rank: int, action: WebAction) -> None:
    """Add an action, under a text of its own: "choose a in list b in list c" may be said of two lists."""
    text, number = action.text, 1
    while text in ranked:
        if replace(ranked[text][1], text=action.text) == action:
            return
        number += 1
        text = f"{action.text} ({number})"
    ranked[text] = (rank, replace(action, text=text))


def _words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
