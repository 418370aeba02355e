"""What an environment itself calls its fields and its actions: in attributes, enums, and its class's documentation.

Fields of observations have names in

- an attribute `observation_names` or `OBSERVATION_NAMES`: a sequence of names for an array's entries, or for a Dict a
  mapping from its keys to such sequences;
- a table in the class's docstring, as Gymnasium's own classes have it: `| Num | Observation | Min | Max |`, with a row
  for each entry of the array. In a Dict it belongs to the key that was named last above it.

Discrete actions have names in, the first that names all of them differently,

- a method `get_action_meanings()`, or an attribute `ACTION_MEANING`, `ACTION_MEANINGS`, `action_meanings`,
  `action_names` or `ACTION_NAMES`, in the class or its module: a sequence, or a mapping between numbers and names;
- an enum: `actions`, `Actions` or `Action`;
- the docstring's section on actions: "- 0: Push cart to the left", or a table `| Num | Action |`.

What does not fit the space (other entries than the space has, two that are the same) is no name: then there is none.
"""

from __future__ import annotations

import contextlib
import enum
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
from gymnasium import spaces

from heed.envs.words.changing_wrappers import Wrapper, action_changer, observation_changer, wrappers_down_to
from heed.envs.words.describe import Names

_OBSERVATION_ATTRIBUTES = ("observation_names", "OBSERVATION_NAMES")
_ACTION_ATTRIBUTES = ("ACTION_MEANING", "ACTION_MEANINGS", "action_meanings", "action_names", "ACTION_NAMES")
_ENUMS = ("actions", "Actions", "Action")

_HEADING = re.compile(r"^\s*#+\s*(.+?)\s*$|^\s*([A-Z][A-Za-z]+(?: [A-Za-z]+){0,2}):\s*$")
_LIST_ITEM = re.compile(r"^\s*(?:[-*]\s+)?`?(\d+)`?(?:\s*[:=]\s*|\s+-\s+|\.\s+|\s{2,})(\S.*?)\s*$")
_MARKUP = re.compile(r"<[^<>]*>|[`*]")


def observation_names(env: gymnasium.Env[Any, Any]) -> Names | None:
    """Return the names of the fields of what `env` observes, as `heed.envs.words.describe` takes them, or None."""
    space, changer = env.observation_space, observation_changer(env)
    for attribute in _OBSERVATION_ATTRIBUTES:
        if (names := _fitting(space, _attribute(env, attribute, changer))) is not None:
            return names
    if changer is not None:
        return None  # the documentation is of something else
    if isinstance(space, spaces.Dict):
        tables = {str(key): _table_for(env, part, key=str(key)) for key, part in space.spaces.items()}
        return {key: names for key, names in tables.items() if names is not None} or None
    return _table_for(env, space)


def action_names(env: gymnasium.Env[Any, Any]) -> tuple[str, ...] | None:
    """Return the names of the Discrete actions of `env`, in lower case, or None where it does not name them all."""
    space = env.action_space
    if not isinstance(space, spaces.Discrete):
        return None
    numbers = range(int(space.start), int(space.start) + int(space.n))
    for source in _action_sources(env):
        found = _named(source, numbers)
        texts = tuple(_in_lower_case(text) for text in found or ())
        if found is not None and all(texts) and len(set(texts)) == len(texts):
            return texts
    return None


def _action_sources(env: gymnasium.Env[Any, Any]) -> Iterator[Any]:
    """Yield what may name the actions: mappings, sequences, enums."""
    changer = action_changer(env)
    meanings = _attribute(env, "get_action_meanings", changer)
    if callable(meanings):
        with contextlib.suppress(NotImplementedError):  # a base class that leaves it to others
            yield meanings()
    if changer is not None:
        for attribute in (*_ACTION_ATTRIBUTES, *_ENUMS):
            yield _attribute(env, attribute, changer)
        return  # the innermost environment names other actions
    module = sys.modules.get(type(env.unwrapped).__module__)
    for attribute in _ACTION_ATTRIBUTES:
        yield _attribute(env, attribute)
        yield getattr(module, attribute, None)
    for attribute in _ENUMS:
        yield _attribute(env, attribute)
        yield getattr(module, attribute, None)
    for documentation in _documentation(env):
        yield from _lists_of(documentation, "action")
        for table in _tables_of(documentation, "action"):
            yield table.rows


def _named(source: Any, numbers: range) -> list[str] | None:
    """Return the names that `source` has for the action `numbers`, or None."""
    if isinstance(source, type) and issubclass(source, enum.Enum):
        # What an enum knows beyond the space's actions is not to be had here: MiniGrid's levels share one enum.
        source = {member.value: name.replace("_", " ") for name, member in source.__members__.items()}
        return [source[number] for number in numbers] if set(numbers) <= source.keys() else None
    if isinstance(source, Mapping):
        if all(isinstance(name, str) for name in source):
            source = {number: name for name, number in source.items()}
        if len(source) != len(numbers) or not all(number in source for number in numbers):
            return None
        source = [source[number] for number in numbers]
    if isinstance(source, str) or not isinstance(source, Sequence) or len(source) != len(numbers):
        return None
    return list(source) if all(isinstance(name, str) for name in source) else None


def _in_lower_case(text: str) -> str:
    return _clean(text.replace("_", " ")).lower().rstrip(".")


def _fitting(space: spaces.Space[Any], names: Any) -> Names | None:
    """Return `names` if they are names for the fields of `space`."""
    if isinstance(space, spaces.Dict):
        if not isinstance(names, Mapping):
            return None
        fitting = {str(key): _fitting(space[key], below) for key, below in names.items() if key in space.spaces}
        return {key: below for key, below in fitting.items() if below is not None} or None
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        return None
    called = tuple(_clean(name.replace("_", " ")) for name in names)
    return called if len(called) == _fields_of(space) and all(called) and len(set(called)) == len(called) else None


def _fields_of(space: spaces.Space[Any]) -> int | None:
    """Return how many fields a space has that can be called by a name, or None."""
    if isinstance(space, spaces.Tuple):
        return len(space.spaces)
    if isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary) and len(space.shape) == 1:
        return int(space.shape[0])
    return None


def _attribute(env: gymnasium.Env[Any, Any], name: str, last: Wrapper | None = None) -> Any:
    """Return an attribute of the outermost wrapper that has it, or None; of those down to `last`, if that is given."""
    if last is not None:
        for wrapper in wrappers_down_to(env, last):
            if name in vars(wrapper) or any(name in vars(kind) for kind in type(wrapper).__mro__):
                return getattr(wrapper, name)
        return None
    try:
        return env.get_wrapper_attr(name)
    except AttributeError:
        return None


# -- documentation ---------------------------------------------------------------------------------------------------


class _Table(NamedTuple):
    """A table of names in a docstring."""

    rows: dict[int, str]
    above: str
    """The text between the table before it, or the beginning, and the table."""


def _documentation(env: gymnasium.Env[Any, Any]) -> Iterator[str]:
    """Yield the docstrings of the environment's class and of those it comes from."""
    for kind in type(env.unwrapped).__mro__:
        if kind is gymnasium.Env:
            return
        if kind.__doc__:
            yield inspect.cleandoc(kind.__doc__)


def _table_for(env: gymnasium.Env[Any, Any], space: spaces.Space[Any], *, key: str = "") -> tuple[str, ...] | None:
    """Return the names of the entries of an array from the first table that fits; for a Dict's `key` from its own."""
    fields = _fields_of(space)
    if fields is None or isinstance(space, spaces.Tuple):
        return None
    for documentation in _documentation(env):
        for table in _tables_of(documentation, "observation"):
            if key and _last_key(table.above, env.observation_space) != key:
                continue
            first = min(table.rows)
            names = [table.rows.get(number, "") for number in range(first, first + fields)]
            called = tuple(_field_name(name) for name in names)
            if first in (0, 1) and len(table.rows) == fields and all(called) and len(set(called)) == fields:
                return called
    return None


def _last_key(text: str, space: spaces.Space[Any]) -> str | None:
    """Return which key of a Dict a text names last."""
    assert isinstance(space, spaces.Dict)
    places = {
        str(key): max((found.start() for found in re.finditer(rf"\b{re.escape(str(key))}\b", text)), default=-1)
        for key in space.spaces
    }
    last = max(places, key=lambda key: places[key])
    return last if places[last] >= 0 else None


def _tables_of(documentation: str, subject: str) -> Iterator[_Table]:
    """Yield the tables whose first column counts and one of whose others is headed by the subject."""
    above: list[str] = []
    column: int | None = None
    rows: dict[int, str] = {}
    for line in [*documentation.splitlines(), ""]:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.strip().startswith("|"):
            if rows:
                yield _Table(rows, "\n".join(above))
            if column is not None:
                column, rows, above = None, {}, []
            above.append(line)
        elif column is None:
            headed = [index for index, cell in enumerate(cells) if cell.lower().startswith(subject)]
            counts = cells[0].lower().rstrip(".") in ("num", "number", "no", "index", "idx", "#", "id", "value")
            column = headed[0] if headed and headed[0] > 0 and counts else -1
        elif 0 < column < len(cells) and cells[0].isdigit():
            rows[int(cells[0])] = cells[column]


def _lists_of(documentation: str, subject: str) -> Iterator[dict[int, str]]:
    """Yield the numbered lists in the sections that are headed by the subject; one begins where counting does."""
    inside, found = False, dict[int, str]()
    for line in documentation.splitlines():
        if heading := _HEADING.match(line):
            inside = (heading[1] or heading[2]).lower().startswith(subject)
        elif inside and (item := _LIST_ITEM.match(line)):
            number = int(item[1])
            if found and number != max(found) + 1:
                yield found
                found = {}
            found[number] = item[2]
    if found:
        yield found


def _field_name(text: str) -> str:
    """Return what a table's cell calls a field: "x = cos(theta)" is x."""
    name = _clean(text).partition(" = ")[0].strip()
    return name if name.isupper() and len(name) < 4 else name.lower()


def _clean(text: str) -> str:
    """Return a text without Markdown and HTML, on one line, without what separates phrases."""
    return " ".join(_MARKUP.sub("", text).replace(";", ",").split()).strip(" .:~|")
