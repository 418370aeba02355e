"""Axes: the ways in which an evaluation changes the instruction or the world, one at a time, and their names.

An axis makes the language environment of an episode (`Axis.make_env`). Those here are found by name:

    axis("synonyms").make_env("BabyAI-GoToLocal-v0")
    axis("typos", share=0.8).make_env("BabyAI-GoToLocal-v0")

An axis of one's own is a frozen dataclass with a name and one method, `play`, or for a change of the words alone a
`Rewording` with `reword`. Suites and the command line find it by `./my_axis.py:MyAxis`; by its name, after
`register_axis`, or where a package names it in the entry point group `heed.axes`.

What an axis draws, it draws from the episode's own seed, apart from the draws of the environment and of other axes. So
an episode follows from its seed and its actions, and where an axis leaves the world alone (`Axis.same_world`), the
world of a seed and its true instruction are the same on all of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, TypeVar, final

import gymnasium

from heed.envs.contract import (
    UnknownEnvironmentError,
    can_be_told,
    impossible_instructions_of,
)
from heed.envs.environment_file import EnvironmentFileError, from_file, names_file
from heed.envs.hold_out import WithoutPhrases
from heed.envs.make import POOL_EPISODES, instruction_pool, make_env
from heed.envs.wording.pairs import is_kept_for_evaluations
from heed.envs.wrappers.history import History
from heed.envs.wrappers.mixture import Mixture, levels_of

CHANGES = {
    "instruction": "the instruction that the agent is shown",
    "observation": "the words of the observation",
    "actions": "the texts of the actions, where the observation lists them",
    "end": "when an episode ends",
    "success": "what counts as success",
    "world": "the world, and all that follows from it",
}
"""What an axis may change."""


class AxisDoesNotApplyError(ValueError):
    """An axis has no meaning in an environment. The message is a sentence that says why."""


class AxisError(ValueError):
    """There is no such axis, or it does not take these parameters. The message names close ones."""


@dataclass(frozen=True, kw_only=True)
class PlainLevel:
    """One environment without an axis, or one level of a mixture: what an axis begins from."""

    env_id: str
    mixture: str
    """The id of the mixture that it is a level of, or its own."""
    render_mode: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Go to the environment."""

    def make(self, env_id: str | None = None, **arguments: Any) -> gymnasium.Env[Any, Any]:
        """Make the language environment; with other `arguments` or under another id, where an axis wants that."""
        return make_env(env_id or self.env_id, render_mode=self.render_mode, **{**self.arguments, **arguments})

    @property
    def instructions(self) -> tuple[str, ...]:
        """Instructions that the level gives, sorted: those of its first 64 seeds."""
        return instruction_pool(self.env_id, **self.arguments)

    @property
    def instructions_of_the_mixture(self) -> tuple[str, ...]:
        """Those of all levels of the mixture."""
        return instruction_pool(self.mixture, **self.arguments)

    @property
    def alternatives(self) -> Alternatives:
        """How often the level knows of other instructions, in as many episodes."""
        return _alternatives(self.env_id, **self.arguments)


@dataclass(frozen=True, kw_only=True)
class Alternatives:
    """In which share of a level's episodes it tells of other instructions than the one that it gives."""

    possible: float
    """Of some that can be done in the episode's world, and of their being done."""
    new_pairs: float
    """Of some that no training puts together with its own (`heed.envs.wording.pairs`)."""
    impossible: float
    """Of some that cannot."""


@functools.lru_cache(maxsize=64)
def _alternatives(env_id: str, **arguments: Any) -> Alternatives:
    env = make_env(env_id, **arguments)
    list_possible, list_impossible = can_be_told(env), impossible_instructions_of(env)
    pool = set(instruction_pool(env_id, **arguments))
    counts = [0, 0, 0]
    for seed in range(POOL_EPISODES if list_possible or list_impossible else 0):
        true = env.reset(seed=seed)[0]["instruction"]
        possible = list_possible() if list_possible else ()
        others = [words for words in possible if words not in true]
        counts[0] += bool(others)
        counts[2] += any(is_kept_for_evaluations(true, words) for words in others)
        counts[1] += bool(list_impossible() if list_impossible else pool - {true, *possible})
    env.close()
    possible, impossible, new_pairs = (count / POOL_EPISODES for count in counts)
    return Alternatives(possible=possible, impossible=impossible, new_pairs=new_pairs)


@dataclass(frozen=True, kw_only=True)
class Axis(ABC):
    """One way to change the instruction or the world. Its fields are its parameters; each has a default."""

    name: ClassVar[str]
    """What suites and reports call it."""
    same_world: ClassVar[bool] = True
    """Whether a seed's world and true instruction are those that the environment gives without the axis."""
    changes: ClassVar[tuple[str, ...]] = ("instruction",)
    """Names of `CHANGES`: what differs, of the same episode with the same actions, from the one without the axis. All
    else is as it was: auxiliary observations, rewards, and the actions themselves."""

    @abstractmethod
    def play(self, level: PlainLevel) -> gymnasium.Env[Any, Any]:
        """Return the environment of a level, changed; usually `level.make()` with a wrapper around it.

        Raises:
            AxisDoesNotApplyError: if the axis has no meaning there.
        """

    def around(self, env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        """Return an environment of all levels, each of which `play` has changed, as the axis has it: as it is."""
        return env

    @final
    def make_env(
        self, env_id: str, *, history: int = 0, render_mode: str | None = None, **arguments: Any
    ) -> gymnasium.Env[Any, Any]:
        """Make one language environment in which every episode is one of this axis.

        `info["instruction"]` is the true instruction on an episode's first and last step, and `info["shown"]` the one
        that the axis shows in its place or beside it. Where the axis shows another and the environment can tell,
        `info["shown_success"]` says on the last step whether that one was fulfilled; `info["is_success"]` is of the
        true one.

        Args:
            env_id: as in `heed.envs.make_env`; of a mixture each level is changed by itself.
            history: as there; what it shows of the past is what the agent saw.
            render_mode: as there.
            arguments: go to the environment.

        Raises:
            AxisDoesNotApplyError: if the axis has no meaning in this environment.
            UnknownEnvironmentError, ContractError, ValueError: as in `heed.envs.make_env`.
        """
        try:
            levels = levels_of(env_id)
        except ValueError as error:
            raise UnknownEnvironmentError(str(error)) from None
        envs = [
            self.play(PlainLevel(env_id=level.env_id, mixture=env_id, render_mode=render_mode, arguments=arguments))
            for level in levels
        ]
        env = self.around(envs[0] if len(envs) == 1 else Mixture(envs, levels))
        if arguments.get("hold_out"):  # an axis may say in other words what the level may not say
            env = WithoutPhrases(env, arguments["hold_out"])
        # Outermost, so that it remembers what the agent saw.
        return History(env, length=history) if history else env

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that are not at their default, as JSON has them."""
        own = {item.name: (getattr(self, item.name), item.default) for item in dataclasses.fields(self)}
        return {name: _as_json(value) for name, (value, default) in own.items() if value != default}

    @property
    def label(self) -> str:
        """The name, with the parameters that are not at their default: two axes of one suite differ in it."""
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(f'{name}={_in_words(value)}' for name, value in self.parameters.items())})"

    @property
    def description(self) -> str:
        """What it does, in a line."""
        return (type(self).__doc__ or "").strip().splitlines()[0]

    def as_json(self) -> str | dict[str, dict[str, Any]]:
        """Return the axis as JSON and YAML have it, its name or its name with parameters; `axis_from` reads it."""
        return {self.name: self.parameters} if self.parameters else self.name


AxisClass = TypeVar("AxisClass", bound=type[Axis])

ENTRY_POINT_GROUP = "heed.axes"
"""Packages add axes of their own in this entry point group: name = the axis's name, value = its class."""

_registry: dict[str, type[Axis]] = {}


def register_axis(axis_class: AxisClass) -> AxisClass:
    """Let `axis` and suites find an axis by its `name`; to be written above its class. The last of a name wins."""
    _registry[axis_class.name] = axis_class
    return axis_class


def axis_names() -> tuple[str, ...]:
    """Return the names of all axes: those that were registered, in that order, then those of installed packages."""
    return tuple(dict.fromkeys((*_registry, *(entry_point.name for entry_point in _plugged()))))


def find_axis(name: str) -> type[Axis]:
    """Return the class of an axis.

    Args:
        name: one of `axis_names()`, or `folder/file.py:Name`. Such a file is imported: its axis is registered, unless
            that would hide another one.

    Raises:
        AxisError: if there is no such axis.
    """
    if name in _registry:
        return _registry[name]
    if names_file(name):
        try:
            found = from_file(name)
        except EnvironmentFileError as error:
            raise AxisError(str(error)) from None
    else:
        found = next((entry_point.load() for entry_point in _plugged() if entry_point.name == name), None)
        if found is None:
            raise AxisError(f"There is no axis {name!r}.{did_you_mean(name, axis_names())}")
    if not (isinstance(found, type) and issubclass(found, Axis) and hasattr(found, "name")):
        raise AxisError(f"{name} is no axis: it must be a class that inherits heed.evaluation.Axis and has a `name`.")
    known = _registry.get(found.name, found)
    # It may be what the same class was before its file changed.
    if (known.__module__, known.__qualname__) != (found.__module__, found.__qualname__):
        raise AxisError(f"The name of the axis {name} is {found.name!r}, which is another axis: call it otherwise.")
    return register_axis(found)


def _plugged() -> Iterable[EntryPoint]:
    return entry_points(group=ENTRY_POINT_GROUP)


def axis(name: str, **parameters: Any) -> Axis:
    """Return the axis of a name.

    Args:
        name: as in `find_axis`.
        parameters: those of the axis that are not to be at their default; lists become tuples, and mappings tuples of
            pairs.

    Raises:
        AxisError: if there is no such axis, or it does not take the parameters.
    """
    kind_of_axis = find_axis(name)
    name = kind_of_axis.name
    fields = {item.name: item for item in dataclasses.fields(kind_of_axis)}
    known = list(fields)
    for parameter in parameters:
        if parameter not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise AxisError(f"The axis {name} has no parameter {parameter!r}: {takes}.{did_you_mean(parameter, known)}")
    given = {key: _as_tuple(value) for key, value in parameters.items()}
    for parameter, value in given.items():
        kind = _kind_of(fields[parameter].default)
        if kind is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise AxisError(f"The parameter {parameter!r} of the axis {name} is of type {wanted}, not {value!r}.")
    try:
        return kind_of_axis(**given)
    except Exception as error:  # an axis may be somebody's own
        raise AxisError(f"The axis {name} cannot be made with {parameters}: {error}") from None


def axis_from(description: Any) -> Axis:
    """Return the axis that JSON or YAML describes: a name, or a mapping from the name to parameters.

    Raises:
        AxisError: if it is neither, or as in `axis`.
    """
    if description is True:  # YAML's reading of the name `true`
        description = "true"
    if isinstance(description, str):
        return axis(description)
    if isinstance(description, Mapping) and len(description) == 1:
        ((name, parameters),) = description.items()
        if isinstance(name, str) and (parameters is None or isinstance(parameters, Mapping)):
            return axis(name, **{str(key): value for key, value in (parameters or {}).items()})
    raise AxisError(f"An axis is a name, or a name with parameters as in typos: {{share: 0.5}}, not {description!r}.")


def did_you_mean(name: str, known: Any) -> str:
    """Return a sentence that names what is spelt like `name`, or all there is; it begins with a space."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" There are {', '.join(known)}." if known else ""


def _kind_of(default: Any) -> type | tuple[type, ...] | None:
    """Return of which type a parameter with this default is, or None where that is not clear."""
    if isinstance(default, float):
        return (int, float)
    return type(default) if isinstance(default, str | int) else None  # of lists the axis itself says more


def _as_tuple(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple((key, _as_tuple(part)) for key, part in value.items())
    return tuple(_as_tuple(part) for part in value) if isinstance(value, list | tuple) else value


def _as_json(value: Any) -> Any:
    return [_as_json(part) for part in value] if isinstance(value, tuple) else value


def _in_words(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return " + ".join(": ".join(map(str, part)) if isinstance(part, list) else str(part) for part in value)
