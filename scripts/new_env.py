"""`heed new-env NAME`: write a small world in one file, to begin one's own with."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal

import tyro

from heed.evaluation.command_line import told_command
from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence

TEMPLATES = {"discrete": "new_env.py.txt", "changing": "new_env_changing.py.txt"}
"""For each kind of actions the file in templates/."""


@dataclass(frozen=True, kw_only=True)
class NewEnvConfig:
    """Write a commented environment of your own into one file, which can be checked and trained on at once."""

    name: tyro.conf.Positional[str]
    """Its name, such as RedDoors, red_doors or red-doors: the class is RedDoors, the file red_doors.py."""
    actions: Literal["discrete", "changing"] = "discrete"
    """Whether there are the same actions everywhere, or others in each state."""
    folder: Path = Path()
    """Where to write the file (default: here)."""


def write_new_env(config: NewEnvConfig) -> Path:
    """Write the file.

    Returns:
        The file.

    Raises:
        ConfigurationError: if the name cannot be one, or the file is there already.
    """
    words = words_of(config.name)
    module, name = "_".join(words), "".join(word[0].upper() + word[1:] for word in words)
    path = config.folder / f"{module}.py"
    if path.exists():
        raise ConfigurationError(f"{path} exists already: give another name, or remove it.")
    template = (Path(__file__).parent / "templates" / TEMPLATES[config.actions]).read_text(encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    title = " ".join(words).capitalize()
    source = Template(template).substitute(NAME=name, FILE=path.name, MODULE=module, TITLE=title)
    path.write_text(source, encoding="utf-8")
    return path


def words_of(name: str) -> list[str]:
    """Return the words that a name consists of, in lower case: of `RedDoors` or `red-doors` red and doors.

    Raises:
        ConfigurationError: if it cannot be the name of a class and of a file.
    """
    stem = name.removesuffix(".py")
    # Before a capital that begins a word: HTTPDoor is http and door.
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", stem)
    words = [word.lower() for word in re.split(r"[_\- ]+", parted) if word]
    module = "_".join(words)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", module) or re.search(r"[^A-Za-z0-9_\- ]", stem):
        raise ConfigurationError(
            f"{name!r} cannot name an environment: take letters, digits and underscores, a letter first, as in "
            "RedDoors or red_doors."
        )
    if keyword.iskeyword(module) or module in ("env", "gymnasium", "heed"):
        raise ConfigurationError(f"{name!r} means something to Python already: choose another, such as my_{module}.")
    return words


def main(arguments: list[str] | None = None) -> None:
    """Run `heed new-env` with the command line's arguments."""
    with as_sentence():
        path = write_new_env(parse(NewEnvConfig, arguments, command="heed new-env"))
        env_id = f"{'' if path.is_absolute() else './'}{path}"
        check = told_command("heed", "check-env", env_id)
        train = told_command("heed", "train", "--env", env_id, "--steps", 30000)
        print(f"{path} is there. Next:\n\n  {check}\n  {train}")


if __name__ == "__main__":
    main()
