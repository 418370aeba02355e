"""Language models by a name of one's own: what loads them, registered here or by installed packages.

A loader makes the `LanguageModel` itself, so it may take a model from anywhere: from a folder of another format, with
a tokenizer or a template of its own. It is code: no checkpoint brings one along. A model that was trained is read
without its loader; for an adapter the loader gives the base model again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import entry_points

import torch

from heed.policies.models.language_model import LanguageModel

ENTRY_POINT_GROUP = "heed.models"
"""Packages add models of their own in this entry point group: name = the model's name, value = its loader."""

Loader = Callable[[torch.dtype], LanguageModel]
"""Loads a language model, with weights of the type that it is given."""

PYTHON_FILE = re.compile(r".*\.py:[^:/]*", re.DOTALL)
"""A name as the command line takes it for a loader in a file."""

_registry: dict[str, Loader] = {}


def register_language_model(name: str, load: Loader) -> None:
    """Let `load_language_model` and `--model` find a language model by a name; the last of a name wins.

    Args:
        name: goes before any folder or hub id of the same name.
        load: is called with the type of the weights, whenever one is asked for, and returns a new one each time.
    """
    _registry[name] = load


def loader_of(name: str) -> Loader | None:
    """Return what loads the model of a name, or None where none is registered."""
    if name in _registry:
        return _registry[name]
    plugged = (one for one in entry_points(group=ENTRY_POINT_GROUP) if one.name == name)
    return next((one.load() for one in plugged), None)
