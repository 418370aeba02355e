"""A run's configuration without the folders of whoever trained it: others have no use for them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from heed.agents.persistence.export import shared_name
from heed.envs.environment_file import without_folders


def without_own_folders(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration as it is shared: of folders and files of the trainer's machine only the names.

    Args:
        config: as a run's config.json holds it.
    """
    shared = {**config, "env": without_folders(config["env"]), "run_dir": Path(config["run_dir"]).name}
    if config.get("demonstrations"):
        shared["demonstrations"] = Path(config["demonstrations"]).name
    if config.get("model"):
        shared["model"] = shared_name(config["model"])
    return shared


def command_without_own_folders(command: str) -> str:
    """Return a command line with only the names of the files and folders that it names by their whole path."""
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in shlex.split(command))
