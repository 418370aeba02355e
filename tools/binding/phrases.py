"""How scenes are put into words: templates, some of which only measure what was learned.

Nothing here names a thing: nouns, adjectives and most verbs are drawn from the lexicon.
"""

from __future__ import annotations

from typing import NamedTuple

VERBS = (
    "take get find reach touch choose grab fetch pick visit approach select want need collect seek "
    "pick_up go_to walk_to look_for go_over_to move_to get_hold_of head_for"
).replace("_", "\0")
COMMON_VERBS = tuple(verb.replace("\0", " ") for verb in VERBS.split())
"""Of half of all instructions; the others have any verb at all, so that none is relied upon."""

DIRECTIONS = (
    ("left", "right", "ahead", "behind"),
    ("north", "south", "east", "west"),
    ("left", "right", "up", "down"),
    ("left", "right", "forward", "back"),
)
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
PLACES = [
    "slot",
    "box",
    "place",
    "room",
    "shelf",
    "table",
    "drawer",
    "corner",
    "seat",
    "cell",
    "gate",
    "spot",
    "number",
    "position",
    "basket",
]
ROWS = (
    ("from left to right", "left of", "right of"),
    ("in order", "before", "after"),
    ("from top to bottom", "above", "below"),
    ("from front to back", "in front of", "behind"),
)
"""How a row of things is introduced, and what is on either side of a thing in it."""
RELATIONS = ("left of", "right of", "behind", "in front of", "above", "below", "next to", "under", "on", "inside")


class Phrases(NamedTuple):
    """Templates of one split. `{v}` is a verb, `{x}` names a thing, `{t}` a thing as it is seen, `{l}` its place."""

    instructions: tuple[str, ...]
    labelled: tuple[str, ...]
    """A thing in a place with a number."""
    located: tuple[str, ...]
    """A thing in a place with a name."""
    sides: tuple[str, ...]
    """Asks for what stands beside `{x}`: `{r}` is the relation, `{n}` the noun of what is asked for."""
    negations: tuple[str, ...]
    sequences: tuple[str, ...]
    """Of `{a}` and then `{b}`."""
    done: tuple[str, ...]
    """Tells what was done: `{t}`."""
    deliveries: tuple[str, ...]
    """Of `{x}` to the place `{p}`."""
    here: tuple[str, ...]
    holding: tuple[str, ...]
    choices: tuple[str, ...]
    """What an action is called that chooses `{t}`."""


TRAIN = Phrases(
    instructions=(
        *["{v} {x}"] * 6,
        "{x} is what you should {v}",
        "could you {v} {x} now",
        "where is {x}?",
        "your job: {v} {x}",
        "{x}",
        "{v} {x} please",
    ),
    labelled=("{l}: {t}", "{l} holds a {t}", "a {t} in {l}", "{l} = {t}", "in {l} there is a {t}"),
    located=(
        "the {t} is in the {l}",
        "there is a {t} in the {l}",
        "{l}: {t}",
        "{t} ({l})",
        "you see a {t} at the {l}",
    ),
    sides=(
        "{v} what is {r} {x}",
        "{v} the thing {r} {x}",
        "{v} whatever is {r} {x}",
        "{v} the {n} {r} {x}",
        "{v} the {n} {r} {x}",
        "what is {r} {x}?",
    ),
    negations=(
        "{v} anything but {x}",
        "do not {v} {x}",
        "{v} not {x} but the other thing",
        "never {v} {x}",
        "{v} the thing that is not {x}",
    ),
    sequences=(
        "{a}, then {b}",
        "first {a}, then {b}",
        "{b} after you {a}",
        "{a} before you {b}",
        "{a} and then {b}",
        "once you {a}, {b}",
    ),
    done=("done: {t}", "you did: {t}", "already {t}", "finished: {t}", "you have: {t}"),
    deliveries=(
        "carry {x} to {p}",
        "put {x} in the {p}",
        "the {p} is where {x} belongs",
        "move {x} into the {p}",
        "{x} should go to the {p}",
    ),
    here=("you are in the {l}", "room: {l}", "you stand in the {l}", "location: {l}"),
    holding=("you carry {t}", "in your hands: {t}", "you hold {t}", "holding {t}"),
    choices=("take the {t}", "{t}", "choose the {t}", "go to {t}", "open {t}", "look in {t}", "answer {t}"),
)

HELD_OUT = Phrases(
    instructions=("would you kindly {v} {x}", "i need you to {v} {x}", "{v} for me {x}"),
    labelled=("{l} contains {t}", "{t} lies in {l}"),
    located=("inside the {l} stands the {t}", "the {l} has a {t}"),
    sides=("{v} that which stands {r} {x}", "which thing is {r} {x}?", "i want the {n} {r} {x}"),
    negations=("whatever you {v}, not {x}", "{v} the one other than {x}"),
    sequences=("{a}; afterwards {b}", "begin with this: {a}, and end with this: {b}"),
    done=("so far you did: {t}", "behind you: {t}"),
    deliveries=("deliver {x} to the {p}", "get {x} over to the {p}"),
    here=("this is the {l}", "you find yourself in the {l}"),
    holding=("with you: {t}", "your bag holds {t}"),
    choices=("select {t}", "use the {t}"),
)
