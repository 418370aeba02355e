"""Which part of an agent is broken: `check_agent` puts it to the probes of `heed.envs.probes`."""

from heed.agents.probing.check import GAMMA, N_ENVS, STEPS, Result, check_agent
from heed.agents.probing.exam import SURE, TOLERANCE

__all__ = ["GAMMA", "N_ENVS", "STEPS", "SURE", "TOLERANCE", "Result", "check_agent"]
