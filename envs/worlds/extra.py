"""Libraries that an extra brings, loaded when a world needs them."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from typing import Any


def load(module: str, *, system: str = "") -> Any:
    """Import a module of a library that one of Heed's extras brings (`heed.envs.make` says which, if it is missing).

    Args:
        module: its dotted name.
        system: the operating system's packages that it needs, such as "libegl1", as Debian calls them.

    Raises:
        ModuleNotFoundError: if it is missing, or something of the operating system is, with the packages to install.
    """
    try:
        # Some tell of other environments of theirs, or of their own future.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError, AttributeError) as error:  # PyOpenGL and pyglet raise each of these without a library
        needs = f"; it needs the operating system's packages: apt-get install {system}" if system else ""
        sentence = f"{module} cannot be loaded ({error}){needs}"
        raise ModuleNotFoundError(sentence, name=module) from error
