"""One way to read the options of every command: the command line, before it a YAML file (`--config`), the defaults."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import inspect
import io
import itertools
import shlex
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
import yaml

from heed.agents.registry import ALGORITHMS
from heed.training.command_line.named_values import NAMED, Loader, as_texts
from heed.training.command_line.panels import panels_of, shown_defaults
from heed.training.errors import ConfigurationError
from heed.training.model_file import is_model_file
from heed.training.options import TrainConfig

CONFIG = "--config"
Config = TypeVar("Config")


def parse(
    config_class: type[Config], arguments: Sequence[str] | None, *, command: str, saved: Config | None = None
) -> Config:
    """Return a command's options.

    Args:
        config_class: a dataclass with a docstring under each field.
        arguments: of the command line; None takes the program's own.
        command: such as `heed train`.
        saved: what options are that neither the command line nor a file gives, in place of the defaults.

    Raises:
        ConfigurationError: if the file cannot be read, or an option cannot be; if a run's `config.json` names the file
            of a language model, and the command line does not.
        SystemExit: after the help, or what tyro says of the command line.
    """
    words, file = _without_config(list(sys.argv[1:] if arguments is None else arguments))
    base = {} if saved is None else {f.name: getattr(saved, f.name) for f in dataclasses.fields(saved)}  # type: ignore[arg-type]
    given = {} if file is None else read_file(file, config_class)
    if is_model_file(str(given.get("model"))) and not _is_given("model", words):
        _refuse_model_of_run(given["model"], file)
    for name, value in given.items():
        if name in NAMED:  # merged by name
            base[name] = (*base.get(name, ()), *value)
        elif not _is_added(name, value, words):
            base[name] = value
    parser = _parser(config_class, base, words)
    parsed: Any = tyro.cli(parser, args=words, prog=command, description=inspect.getdoc(config_class))
    values: dict[str, Any] = {}
    for field in dataclasses.fields(parser):
        value = getattr(parsed, field.name)
        values |= vars(value) if dataclasses.is_dataclass(value) else {field.name: value}
    hidden = {name: value for name, value in base.items() if name not in values}
    return config_class(**{n: v for n, v in {**hidden, **values}.items() if n != "config"})


def _refuse_model_of_run(name: str, file: Path | None) -> None:
    """Refuse the Python file of a language model in a run's configuration, which may be a stranger's."""
    if file is not None and _is_of_run(read_yaml(file, "options and their values")):
        raise ConfigurationError(
            f"{file} names a language model that a Python file loads, and only the command line may name such a file: "
            f"add --model {shlex.quote(name)} if you trust it."
        )


def _is_of_run(content: Mapping[str, Any]) -> bool:
    return "hyperparameters" in content


def read_file(path: Path, config_class: type[Any]) -> dict[str, Any]:
    """Return the options that a YAML file gives, or the `config.json` of a run's folder.

    Raises:
        ConfigurationError: if it cannot be read, an option of it does not exist, or a value is of another type.
    """
    content = read_yaml(path, "options and their values")
    if _is_of_run(content) and issubclass(config_class, TrainConfig):
        # A run's: all that was not left out; where it was is another run's.
        given = TrainConfig.from_json(content).given_options()
        return {name: value for name, value in given.items() if name not in ("run_dir", "resume")}
    options: dict[str, Any] = read_options(config_class, content, str(path))
    return options


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Return what a YAML file holds.

    Args:
        path: the file.
        what: it must hold, for people.

    Raises:
        ConfigurationError: if it cannot be read, or holds no mapping.
    """
    try:
        content = yaml.load(path.expanduser().read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is no YAML: {error}") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold {what}, but holds {type(content).__name__}.")
    return content


def read_options(config_class: type[Any], given: Any, where: str, *, own: Mapping[str, str] | None = None) -> Any:
    """Return options of a command under their Python names, with values of their types.

    Args:
        config_class: of the command.
        given: a mapping; names may be written with `-` or `_`.
        where: they were found, for people.
        own: options that must not be given, with the reason.

    Raises:
        ConfigurationError: if there is no such option, or the value is of another type.
    """
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where} must be options and their values, but is {given!r}.")
    named = {str(name).replace("-", "_"): value for name, value in given.items()}
    for name, reason in (own or {}).items():
        if name in named:
            raise ConfigurationError(f"{where}: {name} {reason}. Leave it out.")
    hints = typing.get_type_hints(config_class, include_extras=True)
    fields = [field.name for field in dataclasses.fields(config_class) if field.name not in (own or {})]
    refuse_unknown(named, fields, f"{where} has")
    return {name: _read(name, value, hints[name], where) for name, value in named.items()}


def refuse_unknown(given: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Refuse names that are not known, with those that are spelt alike.

    Raises:
        ConfigurationError: naming the first of them.
    """
    names = list(known)
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f" Did you mean {close[0]}?" if close else f" It may hold {', '.join(names)}."
            raise ConfigurationError(f"{where} no such thing as {name!r}.{hint}")


def _read(name: str, value: Any, hint: Any, where: str) -> Any:
    """Let tyro read the value, as from the command line."""
    if name in NAMED and isinstance(value, Mapping):
        return as_texts({str(key): one for key, one in value.items()})
    if isinstance(value, list) and not value:
        return ()
    if isinstance(value, float) and value.is_integer() and int in (hint, *typing.get_args(hint)):
        value = int(value)  # 1e6
    parts = [str(part) for part in (value if isinstance(value, list) else [value])]
    words = parts if _is_positional(hint) else [word for part in parts for word in (f"--{name}", part)]
    single: Any = dataclasses.make_dataclass("Single", [(name, hint)])
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            return getattr(tyro.cli(single, args=words), name)
    except SystemExit:
        raise ConfigurationError(f"{where}: {name} cannot be {value!r}. `--help` says what it can be.") from None


def _without_config(words: list[str]) -> tuple[list[str], Path | None]:
    """Return the command line without `--config FILE`, and the file.

    Raises:
        ConfigurationError: if there is none behind it, or it is given twice.
    """
    kept, files = [], []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name != CONFIG:
            kept.append(word)
            continue
        file = value if equals else next(rest, "")
        if not file or file.startswith("--"):
            raise ConfigurationError(f"{CONFIG} needs the path of a YAML file.")
        files.append(Path(file))
    if len(files) > 1:
        raise ConfigurationError(f"{CONFIG} is given twice: put the options into one file.")
    return kept, files[0] if files else None


def _is_added(name: str, value: Any, words: list[str]) -> bool:
    """Say whether the command line gives a list anew, which tyro would add to the file's."""
    return isinstance(value, tuple) and _is_given(name, words)


def _is_given(name: str, words: list[str]) -> bool:
    option = f"--{name}".replace("_", "-")
    return any(word.partition("=")[0].replace("_", "-") == option for word in words)


def _parser(config_class: type[Any], base: Mapping[str, Any], words: list[str]) -> type[Any]:
    """Return a dataclass of which tyro makes the command line: with panels, helps and defaults as they are shown."""
    hints, helps = typing.get_type_hints(config_class, include_extras=True), _docs(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    shown: dict[str, str] = {}
    panels = []
    if issubclass(config_class, TrainConfig):
        agent = _agent_of(words)
        shown = shown_defaults(config_class, {**base, **({} if agent is None else {"agent": agent})})
        asked_for_help = bool({"-h", "--help"} & {*words})
        panels = panels_of(config_class, agent if asked_for_help else None)

    def entry(name: str) -> tuple[str, Any, Any]:
        default = base.get(name, fields[name].default)
        how = tyro.conf.arg(
            prefix_name=False,
            help=helps[name],
            metavar=_metavar(hints[name]) if default is None else None,
            help_behavior_hint=_hint(default, helps[name], None if name in base else shown.get(name)),
        )
        return name, Annotated[hints[name], how], dataclasses.field(default=default)

    in_panels = {name for panel in panels for name in panel.names}
    listed = [] if panels else [entry(name) for name in fields if name not in in_panels]
    told = "YAML file of options; those of the command line win."
    how = tyro.conf.arg(help=told, metavar="FILE", help_behavior_hint="")
    listed.append(("config", Annotated[Path | None, how], dataclasses.field(default=None)))
    for number, panel in enumerate(panels):
        grouped = [entry(name) for name in panel.names]
        kind: Any = dataclasses.make_dataclass("Panel", grouped, kw_only=True, namespace={"__doc__": panel.description})
        nested = Annotated[kind, tyro.conf.arg(name=panel.title)]
        listed.append((f"panel_{number}", nested, dataclasses.field()))
    return dataclasses.make_dataclass("Options", listed, kw_only=True)


def _agent_of(words: list[str]) -> str | None:
    """Return the agent that a command line names, if there is such an agent."""
    joined = [word.removeprefix("--agent=") for word in words if word.startswith("--agent=")]
    behind = [after for word, after in itertools.pairwise(words) if word == "--agent"]
    return next((name for name in reversed([*joined, *behind]) if name in ALGORITHMS), None)


def _hint(default: Any, told: str, shown: str | None) -> Any:
    """Return what stands behind an option's help: its default, but not where the help itself tells it."""
    if shown is not None:
        return f"(default: {shown})"
    if default is None or "default:" in told:
        return ""
    if default == ():
        return "(repeatable)"
    return None


def _metavar(hint: Any) -> str | None:
    """Return what stands for the value of an option that may be left out, without None."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return None
    (kind,) = [one for one in typing.get_args(hint) if one is not types.NoneType] or (None,)
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(map(str, typing.get_args(kind))) + "}"
    return None if kind is bool else getattr(kind, "__name__", "VALUE").upper()


def _is_positional(hint: Any) -> bool:
    (marker,) = tyro.conf.Positional[int].__metadata__  # type: ignore[attr-defined]
    return marker in getattr(hint, "__metadata__", ())


def _docs(config_class: type[Any]) -> dict[str, str]:
    """Return the docstring under each field, of the classes that a configuration is made of."""
    found: dict[str, str] = {}
    for base in config_class.__mro__[:-1]:
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                assert isinstance(field.target, ast.Name)
                found.setdefault(field.target.id, " ".join(str(text.value.value).split()))
    return found
