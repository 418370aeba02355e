"""Loading an agent without knowing which algorithm trained it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from heed.agents.a2c import A2C
from heed.agents.agent import LanguageAgent
from heed.agents.dqn import DQN
from heed.agents.grpo import GRPO
from heed.agents.persistence.checkpoint import CheckpointError, read_json, verify_checkpoint
from heed.agents.persistence.shared import home_of
from heed.agents.ppo import PPO
from heed.agents.q_learning import QLearning
from heed.agents.reinforce import REINFORCE

AGENTS: dict[str, type[PPO | A2C | GRPO | DQN | QLearning]] = {
    "ppo": PPO,
    "a2c": A2C,
    "reinforce": REINFORCE,
    "grpo": GRPO,
    "dqn": DQN,
    "q-learning": QLearning,
}
"""Heed's agents by the name that the command line knows."""


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
            unknown agent.
        ValueError: if `env` has other actions than the agent.
    """
    folder = home_of(Path(path))
    verify_checkpoint(folder)
    saved = read_json(folder / "agent.json")
    # Of a table, not by its name: a name in a file is nothing to be looked up among all that there is.
    saved_class = saved.get("class") if isinstance(saved, dict) else None
    for agent_class in AGENTS.values():
        if agent_class.__name__ == saved_class:
            return agent_class._load_verified(folder, saved, env, device, base_model, arguments)
    raise CheckpointError(f"{folder / 'agent.json'} holds an agent of the unknown class {saved_class!r}.")
