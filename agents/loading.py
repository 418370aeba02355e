"""Loading an agent without knowing which algorithm trained it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heed.agents.a2c import A2C
from heed.agents.agent import LanguageAgent
from heed.agents.checkpoint import CheckpointError, read_json, verify_checkpoint
from heed.agents.dqn import DQN
from heed.agents.grpo import GRPO
from heed.agents.ppo import PPO
from heed.agents.q_learning import QLearning
from heed.agents.reinforce import REINFORCE
from heed.agents.shared import home_of

AGENTS: dict[str, type[PPO | A2C | GRPO | DQN | QLearning]] = {
    "ppo": PPO,
    "a2c": A2C,
    "reinforce": REINFORCE,
    "grpo": GRPO,
    "dqn": DQN,
    "q-learning": QLearning,
}
"""Heed's agents by the name that the command line knows."""


def load(path: Path | str, **arguments: Any) -> LanguageAgent:
    """Load the agent of a checkpoint folder, or of one that `export` wrote.

    `arguments` are those of `LanguageAgent.load`.

    Raises:
        CheckpointError: if the checkpoint is missing or damaged, naming the file, or of an unknown agent.
    """
    folder = home_of(Path(path))
    verify_checkpoint(folder)
    saved_class = read_json(folder / "agent.json").get("class")
    for agent_class in AGENTS.values():
        if agent_class.__name__ == saved_class:
            return agent_class.load(path, **arguments)
    raise CheckpointError(f"{folder / 'agent.json'} holds an agent of the unknown class {saved_class!r}.")
