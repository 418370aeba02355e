"""Agents: SB3 algorithms over language policies.

What is named here is imported when it is asked for: torch takes seconds, which `heed train --help` need not wait for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "heed.agents":
    # A bare `agents` would collide with other people's packages of that name.
    raise ImportError("This folder is Heed's `heed.agents` package: import `heed.agents`, not `agents`.")

from heed.agents.registry import AGENTS, ALGORITHMS, Algorithm

if TYPE_CHECKING:
    from heed.agents.a2c import A2C
    from heed.agents.agent import LanguageAgent
    from heed.agents.dqn import DQN
    from heed.agents.grpo import GRPO
    from heed.agents.imitation.cloning import Cloning, clone
    from heed.agents.imitation.dagger import dagger
    from heed.agents.persistence.checkpoint import CheckpointError
    from heed.agents.persistence.export import export
    from heed.agents.persistence.saving import load
    from heed.agents.policy_agent import LanguagePolicyAgent
    from heed.agents.ppo import PPO
    from heed.agents.reinforce import REINFORCE
    from heed.agents.tabular.q_learning import QLearning

_PLACES = {
    "A2C": "a2c",
    "DQN": "dqn",
    "GRPO": "grpo",
    "PPO": "ppo",
    "REINFORCE": "reinforce",
    "CheckpointError": "persistence.checkpoint",
    "Cloning": "imitation.cloning",
    "LanguageAgent": "agent",
    "LanguagePolicyAgent": "policy_agent",
    "QLearning": "tabular.q_learning",
    "clone": "imitation.cloning",
    "dagger": "imitation.dagger",
    "export": "persistence.export",
    "load": "persistence.saving",
}
"""The modules of what is imported when it is asked for."""

__all__ = [
    "A2C",
    "AGENTS",
    "ALGORITHMS",
    "DQN",
    "GRPO",
    "PPO",
    "REINFORCE",
    "Algorithm",
    "CheckpointError",
    "Cloning",
    "LanguageAgent",
    "LanguagePolicyAgent",
    "QLearning",
    "clone",
    "dagger",
    "export",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'heed.agents' has no attribute {name!r}")
    return getattr(importlib.import_module(f"heed.agents.{_PLACES[name]}"), name)
