"""Loading an agent without knowing which algorithm trained it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from heed.agents.agent import LanguageAgent
from heed.agents.persistence.checkpoint import CheckpointError, read_json, verify_checkpoint
from heed.agents.persistence.shared import home_of
from heed.agents.registry import ALGORITHMS


def load(
    path: Path | str,
    env: Any = None,
    device: torch.device | str = "auto",
    base_model: str | None = None,
    **arguments: Any,
) -> LanguageAgent:
    """Load the agent of a checkpoint folder, or of one that `export` wrote.

    The arguments are those of `LanguageAgent.load`.

    Raises:
        CheckpointFormatError: if the checkpoint is of a format that this version does not read.
        CheckpointError: if the checkpoint is missing, damaged or holds what it must not, naming the file, or is of an
            agent that is not registered.
        ValueError: if `env` has other actions than the agent.
    """
    folder = home_of(Path(path))
    verify_checkpoint(folder)
    saved = read_json(folder / "agent.json")
    # Of the registry: a name in a file is nothing to be looked up among all that there is.
    saved_class = saved.get("class") if isinstance(saved, dict) else None
    for algorithm in ALGORITHMS.values():
        if algorithm.class_name == saved_class:
            loaded: LanguageAgent = algorithm.agent_class._load_verified(
                folder, saved, env, device, base_model, arguments
            )
            return loaded
    raise CheckpointError(f"{folder / 'agent.json'} holds an agent of the unknown class {saved_class!r}.")
