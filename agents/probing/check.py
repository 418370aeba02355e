"""Puts an agent to the probes of `heed.envs.probes`: which of its parts works, and which is the first that does not.

    from heed.agents.probing import check_agent
    for result in check_agent(lambda env: MyAgent(env), gamma=0.5):
        print(result.probe, result.outcome, result.detail)

An agent trains on each probe anew, until it knows what is to be known there, or its steps are used up. What it is to
know is exact: V*(s), of a critic in the states that the best actions lead to; Q*(s, a) in every state; and the best
action, which a policy is to take with a probability of at least `SURE`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger

from heed.agents.probing.exam import Exam, has_values
from heed.envs.probes import PROBES, Probe
from heed.envs.vectorize import LanguageVecEnv

logger = logging.getLogger(__name__)

GAMMA = 0.5
"""A discount that values tell from none after a single step."""
STEPS = 32_768
"""Of the environments together, at most, on each probe."""
N_ENVS = 16

_REFUSABLE = ("actions", "numbers", "image")
"""What of an observation an agent may refuse, or not read."""

MakeAgent = Callable[[Any], BaseAlgorithm]
"""Makes an agent for a vectorised language environment."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one probe."""

    probe: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str
    """What was seen, or what is broken, or why it was skipped."""
    steps: int = 0
    """Of the environments together until it was passed, or given up."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def check_agent(
    make_agent: MakeAgent,
    *,
    gamma: float | None = None,
    probes: Sequence[str] = tuple(PROBES),
    steps: int = STEPS,
    n_envs: int = N_ENVS,
    group_size: int = 1,
    seed: int = 0,
    until_failure: bool = False,
) -> Iterator[Result]:
    """Train an agent on each probe, and yield what came of it.

    Args:
        make_agent: makes a new agent for the environments that it is given: any of SB3's, with a policy of Heed's or
            one of its own over prompts.
        gamma: the discount that its values are to have; None for its own `gamma`. With one near 1, values cannot tell a
            wrong discount.
        probes: their names, in any order; the simplest comes first.
        steps: at most, on each probe.
        n_envs: environments side by side.
        group_size: episodes that begin alike, for agents that compare them.
        seed: of the environments.
        until_failure: end with the first probe that fails.

    Raises:
        ValueError: if there is no such probe.
    """
    unknown = sorted(set(probes) - set(PROBES))
    if unknown:
        raise ValueError(f"There is no probe {unknown[0]!r}: there are {', '.join(PROBES)}.")
    for name in PROBES:
        if name in probes:
            env = LanguageVecEnv([PROBES[name].make] * n_envs, seed=seed, group_size=group_size)
            with contextlib.closing(env):
                result = _probe(PROBES[name], env, make_agent, gamma, steps)
            yield result
            if until_failure and result.outcome == "failed":
                return


def _probe(probe: Probe, env: LanguageVecEnv, make_agent: MakeAgent, gamma: float | None, steps: int) -> Result:
    began = time.monotonic()

    def result(outcome: Literal["passed", "failed", "skipped"], detail: str, taken: int = 0) -> Result:
        return Result(probe=probe.name, outcome=outcome, detail=detail, steps=taken, seconds=time.monotonic() - began)

    try:
        agent = make_agent(env)
    except Exception as error:
        # What not every agent can take it may refuse; to learn from words is not that.
        if probe.needs in _REFUSABLE and isinstance(error, (TypeError, ValueError)):
            return result("skipped", str(error))
        logger.exception("The agent for the probe %r cannot be made.", probe.name)
        return result("failed", f"The agent cannot be made: {type(error).__name__}: {error}")
    why_not = _cannot(agent, probe)
    if why_not:
        return result("skipped", why_not)
    exam = Exam(probe, float(getattr(agent, "gamma", 1.0) if gamma is None else gamma))
    if not getattr(agent, "_custom_logger", False):
        agent.set_logger(Logger(folder=None, output_formats=[]))
    try:
        agent.learn(steps, callback=exam)
        wrong = exam.wrong(agent)
    except Exception as error:
        # The traceback is for whoever wrote the agent; the other probes may tell more.
        logger.exception("The agent raised on the probe %r.", probe.name)
        return result("failed", f"{probe.broken} It raised {type(error).__name__}: {error}", agent.num_timesteps)
    if wrong:
        return result("failed", f"{probe.broken} {wrong}", agent.num_timesteps)
    return result("passed", probe.tests, agent.num_timesteps)


def _cannot(agent: BaseAlgorithm, probe: Probe) -> str:
    """Return why an agent cannot solve a probe by what it is, or nothing."""
    if probe.needs == "values" and not has_values(agent):
        return f"{type(agent).__name__} has no value function."
    if probe.needs in _REFUSABLE:
        encoder = getattr(agent.observation_space, "encoder", None)
        if encoder is None or probe.needs not in encoder.keys:
            return f"{type(agent).__name__} reads the words alone here."
    return ""
