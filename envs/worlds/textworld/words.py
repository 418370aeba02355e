"""A text game's state in words: what its facts say that the player can see.

TextWorld keeps a game's state as facts, such as `in(key, chest)`, and writes prose about them only through an
interpreter, which is slow. The words here are made from the facts themselves, and say no more than a room's description
and the inventory would: what is in a closed container, or in another room, is left out.

    workshop; exit east; exit north (wooden door, closed); gummy bear; chest (open, holds latchkey); carrying nothing
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

Fact = tuple[str, tuple[str, ...]]
"""A fact's name and the names of what it is about: ("in", ("key", "chest"))."""

PLAYER, INVENTORY = "P", "I"
DIRECTIONS = ("north", "east", "south", "west")

STATES = (
    *("open", "closed", "locked"),
    *("raw", "cooked", "fried", "roasted", "grilled", "burned"),
    *("uncut", "chopped", "diced", "sliced"),
)
"""Facts about one thing that are seen by looking at it, in the order in which they are told."""

TOLD_ANYWAY = ("look", "inventory")
"""Commands that would show what each observation tells."""

LAST_VERBS = ("drop", "put", "insert", "close", "lock", "examine")
"""Verbs whose commands are left out first where there are too many; the last ones before the others."""


def describe_facts(facts: Iterable[Fact]) -> str:
    """Return what the player sees and carries.

    Args:
        facts: all of the state.

    Raises:
        ValueError: if they do not say where the player is.
    """
    known = sorted(set(facts))
    room = next((names[1] for name, names in known if name == "at" and names[0] == PLAYER), None)
    if room is None:
        raise ValueError("No fact says where the player is: at(P, room) is missing.")
    states = {thing: [state for state in STATES if (state, (thing,)) in set(known)] for thing in _things(known)}
    parts = [room, *_exits(known, room, states)]
    for name, names in known:
        if name == "at" and names[1] == room and names[0] != PLAYER:
            parts.append(_told(names[0], known, states))
    carried = [_told(names[0], known, states) for name, names in known if name == "in" and names[1] == INVENTORY]
    parts.append(f"carrying {', '.join(carried) or 'nothing'}")
    return "; ".join(parts)


def useful_commands(commands: Sequence[str], readable: Iterable[str], most: int) -> tuple[str, ...]:
    """Return the commands that are offered: each once, sorted, at most `most`.

    Left out are those that show what is told anyway, and `examine` but for things with a text of their own. Where there
    are still too many, `LAST_VERBS` say what goes first.

    Args:
        commands: that the game would take now.
        readable: names of things with a text.
        most: how many.
    """
    worth_reading = {f"examine {name}" for name in readable}
    offered = {
        command
        for command in commands
        if command not in TOLD_ANYWAY and (not command.startswith("examine ") or command in worth_reading)
    }
    if not offered:  # a state in which nothing else can be done
        offered = set(commands[:1]) or {"look"}
    if len(offered) > most:
        offered = set(sorted(offered, key=_usefulness)[:most])
    return tuple(sorted(offered))


def without_layout(text: str) -> str:
    """Return a text in one line, without the pictures and rules that a game draws with characters."""
    lines = (line.strip() for line in text.splitlines())
    return " ".join(" ".join(line for line in lines if re.search(r"\w", line)).split())


def read_texts(texts: Mapping[str, str]) -> str:
    """Return what was read, each text with the name of what it stands in."""
    return "; ".join(f"{name} reads: {without_layout(text)}" for name, text in texts.items())


def _exits(known: Sequence[Fact], room: str, states: Mapping[str, Sequence[str]]) -> list[str]:
    doors = {names[2]: names[1] for name, names in known if name == "link" and names[0] == room}
    exits = []
    for direction in DIRECTIONS:
        for name, names in known:
            if name == f"{direction}_of" and names[1] == room:
                door = doors.get(names[0])
                told = f" ({', '.join([door, *states.get(door, ())])})" if door else ""
                exits.append(f"exit {direction}{told}")
    return exits


def _told(thing: str, known: Sequence[Fact], states: Mapping[str, Sequence[str]]) -> str:
    details = list(states.get(thing, ()))
    if "closed" not in details and "locked" not in details:
        inside = [_told(names[0], known, states) for name, names in known if name == "in" and names[1] == thing]
        details += [f"holds {' and '.join(inside)}"] if inside else []
    upon = [_told(names[0], known, states) for name, names in known if name == "on" and names[1] == thing]
    details += [f"{' and '.join(upon)} on it"] if upon else []
    return f"{thing} ({', '.join(details)})" if details else thing


def _things(known: Sequence[Fact]) -> set[str]:
    return {names[0] for _, names in known if len(names) == 1}


def _usefulness(command: str) -> tuple[int, str]:
    verb = command.split()[0]
    return (LAST_VERBS.index(verb) + 1 if verb in LAST_VERBS else 0), command
