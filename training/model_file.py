"""`--model ./my_model.py:load`: a language model that a Python file loads.

The file is imported for whoever names it on a command line, and for nobody else: a checkpoint or a run's configuration
that names one imports nothing.
"""

from __future__ import annotations

from heed.evaluation.command_line import PYTHON_FILE, env_for_any_folder
from heed.training.errors import ConfigurationError


def model_for_any_folder(name: str) -> str:
    """Return a language model's name with the absolute path in it, if it names a file's loader."""
    return env_for_any_folder(name) if is_model_file(name) else name


def is_model_file(name: str) -> bool:
    """Say whether a language model's name is that of a file's loader."""
    return f"{PYTHON_FILE}:" in name


def use_model_file(name: str) -> None:
    """Import the file of a model that the command line names as `file.py:load`, so that its name is known.

    Raises:
        ConfigurationError: if the file cannot be imported, or has no such function.
    """
    if not is_model_file(name):
        return
    from heed.envs.environment_file import EnvironmentFileError, from_file
    from heed.policies.models.registry import register_language_model

    try:
        load = from_file(name)
    except EnvironmentFileError as error:
        raise ConfigurationError(f"--model {name} cannot be used: {error}") from None
    if not callable(load):
        raise ConfigurationError(f"--model {name} names no function that takes a dtype and loads a language model.")
    for spelled in {name, model_for_any_folder(name)}:
        register_language_model(spelled, load)
