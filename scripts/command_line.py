"""Options of the commands as words of a command line, as tyro reads them."""

from __future__ import annotations

from typing import Any

PYTHON_FILE = ".py"
"""Is in an environment's id where that names a file."""


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
