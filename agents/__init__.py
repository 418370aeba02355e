"""Agents: SB3 algorithms over language policies."""

if __name__ != "heed.agents":
    # A bare `agents` would collide with other people's packages of that name.
    raise ImportError("This folder is Heed's `heed.agents` package: import `heed.agents`, not `agents`.")

from heed.agents.a2c import A2C
from heed.agents.agent import LanguageAgent
from heed.agents.dqn import DQN
from heed.agents.grpo import GRPO
from heed.agents.imitation.cloning import Cloning, clone
from heed.agents.imitation.dagger import dagger
from heed.agents.persistence.checkpoint import CheckpointError
from heed.agents.persistence.export import export
from heed.agents.persistence.loading import AGENTS, load
from heed.agents.ppo import PPO
from heed.agents.q_learning import QLearning
from heed.agents.reinforce import REINFORCE

__all__ = [
    "A2C",
    "AGENTS",
    "DQN",
    "GRPO",
    "PPO",
    "REINFORCE",
    "CheckpointError",
    "Cloning",
    "LanguageAgent",
    "QLearning",
    "clone",
    "dagger",
    "export",
    "load",
]
