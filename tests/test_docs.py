"""What README and docs show is real: commands parse, Python compiles, and names, paths and links resolve.

Nothing that a page shows is trained here. Shell blocks run in bash without programs: what it would have started is
written down, loops and variables unfolded, and is handed to the `main` of its command as far as its options.
"""

from __future__ import annotations

import ast
import configparser
import functools
import importlib
import inspect
import io
import re
import shutil
import subprocess
import sys
import textwrap
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from heed.evaluation.suites import Suite
from heed.scripts.cli import COMMANDS
from heed.training.ablation.plan import Plan
from heed.training.command_line import parsing
from heed.training.options import TrainConfig
from heed.training.tuning.plan import Search

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
FOLDERS = ("agents", "envs", "evaluation", "policies", "scripts", "training", "tools", "tests", "examples", "docs")
PLACES = (["--env"], ["--run-dir"], ["--out"], ["--demonstrations"], ["--model"])
SHELL = re.compile(r"^ *(?:\w+=\S+ )*(?:heed|python|torchrun|accelerate|make|pip|for) ", re.MULTILINE)


class Parsed(BaseException):
    """The options of a command have been read: it goes no further."""


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def blocks_of(name: str, *languages: str) -> list[str]:
    found = []
    for indent, language, content in BLOCK.findall(text_of(name)):
        if language in languages:
            found.append(re.sub(f"^{indent}", "", content, flags=re.MULTILINE))
    return found


def prose_of(name: str) -> str:
    return BLOCK.sub("", text_of(name))


# Commands.


@functools.cache
def commands_of(name: str) -> tuple[tuple[str, ...], ...]:
    """Return the words of each command that the shell blocks of a page would start, without any being started."""
    shell = [block for block in blocks_of(name, "") if SHELL.search(block)]
    script = "command_not_found_handle() { printf '%s\\0' \"$@\" '' >&3; }\n" + "\n".join(shell)
    bash = shutil.which("bash")
    assert bash is not None
    run = subprocess.run(
        [bash, "-c", 'exec 3>&1 1>/dev/null; eval "$0"', script], env={"PATH": "/none"}, capture_output=True, text=True
    )
    assert run.stderr == ""
    words = [tuple(command.split("\0")) for command in run.stdout.split("\0\0") if command]
    return tuple(dict.fromkeys(words[words.index("heed") :] if "heed" in words else words for words in words))


@pytest.fixture(scope="module")
def error_of() -> Iterator[Callable[[tuple[str, ...]], str]]:
    """Return what a command says to its options, or nothing. It ends when they are read, whatever reads them."""

    def ends(read: Callable[..., Any]) -> Callable[..., Any]:
        def reads(*arguments: Any, **options: Any) -> None:
            read(*arguments, **options)
            raise Parsed

        return reads

    with pytest.MonkeyPatch.context() as patch:
        for module, _ in COMMANDS.values():
            patch.setattr(importlib.import_module(module), "parse", ends(parsing.parse))
        stand_in = type("tyro", (), {"cli": staticmethod(ends(tyro.cli))})
        for module in ("tools.benchmark.command", "tools.environment_table", "tools.pretrain"):
            patch.setattr(importlib.import_module(module), "tyro", stand_in)
        patch.setattr(ArgumentParser, "parse_args", ends(ArgumentParser.parse_args))
        # A file of the reader's own gives nothing.
        read_file = parsing.read_file
        patch.setattr(parsing, "read_file", lambda path, kind: read_file(path, kind) if path.is_file() else {})
        # The source of a class of options is read once, not for each command.
        patch.setattr(parsing, "_docs", functools.cache(parsing._docs))
        patch.setattr(inspect, "getsource", functools.cache(inspect.getsource))
        known: dict[str, set[tuple[str, ...]]] = {}

        def error(words: tuple[str, ...]) -> str:
            """Parse a command unless others have had all of its options, with values that are alike."""
            parts, command = _parts(words), words[1] if words[0] == "heed" else words[2]
            told = "" if parts <= known.setdefault(command, set()) else _error_of(words)
            if not told:
                known[command] |= parts
            return told

        yield error


def _parts(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return each option with its values: numbers, ids of environments and paths are alike."""
    parts: list[list[str]] = [[]]
    for word in words[2:]:
        if word.startswith("--"):
            parts.append([])
        parts[-1].append(re.sub(r"\d+", "0", word))
    return {tuple(part[:1] if part[:1] in PLACES else part) for part in parts}


def _error_of(words: tuple[str, ...]) -> str:
    if words[0] == "heed":
        name, arguments = COMMANDS[words[1]][0], words[2:]
    else:
        name, arguments = words[2].replace("tools.benchmark", "tools.benchmark.command"), words[3:]
    main = getattr(importlib.import_module(name), "main", None)
    if main is None:
        return "It takes no options." if arguments else ""
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(told):
        patch.setattr(sys, "argv", [name, *arguments])
        try:
            main(list(arguments)) if inspect.signature(main).parameters else main()
        except Parsed:
            return ""
        except SystemExit as error:
            return f"{error.code} {told.getvalue()}"
    return "It read no options."


@pytest.mark.parametrize("name", NAMES)
def test_every_command_parses(name: str, error_of: Callable[[tuple[str, ...]], str]) -> None:
    ours = [words for words in commands_of(name) if words[0] == "heed" or words[:2] == ("python", "-m")]
    assert [f"{' '.join(words)}: {error}" for words in ours if (error := error_of(words))] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_extra_is_there(name: str) -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    asked = re.findall(r"pip install (?:-e )?'(?:heed|\.)\[([\w,]+)\]'", text_of(name))
    assert {extra for extras in asked for extra in extras.split(",")} <= set(setup["options.extras_require"])


@pytest.mark.parametrize("name", NAMES)
def test_every_target_of_make_is_there(name: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))
    asked = {word for words in commands_of(name) if words[0] == "make" for word in words[1:] if "=" not in word}
    asked |= set(re.findall(r"`make ([\w-]+)`", prose_of(name)))
    assert asked <= targets


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_file_is_read(name: str, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    for block in blocks_of(name, "yaml"):
        file.write_text(block)
        keys = yaml.safe_load(block).keys()
        if "variants" in keys:
            assert Plan.read(file, out=tmp_path, episodes=1).trainings
        elif "search" in keys:
            Search.read(file).configs()
        elif "environments" in keys:
            assert Suite.from_yaml(file).axes
        else:
            assert TrainConfig(**parsing.read_file(file, TrainConfig)).resolved().steps


# Python.


@pytest.mark.parametrize("name", NAMES)
def test_python_compiles_and_what_it_imports_exists(name: str) -> None:
    for block in blocks_of(name, "python"):
        tree = ast.parse(textwrap.dedent(block))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert not _is_ours(alias.name) or _resolves(alias.name), alias.name
            elif isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
                for alias in node.names:
                    assert _resolves(f"{node.module}.{alias.name}"), f"{node.module}.{alias.name}"


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("heed", "tools", "tests", "examples")


@functools.cache
def _resolves(dotted: str) -> bool:
    """Say whether a dotted name is a module, or something that a module has."""
    words = dotted.split(".")
    for end in range(len(words), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(words[:end]))
        except ModuleNotFoundError as error:
            if error.name != ".".join(words[:end]):  # a world's library, which is not installed
                return True
            continue
        for word in words[end:]:
            if not hasattr(found, word):
                return False
            found = getattr(found, word)
        return end > 1 or len(words) == 1
    return False


@pytest.mark.parametrize("name", NAMES)
def test_names_in_backticks_resolve(name: str) -> None:
    text = prose_of(name)
    names = set(re.findall(r"`[^`\n]*?\b(heed(?:\.[A-Za-z]\w*)+)", text))
    names |= set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))
    entry_points = {"heed.axes", "heed.environments", "heed.models", "heed.suites", "heed.verbalizers", "heed.worlds"}
    assert [dotted for dotted in sorted(names - entry_points) if not _resolves(dotted)] == []


# Links and paths.


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip()) for heading in plain}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = REPOSITORY / name
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(name)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page if not path else (page.parent / path).resolve()
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_paths_of_the_repository_exist(name: str) -> None:
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", prose_of(name))
    if name == "docs/design.md":  # elsewhere a bare name is a reader's own file
        named += re.findall(r"`([\w/]+\.py)`", prose_of(name))
    assert [path for path in named if not _is_there(path)] == []


@functools.cache
def _files() -> tuple[str, ...]:
    return tuple(
        str(path.relative_to(REPOSITORY)) for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")
    )


def _is_there(path: str) -> bool:
    """Say whether a path from the top exists; a bare file's name may be of any folder."""
    return (REPOSITORY / path).exists() or any(file.endswith(f"/{path}") for file in _files())


def test_every_page_is_in_the_navigation() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/-]+\.md", text.partition("nav:")[2].partition("not_in_nav")[0]))
    pages = {str(page.relative_to(REPOSITORY / "docs")) for page in (REPOSITORY / "docs").rglob("*.md")}
    assert listed == {page for page in pages if not page.endswith("comparison.md")}
