"""What the worlds need of the operating system: `python -m tests.envs.worlds.system` says what is missing.

pip cannot install it. The tests of a world whose system packages are missing are skipped.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from ctypes import CDLL
from ctypes.util import find_library

from heed.envs.contract import UnknownEnvironmentError
from heed.envs.worlds.miniwob.browser import find_browser


def _browser() -> str | None:
    try:
        find_browser()
    except UnknownEnvironmentError as error:
        return str(error)
    return None


def _miniworld() -> str | None:
    try:
        importlib.import_module("heed.envs.worlds.miniworld.world")
    except ModuleNotFoundError as error:
        return str(error)
    return None


def _mujoco() -> str | None:
    """Training needs nothing; drawing needs EGL or OSMesa."""
    chosen = os.environ.get("MUJOCO_GL", "egl")
    library = {"egl": "EGL", "osmesa": "OSMesa"}.get(chosen)
    if library is None or _loads(library):
        return None
    package = {"EGL": "libegl1", "OSMesa": "libosmesa6"}[library]
    return f"MUJOCO_GL={chosen} draws with lib{library}, which is not there: apt-get install {package}"


def _loads(library: str) -> bool:
    name = find_library(library)
    if name is None:
        return False
    try:
        CDLL(name)
    except OSError:
        return False
    return True


def _compiler() -> str | None:
    if any(map(shutil.which, ("cc", "gcc", "clang"))):
        return None
    return "its interpreter of story files, jericho, is compiled when it is installed: apt-get install build-essential"


NEEDS: dict[str, Callable[[], str | None]] = {
    "MiniWoB++": _browser,
    "MiniWorld": _miniworld,
    "robotics": _mujoco,
    "TextWorld": _compiler,
}
"""World -> what says in a sentence what it lacks of the system, or None."""


def missing() -> dict[str, str]:
    """Return the worlds that lack something, each with the sentence that says what to install."""
    told = {world: check() for world, check in NEEDS.items()}
    return {world: sentence for world, sentence in told.items() if sentence is not None}


def main() -> None:
    """Print what is missing."""
    lacking = missing()
    for world, sentence in lacking.items():
        print(f"{world}: {sentence}")
    if lacking:
        print("Tests that need it are skipped, and name the reason.")


if __name__ == "__main__":
    main()
