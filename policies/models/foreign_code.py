"""Code that the files of a language model name: transformers could be made to fetch and run it, Heed never does.

A configuration or tokenizer on the hub may name Python files in its repository (`auto_map`), or kernels to be fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEYS = ("auto_map", "custom_pipelines", "custom_generate", "kernel_config", "trust_remote_code")
"""Under which JSON files of a model name code."""


def named_code(folder: Path) -> str | None:
    """Return, in a sentence, which file of a model's folder names code to be run; None if none does.

    Raises:
        ValueError: if a file there is not JSON.
    """
    for path in sorted(folder.glob("*config.json")):
        for key, value in _pairs(json.loads(path.read_text(encoding="utf-8"))):
            # An implementation of attention that has a slash in it is a repository on the hub.
            if key in KEYS or (key.endswith("attn_implementation") and "/" in str(value)):
                return f"{path} names code of its own under {key!r}, which heed does not run: it is not used."
    return None


def remove_named_code(folder: Path) -> None:
    """Take what names code out of a model's configuration files, whose architecture transformers itself has."""
    for path in sorted(folder.glob("*config.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if any(key in KEYS for key, _ in _pairs(content)):
            path.write_text(json.dumps(_without(content), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _pairs(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of JSON objects, and of those within them."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield key, value
            yield from _pairs(value)
    elif isinstance(content, list):
        for value in content:
            yield from _pairs(value)


def _without(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without(value) for key, value in content.items() if key not in KEYS}
    return [_without(value) for value in content] if isinstance(content, list) else content
