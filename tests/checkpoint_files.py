"""Checkpoints of a stranger, for tests: files that are changed, and a manifest that says it is all right."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIRST_FORMAT = Path(__file__).parent / "agents" / "checkpoints" / "format-1"
"""Small checkpoints: ppo, dqn, q-learning."""


def copy_of(name: str, to: Path) -> Path:
    """Return a copy of a small checkpoint, which may be changed."""
    return Path(shutil.copytree(FIRST_FORMAT / name, to / name))


def sign(folder: Path) -> None:
    """Have the manifest name all files as they are now, as whoever made them would."""
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / "manifest.json"]
    digests = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": digests}))


def change_json(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file of a checkpoint, in place or by what is returned, and sign it."""
    content = json.loads((folder / name).read_text())
    changed = change(content)
    (folder / name).write_text(json.dumps(content if changed is None else changed))
    sign(folder)


def put(path: str, value: Any) -> Callable[[Any], None]:
    """Return a change that puts `value` where a path of keys, "a/b/c", leads."""

    def change(content: Any) -> None:
        *folders, last = path.split("/")
        for key in folders:
            content = content[key]
        content[last] = value

    return change
