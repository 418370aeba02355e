"""The values of any Gymnasium space in words.

    cart position 0.02; cart velocity -0.31          a Box with the names of its fields
    door open; lamps on: 0, 3; bag 2 items: 5, 1     a Dict of a Text, a MultiBinary and a Sequence

- Between semicolons stands one thing each; what lies in a Dict is called by its keys ("desk lamp 3").
- Numbers have three significant digits (`number_in_words`), whole ones all of theirs. An array with more than
  `MOST_SPELT` entries is only summarised (`heed.envs.words.large_arrays`).
- Values that differ by more than that have different words, however spaces are nested: lists say how long they are,
  what holds separators stands in brackets inside a list, and a text that holds them in quotation marks.
- On request each number is followed by what it has changed since the value before, "0.02 (+0.01)", and anything else
  by what it was, "open (was closed)".
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import iterate

from heed.envs.words.large_arrays import MOST_SPELT, is_large, summary_of

Names: TypeAlias = "Sequence[str] | Mapping[str, Names]"
"""What fields are called: of an array, or a Tuple, one name for each entry; of a Dict by its keys, some or all."""

DIGITS = 3
"""Significant digits of a number that is not whole."""

NOTHING = "nothing"
"""What the words say of a space that holds nothing."""

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_REAL = (float, np.floating)  # a longdouble becomes no float of Python's
_ROW_SEPARATORS = (" ", ", ", " / ")  # between numbers, rows, tables


def describe(
    space: spaces.Space[Any], value: Any, *, names: Names | None = None, before: Any = None, digits: int = DIGITS
) -> str:
    """Put a `value` of a Gymnasium `space` into words; who has many of them makes one `Describer`.

    Args:
        space: any, also one of another library; what is not known here is told by `str`.
        value: in `space`.
        names: what the fields are called.
        before: an earlier value, to say what has changed; None says nothing of that.
        digits: significant digits.

    Raises:
        ValueError: if there are more or fewer names than fields.
    """
    return Describer(space, names=names, digits=digits)(value, before)


class Describer:
    """What puts the values of one space into words; arguments as in `describe`."""

    def __init__(self, space: spaces.Space[Any], *, names: Names | None = None, digits: int = DIGITS):
        self._part = _part_of(space, _Place(names=names, digits=digits))

    def __call__(self, value: Any, before: Any = None) -> str:
        """Return the words for `value`."""
        return "; ".join(self._part.phrases(value, before)) or NOTHING


def number_in_words(value: float, digits: int = DIGITS) -> str:
    """Return a number as people write it: "0.0123", "-4", "123457", "1.2e-7", "infinity", "not a number"."""
    if value != value:
        return "not a number"
    if value in (math.inf, -math.inf):
        return "infinity" if value > 0 else "minus infinity"
    text = f"{value + 0.0:.{digits}g}"  # adding zero turns -0.0 into 0.0
    if "e" not in text:
        return text
    if 1 <= abs(value) < 1e6:
        return f"{value:.0f}"
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


class _Place:
    """Where a space stands in the whole, and what is told about it there."""

    def __init__(self, *, name: str = "", names: Names | None = None, digits: int = DIGITS, listed: bool = False):
        self.name, self.names, self.digits, self.listed = name, names, digits, listed

    def below(self, name: str, names: Names | None = None) -> _Place:
        """Return the place of a part that is called `name` here."""
        return _Place(name=f"{self.name} {name}".strip(), names=names, digits=self.digits, listed=self.listed)

    def in_list(self) -> _Place:
        """Return the place of an item of a list, which begins anew."""
        return _Place(digits=self.digits, listed=True)


class _Part(ABC):
    """Words for the values of one space at one place."""

    holds_separators = True
    """Do the words need brackets inside a list?"""

    def __init__(self, place: _Place):
        self._prefix = f"{place.name} " if place.name else ""

    @abstractmethod
    def words(self, value: Any) -> str:
        """Return the words without a name."""

    def phrases(self, value: Any, before: Any) -> list[str]:
        """Return what stands between semicolons, each with its name."""
        words = self.words(value)
        if before is not None and (was := self.words(before)) != words:
            words = f"{words} (was {was})"
        return [self._prefix + words]

    def item(self, value: Any) -> str:
        """Return the words for `value` inside a list."""
        words = self.words(value)
        return f"({words})" if self.holds_separators else words


class _Whole(_Part):
    """A whole number that names something: 5 is not one more than 4."""

    holds_separators = False

    def words(self, value: Any) -> str:
        return str(int(value))


class _Text(_Part):
    """A text as it is, or in quotation marks where it might be mistaken for something else."""

    holds_separators = False

    def __init__(self, place: _Place):
        super().__init__(place)
        self._separators = "" if not (place.name or place.listed) else ";,()\n" if place.listed else ";\n"

    def words(self, value: Any) -> str:
        text = str(value)
        plain = text and text.strip() == text and text[0] != '"' and not any(sign in text for sign in self._separators)
        return text if plain else json.dumps(text, ensure_ascii=False)


class _Array(_Part):
    """Numbers of a fixed shape, without names."""

    def __init__(self, shape: tuple[int, ...], place: _Place, *, ordered: bool):
        super().__init__(place)
        self.holds_separators = len(shape) > 1
        self._shape, self._digits, self._ordered = shape, place.digits, ordered

    def entries(self, value: Any, before: Any) -> list[str]:
        """Return the words for each entry, with its change."""
        numbers = np.asarray(value).ravel().tolist()
        told = [self._number(number) for number in numbers]
        if before is None:
            return told
        earlier = np.asarray(before).ravel().tolist()
        return [text + self._change(*pair) for text, *pair in zip(told, numbers, earlier, strict=True)]

    def words(self, value: Any) -> str:
        return self._in_rows(self.entries(value, None))

    def phrases(self, value: Any, before: Any) -> list[str]:
        return [self._prefix + self._in_rows(self.entries(value, before))]

    def _number(self, number: Any) -> str:
        return number_in_words(float(number), self._digits) if isinstance(number, _REAL) else str(int(number))

    def _change(self, number: Any, earlier: Any) -> str:
        if self._number(number) == self._number(earlier) == "not a number":
            return ""
        if self._ordered and math.isfinite(number) and math.isfinite(earlier):
            change = self._number(number - earlier)
            return "" if change == "0" else f" ({change})" if change[0] == "-" else f" (+{change})"
        return "" if number == earlier else f" (was {self._number(earlier)})"

    def _in_rows(self, entries: list[str]) -> str:
        for level, length in enumerate(reversed(self._shape[1:])):
            separator = _ROW_SEPARATORS[min(level, 2)]
            entries = [separator.join(entries[i : i + length]) for i in range(0, len(entries), length)]
        return _ROW_SEPARATORS[min(max(len(self._shape) - 1, 0), 2)].join(entries) or NOTHING


class _NamedArray(_Array):
    """Numbers that have names: each is a phrase of its own."""

    def __init__(self, shape: tuple[int, ...], place: _Place, names: Sequence[str], *, ordered: bool):
        super().__init__(shape, place, ordered=ordered)
        self.holds_separators = True
        self._names = [f"{self._prefix}{name} " for name in names]

    def words(self, value: Any) -> str:
        return "; ".join(self.phrases(value, None))

    def phrases(self, value: Any, before: Any) -> list[str]:
        return [name + text for name, text in zip(self._names, self.entries(value, before), strict=True)]


class _Switches(_Part):
    """What is on: the entries' names, or their places."""

    def __init__(self, shape: tuple[int, ...], place: _Place, names: Sequence[str] | None):
        super().__init__(place)
        self._names = names or [" ".join(map(str, index)) for index in np.ndindex(*shape)]

    def words(self, value: Any) -> str:
        switches = np.asarray(value).ravel().tolist()
        on = [name for name, switch in zip(self._names, switches, strict=True) if switch]
        return f"on: {', '.join(on)}" if on else "none on"


class _Summary(_Part):
    """An array that is too large to be told entry by entry."""

    def __init__(self, space: spaces.Space[Any], place: _Place):
        super().__init__(place)
        self._summary = summary_of(space)

    def words(self, value: Any) -> str:
        return self._summary(value)


class _Fields(_Part):
    """A Dict or a Tuple: its fields one after the other."""

    def __init__(self, fields: Mapping[Any, spaces.Space[Any]], called: Sequence[str], place: _Place):
        super().__init__(place)
        below = place.names if isinstance(place.names, Mapping) else {}
        self._fields = [
            (key, _part_of(space, place.below(name, below.get(str(key)))))
            for (key, space), name in zip(fields.items(), called, strict=True)
        ]

    def words(self, value: Any) -> str:
        return "; ".join(self.phrases(value, None)) or NOTHING

    def phrases(self, value: Any, before: Any) -> list[str]:
        told: list[str] = []
        for key, part in self._fields:
            told += part.phrases(value[key], None if before is None else before[key])
        return told


class _List(_Part):
    """A Sequence: how many items, and each of them."""

    def __init__(self, space: spaces.Sequence, place: _Place):
        super().__init__(place)
        self._space = space
        self._item = _part_of(space.feature_space, place.in_list())

    def words(self, value: Any) -> str:
        if self._space.stack:
            value = list(iterate(self._space.stacked_feature_space, value))
        if len(value) == 0:
            return "no items"
        told = [self._item.item(item) for item in value[:MOST_SPELT]]
        more = f", and {len(value) - len(told)} more" if len(value) > len(told) else ""
        return f"{len(value)} item{'s' if len(value) > 1 else ''}: {', '.join(told)}{more}"


class _Choice(_Part):
    """A OneOf: which of its spaces, and the value there."""

    def __init__(self, space: spaces.OneOf[Any], place: _Place):
        super().__init__(place)
        self._parts = [_part_of(part, place.in_list()) for part in space.spaces]

    def words(self, value: Any) -> str:
        index, chosen = value
        return f"option {int(index)}: {self._parts[int(index)].item(chosen)}"


class _Graph(_Part):
    """A Graph: its nodes and its edges, with what they carry."""

    def __init__(self, space: spaces.Graph, place: _Place):
        super().__init__(place)
        self._node = _part_of(space.node_space, place.in_list())
        self._edge = None if space.edge_space is None else _part_of(space.edge_space, place.in_list())

    def words(self, value: Any) -> str:
        return "; ".join([_counted("node", list(self._nodes(value))), _counted("edge", list(self._edges(value)))])

    def phrases(self, value: Any, before: Any) -> list[str]:
        return [self._prefix + phrase for phrase in self.words(value).split("; ")]

    def _nodes(self, value: Any) -> Iterator[str]:
        for index, node in enumerate(value.nodes):
            yield f"{index} is {self._node.item(node)}"

    def _edges(self, value: Any) -> Iterator[str]:
        for index, (start, end) in enumerate([] if value.edge_links is None else value.edge_links):
            carried = "" if self._edge is None else f" is {self._edge.item(value.edges[index])}"
            yield f"{int(start)} to {int(end)}{carried}"


def _counted(name: str, told: list[str]) -> str:
    if not told:
        return f"no {name}s"
    more = f", and {len(told) - MOST_SPELT} more" if len(told) > MOST_SPELT else ""
    return f"{len(told)} {name}{'s' if len(told) > 1 else ''}: {', '.join(told[:MOST_SPELT])}{more}"


def _part_of(space: spaces.Space[Any], place: _Place) -> _Part:
    """Return what puts the values of `space` into words at its place."""
    if is_large(space):
        return _Summary(space, place)
    match space:
        case spaces.Dict():
            return _Fields(space.spaces, keys_in_words(space), place)
        case spaces.Tuple():
            names = _names_for(len(space.spaces), place.names)
            return _Fields(dict(enumerate(space.spaces)), names or _ordinals(len(space.spaces)), place)
        case spaces.Discrete():
            return _Whole(place)
        case spaces.MultiBinary():
            return _Switches(space.shape, place, _names_for(math.prod(space.shape), place.names))
        case spaces.Box() | spaces.MultiDiscrete():
            ordered = isinstance(space, spaces.Box)  # 5 is one more than 4, not merely another choice
            if names := _names_for(math.prod(space.shape), place.names):
                return _NamedArray(space.shape, place, names, ordered=ordered)
            return _Array(space.shape, place, ordered=ordered)
        case spaces.Sequence():
            return _List(space, place)
        case spaces.Graph():
            return _Graph(space, place)
        case spaces.OneOf():
            return _Choice(space, place)
        case _:
            return _Text(place)


def keys_in_words(space: spaces.Dict) -> list[str]:
    """Return what a Dict's fields are called: their keys, with spaces for underscores."""
    keys = [str(key) for key in space.spaces]
    called = [key.replace("_", " ").strip() for key in keys]
    return called if len(set(called)) == len(called) and all(called) else keys


def _ordinals(count: int) -> list[str]:
    return [_ORDINALS[i] if i < len(_ORDINALS) else f"number {i + 1}" for i in range(count)] if count > 1 else [""]


def _names_for(count: int, names: Names | None) -> Sequence[str] | None:
    if names is None or isinstance(names, Mapping | str):
        return None
    if len(names) != count:
        raise ValueError(f"There are {len(names)} names for {count} fields: {list(names)}.")
    return names
