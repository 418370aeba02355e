"""Environments of a Python file, named by its path wherever an id is asked for.

    ./my_env.py:MyEnv-v0       an id that the file registers when it is imported
    ./my_env.py:MyEnv          or a `gymnasium.Env` class in it, which gets the id my_env/MyEnv-v0
    ./my_env.py                the only environment in it

The path may be relative, absolute, or begin with `~`. A file is imported once in a process, and again only after it
has changed. Its folder is put at the end of Python's search path, so that it may import files beside it. Two files may
register the same id: each is made from its own. `from_file` gives what else a file holds, such as an axis.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

FILE = re.compile(r"(?P<path>.*\.py)(?::(?P<name>[^:]*))?", re.DOTALL)
"""The id of an environment in a file: where the file is, and which of its environments."""

BEGINS_PATH = ("/", ".", "~")
"""How a path begins that may hold a `+`."""


class EnvironmentFileError(ValueError):
    """A file does not give what is asked of it. The message says why."""


@dataclass(kw_only=True)
class _Imported:
    """A file as it was imported."""

    source: bytes
    module: ModuleType
    specs: dict[str, EnvSpec] = field(default_factory=dict)
    """By id, those that it registered, and those that were made of its classes."""


_imported: dict[Path, _Imported] = {}


def names_file(env_id: str) -> bool:
    """Say whether an id names an environment of a Python file."""
    return FILE.fullmatch(env_id) is not None


def parts_of(env_id: str) -> list[str]:
    """Split a mixture's id at each `+`, but for those inside a path that begins with `/`, `.` or `~`."""
    parts: list[str] = []
    for piece in env_id.split("+"):
        begun = parts[-1].lstrip() if parts else ""
        if begun.startswith(BEGINS_PATH) and ".py" not in begun:
            parts[-1] += f"+{piece}"
        else:
            parts.append(piece)
    return parts


def weight_of(part: str) -> tuple[str, str | None]:
    """Part a level of a mixture from the weight behind its `@`, or None; an `@` in a path is no such sign."""
    path, dot_py, rest = part.strip().rpartition(".py")
    name, at, weight = rest.partition("@")
    return path + dot_py + name, weight if at else None


def with_absolute_paths(env_id: str) -> str:
    """Return an id, or that of a mixture, with every file named by its absolute path: it holds in any folder."""
    return _with_paths(env_id, lambda path: str(_absolute(path)))


def without_folders(env_id: str) -> str:
    """Return an id, or that of a mixture, with every file named without its folder, for people to read."""
    return _with_paths(env_id, lambda path: Path(path).name)


def _with_paths(env_id: str, change: Any) -> str:
    parts = []
    for part in parts_of(env_id):
        name, weight = weight_of(part)
        found = FILE.fullmatch(name)
        changed = part if found is None else change(found["path"]) + name[found.end("path") :]
        parts.append(changed if found is None or weight is None else f"{changed}@{weight}")
    return "+".join(parts)


def spec_from_file(env_id: str) -> EnvSpec:
    """Return the specification of an environment in a file, from which `gymnasium.make` makes it.

    Args:
        env_id: as at the head of this file.

    Raises:
        EnvironmentFileError: if there is no such file, its import fails, or it has no such environment.
    """
    found = FILE.fullmatch(env_id)
    assert found is not None
    path, name = _absolute(found["path"]), found["name"]
    imported = _import(path)
    if name:
        spec = _named(imported, name)
        if spec is None:
            raise EnvironmentFileError(f"{path} has no environment {name!r}: {_what_there_is(imported)}.")
        return spec
    if len(imported.specs) == 1:
        return next(iter(imported.specs.values()))
    classes = [] if imported.specs else list(_classes(imported.module))
    if len(classes) != 1:
        raise EnvironmentFileError(
            f"{path} does not say which environment is meant: {_what_there_is(imported)}. Name one, as in "
            f"{path.name}:MyEnv-v0."
        )
    return _registered(imported, classes[0])


def from_file(spelled: str) -> Any:
    """Return what a Python file holds under a name. It is imported: call this only where the user has named the file.

    Args:
        spelled: `folder/file.py:Name`.

    Raises:
        EnvironmentFileError: if there is no such file, its import fails, or it has nothing of that name.
    """
    found = FILE.fullmatch(spelled)
    if found is None or not found["name"]:
        raise EnvironmentFileError(f"{spelled!r} names nothing in a Python file: write it as in ./my_file.py:MyClass.")
    path = _absolute(found["path"])
    try:
        return getattr(_import(path).module, found["name"])
    except AttributeError:
        raise EnvironmentFileError(f"{path} defines no {found['name']!r}.") from None


def _absolute(path: str) -> Path:
    # Links are followed: the same file under two names is to be imported once.
    return Path(os.path.realpath(os.path.expanduser(path)))


def _import(path: Path) -> _Imported:
    """Import a file, unless that was done and it is still the same."""
    try:
        source = path.read_bytes()
    except OSError as error:
        reason = "There is no file" if isinstance(error, FileNotFoundError) else f"{error.strerror}: cannot read"
        raise EnvironmentFileError(
            f"{reason} {path}. Was it moved, or is its path meant from another folder?"
        ) from None
    known = _imported.get(path)
    if known is not None:
        if known.source == source:
            return known
        _forget(path, known)
    before = dict(gymnasium.registry)
    module = _execute(path, source)
    imported = _Imported(source=source, module=module)
    imported.specs = {name: spec for name, spec in gymnasium.registry.items() if before.get(name) is not spec}
    for spec in imported.specs.values():
        _point_at(module, path.stem, spec)
    _imported[path] = imported
    return imported


def _forget(path: Path, known: _Imported) -> None:
    """Take back what an earlier state of a file has registered."""
    for name, spec in known.specs.items():
        if gymnasium.registry.get(name) is spec:
            del gymnasium.registry[name]
    del _imported[path]


def _execute(path: Path, source: bytes) -> ModuleType:
    # The path's hash: a file may have the name of a package, or of another file. The same in every process, so that
    # what is sent between them is found.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # before it runs: a dataclass in it, for one, looks its module up
    registered = dict(gymnasium.registry)
    try:
        # Not through its loader, whose bytecode cache tells a changed file by the second and the size.
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        gymnasium.registry.clear()
        gymnasium.registry.update(registered)
        raise EnvironmentFileError(f"Importing {path} failed{_line_in(path, error)}: {_told(error)}.") from error
    return module


def _line_in(path: Path, error: BaseException) -> str:
    """Return the last line of the file that an error came through, in words."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f" in line {lines[-1]}" if lines else ""


def _told(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return ": ".join(part for part in (type(error).__name__, message.rstrip(".")) if part)


def _point_at(module: ModuleType, stem: str, spec: EnvSpec) -> None:
    """Let an entry point `my_env:MyEnv`, written in my_env.py itself, find the module that is there already."""
    if isinstance(spec.entry_point, str):
        module_name, _, attribute = spec.entry_point.partition(":")
        if module_name == stem and hasattr(module, attribute):
            spec.entry_point = f"{module.__name__}:{attribute}"


def _named(imported: _Imported, name: str) -> EnvSpec | None:
    """Return the environment that `name` means: an id, an id without its version, a class, or what was there before."""
    if name in imported.specs:
        return imported.specs[name]
    versions = [spec for spec in imported.specs.values() if name == _without_version(spec.id)]
    if versions:
        return max(versions, key=lambda spec: spec.version or 0)
    for environment in _classes(imported.module):
        if environment.__name__ == name:
            return _registered(imported, environment)
    # Such as one of a package that the file imports, which somebody else has imported before.
    return gymnasium.registry.get(name)


def _without_version(env_id: str) -> str:
    return re.sub(r"-v\d+$", "", env_id)


def _classes(module: ModuleType) -> Iterator[type[gymnasium.Env[Any, Any]]]:
    """Yield the environments that are defined in a module itself."""
    for value in list(vars(module).values()):
        if (
            inspect.isclass(value)
            and issubclass(value, gymnasium.Env)
            and not issubclass(value, gymnasium.Wrapper)
            and not inspect.isabstract(value)
            and value.__module__ == module.__name__
        ):
            yield value


def _registered(imported: _Imported, environment: type[gymnasium.Env[Any, Any]]) -> EnvSpec:
    """Register a class under an id of its own, once."""
    env_id = f"{imported.module.__name__.rpartition('_')[0]}/{environment.__name__}-v0"
    if env_id not in imported.specs:
        gymnasium.register(env_id, entry_point=f"{imported.module.__name__}:{environment.__name__}")
        imported.specs[env_id] = gymnasium.registry[env_id]
    return imported.specs[env_id]


def _what_there_is(imported: _Imported) -> str:
    classes = [environment.__name__ for environment in _classes(imported.module)]
    parts = []
    if imported.specs:
        parts.append(f"it registers {', '.join(imported.specs)}")
    if classes:
        parts.append(f"it has the class{'es' * (len(classes) > 1)} {', '.join(classes)}")
    return " and ".join(parts) or "it registers none, and has no class that is a gymnasium.Env"
