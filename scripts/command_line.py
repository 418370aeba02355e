"""Options of the commands as words of a command line, as tyro reads them."""

from __future__ import annotations

from typing import Any


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
