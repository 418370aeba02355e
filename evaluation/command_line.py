"""Options of the commands as words of a command line, as tyro reads them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PYTHON_FILE = ".py"
"""Is in an environment's id where that names a file."""


def told_command(*words: object) -> str:
    """Return a command line to be copied into a shell: words that need it are quoted.

    Args:
        words: of the command, each as the program is to get it.
    """
    return shlex.join(map(str, words))


def tell(console: Console, sentence: str) -> None:
    """Print a sentence with a command in it: no line is broken within the command, and brackets stay."""
    console.print(sentence, markup=False, soft_wrap=True)


def option_words(name: str, value: Any) -> list[str]:
    """Return the words that give an option: `["--n-envs", "8"]`, `["--no-dueling"]`.

    Args:
        name: of the configuration's field.
        value: a bool becomes a flag; of a tuple or list every part is given with the option's name before it.
    """
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    parts = value if isinstance(value, list | tuple) else [value]
    return [word for part in parts for word in (f"--{option}", str(part))]


def env_for_any_folder(env_id: str) -> str:
    """Return an environment's id with the absolute path in it, if it names a file: a run may be read from elsewhere."""
    if PYTHON_FILE not in env_id:
        return env_id  # nearly always, and at once: the import takes seconds
    from heed.envs.environment_file import with_absolute_paths

    return with_absolute_paths(env_id)
