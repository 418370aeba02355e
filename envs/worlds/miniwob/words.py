"""A web page in words, and what can be done on it: from a tree of elements to texts, without a browser.

The tree is what MiniWoB++'s pages tell of themselves (`core.getDOMInfo`) with what `web_page.js` adds to it. A page is
told as a person would read it aloud, line by line and from left to right:

    Password (heading); password box (focused, empty); button Login

What can be clicked, typed into or chosen from is told with its kind and its name; the rest is its text. Actions use
the same names: "click button Login" (`web_actions.py`). Each name is of one thing, each text of one action: what is
called alike is numbered, the second with "(2)", and so are the options of a list; one without words is "(empty)".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Element = Mapping[str, Any]
"""One element with its `children`; keys that say nothing may be missing."""

MAX_NAME_LENGTH = 60
"""Characters of a thing's name; longer ones are cut, and a container with more text than that is not one thing."""

MAX_WORDS_LENGTH = 2000
"""Characters of a page's words unless told otherwise."""

KINDS = {
    "a": "link",
    "area": "link",
    "button": "button",
    "input_button": "button",
    "input_submit": "button",
    "input_reset": "button",
    "input_image": "button",
    "input_checkbox": "checkbox",
    "input_radio": "radio button",
    "input_password": "password box",
    "input_range": "slider",
    "textarea": "text box",
    "select": "list",
    "option": "option",
    "img": "image",
    "li": "item",
    "td": "cell",
    "th": "cell",
    "tr": "row",
    "label": "label",
    "rect": "rectangle",
    "circle": "circle",
    "ellipse": "ellipse",
    "line": "line",
    "path": "shape",
    **{f"h{level}": "heading" for level in range(1, 7)},
}
"""What an element is called, by its tag."""

CONTROLS = ("link", "button", "checkbox", "radio button", "password box", "slider", "text box", "list", "option")
"""Kinds that are there to be used, whether or not the page says that it listens to clicks on them."""

TYPED = ("text box", "password box")

EMPTY = "(empty)"
"""The name of an option without words."""

UNTELLING = frozenset(
    (
        *("active", "clicked", "default", "focus", "highlighted", "hover", "selected", "state"),
        *("all", "answer", "area", "box", "btn", "button", "checkbox", "clickable", "col", "color", "container"),
        *("corner", "div", "handle", "icon", "input", "item", "options", "radio", "span", "text", "textarea", "wrap"),
    )
)
"""Words of ids and classes that say what an element is or how it is, not which one."""

BUTTONS = ("input_button", "input_submit", "input_reset")
"""Tags whose value is their name."""

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "silver": (192, 192, 192),
    "red": (255, 0, 0),
    "maroon": (128, 0, 0),
    "orange": (255, 165, 0),
    "brown": (165, 42, 42),
    "yellow": (255, 255, 0),
    "olive": (128, 128, 0),
    "lime": (0, 255, 0),
    "green": (0, 128, 0),
    "cyan": (0, 255, 255),
    "teal": (0, 128, 128),
    "blue": (0, 0, 255),
    "navy": (0, 0, 128),
    "magenta": (255, 0, 255),
    "purple": (128, 0, 128),
    "pink": (255, 192, 203),
}
"""As CSS knows them, by the name that utterances use where it has two; a colour is called by the nearest."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One of a list's options that can be chosen."""

    name: str
    """Unlike those of the list's other options."""
    index: int
    """Its place among all of the list's options, those that cannot be chosen included."""
    taken_back: bool = False
    """Whether it is chosen already, and choosing it again takes that back."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something on a page that can be used, or a text that can only be read."""

    kind: str
    """Such as "button"; empty for a text."""
    name: str
    ref: int
    """The element's number in its page."""
    box: tuple[float, float, float, float]
    """Left, top, width, height, in pixels."""
    states: tuple[str, ...] = ()
    """Such as "focused"."""
    options: tuple[Option, ...] = ()
    """Of a list."""
    usable: bool = True
    number: int = 1
    """Which of those that are called alike it is."""

    @property
    def words(self) -> str:
        """Kind and name."""
        return " ".join(part for part in (self.kind, self.name) if part)

    @property
    def title(self) -> str:
        """What it is called: "button ONE", and "button ONE (2)" for the second."""
        return f"{self.words} ({self.number})" if self.number > 1 else self.words


def things_on(page: Element) -> tuple[Thing, ...]:
    """Return all that is told of a page, in reading order.

    Args:
        page: the root of its elements.
    """
    found = list(_things(page, delegated=False))
    if not any(thing.usable for thing in found):  # a page that listens nowhere in particular may do so everywhere
        found = [replace(thing, kind=thing.kind or "text", usable=thing.ref > 0) for thing in found]
    ordered = in_reading_order(found)
    numbers = iter(_numbers([thing.words for thing in ordered if thing.usable]))
    return tuple(replace(thing, number=next(numbers)) if thing.usable else thing for thing in ordered)


def _numbers(names: Sequence[str]) -> list[int]:
    """Return a number for each name, 1 where it is the first of its kind, so that "name (number)" is of one only."""
    taken, numbers = set(names), []
    seen: set[str] = set()
    for name in names:
        number = 1
        if name in seen:
            number = 2
            while f"{name} ({number})" in taken:  # given before, or the very words of another
                number += 1
            taken.add(f"{name} ({number})")
        seen.add(name)
        numbers.append(number)
    return numbers


def describe(things: Sequence[Thing], max_length: int = MAX_WORDS_LENGTH) -> str:
    """Put things into words; texts that follow each other become one, and what is too long is cut.

    Args:
        things: in the order in which they are told.
        max_length: characters.
    """
    parts: list[str] = []
    previous_is_text = False
    for thing in things:
        if thing.usable:
            states = f" ({', '.join(thing.states)})" if thing.states else ""
            parts.append(thing.title + states)
        elif previous_is_text:
            parts[-1] += f" {thing.name}"
        else:
            parts.append(thing.name)
        previous_is_text = not thing.usable
    words = "; ".join(parts) or "an empty page"
    return words if len(words) <= max_length else words[: max_length - 4] + " ..."


def in_reading_order(things: Sequence[Thing]) -> list[Thing]:
    """Return things line by line, and each line from left to right; a line has its middles at one height."""
    rows: list[list[Thing]] = []
    for thing in sorted(things, key=lambda thing: (thing.box[1] + thing.box[3] / 2, thing.box[0])):
        middle = thing.box[1] + thing.box[3] / 2
        first = rows[-1][0] if rows else None
        reach = max(4.0, 0.3 * min(thing.box[3], first.box[3])) if first else 0.0
        if first is not None and abs(middle - (first.box[1] + first.box[3] / 2)) <= reach:
            rows[-1].append(thing)
        else:
            rows.append([thing])
    return [thing for row in rows for thing in sorted(row, key=lambda thing: thing.box[0])]


def colour_name(colour: str) -> str:
    """Return the name of a CSS colour such as "rgb(255, 0, 0)"; empty where there is none, or it cannot be seen."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", colour)]
    if not colour.startswith("rgb") or len(numbers) < 3 or (len(numbers) > 3 and numbers[3] == 0):
        return ""
    return min(
        COLOURS,
        key=lambda name: sum((a - b) ** 2 for a, b in zip(COLOURS[name], numbers, strict=False)),
    )


def _things(element: Element, *, delegated: bool) -> Iterator[Thing]:
    """Yield what is told of an element: itself with all its text, or what is in it.

    Args:
        element: of the page.
        delegated: whether something around it listens to clicks, which then are clicks on the element too.
    """
    if element.get("hidden"):
        return
    children: Sequence[Element] = element.get("children", ())
    if element.get("labels"):  # its text is told as the name of what it labels, which may stand in it
        for child in children:
            yield from (thing for thing in _things(child, delegated=False) if thing.usable)
        return
    kind, text = _kind(element), _text(element)
    listens = bool(element.get("clickable")) or kind in CONTROLS
    if not children:
        if kind in CONTROLS or ((listens or delegated) and element["ref"] > 0):
            yield _usable(element, kind, text)
        elif text:
            yield Thing(kind="", name=text, ref=element["ref"], box=_box(element), usable=False)
        elif _is_drawn(element):
            thing = _usable(element, kind, text)
            yield replace(thing, kind="", name=f"{thing.title} ({', '.join(thing.states)})", states=(), usable=False)
        return
    inner = any(_listens_within(child) for child in children)
    text = _own_text(element)
    if listens and text and len(text) <= MAX_NAME_LENGTH:
        yield _usable(element, kind, text)
        if inner:
            for child in children:
                yield from (thing for thing in _things(child, delegated=False) if thing.usable)
    elif listens and not inner and not text and kind in CONTROLS:
        yield _usable(element, kind, text)  # a button with a picture in it
    else:
        for child in children:
            yield from _things(child, delegated=delegated or listens)


def _usable(element: Element, kind: str, text: str) -> Thing:
    if kind in TYPED or kind == "list":
        text = ""  # what is in it is its state
    name = text or str(element.get("label") or element.get("name") or "")
    if not name and str(element.get("tag", "")).lower() in BUTTONS:
        name = str(element.get("value") or "")
    if not name:
        name = _telling(str(element.get("id", "")))
    if not name and kind not in CONTROLS:
        classes = element.get("classes", "")  # of a drawing it is no text
        name = _telling(classes) if isinstance(classes, str) else ""
        if "fill" not in element:
            name = " ".join(part for part in (name, colour_name(str(element.get("bgColor") or ""))) if part)
    if "fill" in element:  # a drawing is known by its colour, whatever else it is
        name = " ".join(part for part in (colour_name(str(element["fill"])), name) if part)
    if not kind:
        kind = (
            "icon" if not text and str(element.get("tag", "")).lower() in ("span", "i") else "text" if text else "box"
        )
    return Thing(
        kind=kind,
        name=_short(name),
        ref=element["ref"],
        box=_box(element),
        states=tuple(_states(element, kind)),
        options=tuple(_options(element)),
    )


def _option_names(element: Element) -> list[str]:
    """Return what all options of a list are called, each differently."""
    texts = [" ".join(str(option).split()) or EMPTY for option in element.get("options", ())]
    pairs = zip(texts, _numbers(texts), strict=True)
    return [f"{text} ({number})" if number > 1 else text for text, number in pairs]


def _options(element: Element) -> Iterator[Option]:
    unusable, multiple = set(element.get("unusable", ())), bool(element.get("multiple"))
    chosen = set(element.get("chosen", ())) if multiple else set()
    for index, name in enumerate(_option_names(element)):
        if index not in unusable:
            yield Option(name=name, index=index, taken_back=index in chosen)


def _states(element: Element, kind: str) -> Iterator[str]:
    value = element.get("value")
    if "fill" in element:
        yield f"{round(_box(element)[3])} high"
    if element.get("focused"):
        yield "focused"
    if element.get("disabled"):
        yield "disabled"
    if kind in TYPED:
        yield f'"{value}"' if value else "empty"
    elif kind == "checkbox":
        yield "checked" if value else "not checked"
    elif kind == "radio button":
        yield "chosen" if value else "not chosen"
    elif kind == "list" and "chosen" in element:
        names = _option_names(element)
        yield f'"{", ".join(names[index] for index in element["chosen"])}"'
    elif kind in ("list", "slider"):
        yield f'"{value}"'
    elif element.get("tampered"):
        yield "clicked"


def _kind(element: Element) -> str:
    tag = str(element.get("tag", "")).lower()
    if tag == "polygon" or tag == "polyline":
        return "triangle" if element.get("points") == 3 else "shape"
    if tag.startswith("input_"):
        return KINDS.get(tag, "text box")
    classes = element.get("classes", "")
    if tag == "span" and isinstance(classes, str) and any(name.endswith("link") for name in classes.split()):
        return "link"
    return KINDS.get(tag, "")


def _text(element: Element) -> str:
    return " ".join(str(element.get("text") or "").split())


def _own_text(element: Element) -> str:
    """Return the text in an element that is not in something to use inside it."""
    parts = [_text(element)]
    for child in element.get("children", ()):
        if not child.get("hidden") and not child.get("clickable") and _kind(child) not in CONTROLS:
            parts.append(_own_text(child))
    return " ".join(part for part in parts if part)


def _listens_within(element: Element) -> bool:
    if element.get("hidden"):
        return False
    if element.get("clickable") or _kind(element) in CONTROLS:
        return True
    return any(_listens_within(child) for child in element.get("children", ()))


def _is_drawn(element: Element) -> bool:
    return bool(element.get("fill")) and _kind(element) in ("rectangle", "circle", "ellipse", "triangle", "shape")


def _box(element: Element) -> tuple[float, float, float, float]:
    left, top, width, height = (float(element.get(key, 0)) for key in ("left", "top", "width", "height"))
    return left, top, width, height


def _telling(name: str) -> str:
    """Return the words in an id or in classes, without those that only a program knows."""
    words = re.findall(r"[A-Z]?[a-z]+", name)
    told = (word.lower() for word in words if len(word) > 2 and re.search("[aeiouy]", word.lower()))
    return " ".join(dict.fromkeys(word for word in told if word not in UNTELLING))


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 4].rstrip() + " ..."
