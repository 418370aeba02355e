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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy

from heed.agents.q_learning import QLearning
from heed.envs.probes import PROBES, Case, Probe
from heed.envs.vectorize import LanguageVecEnv
from heed.policies.prompt import PromptSpace

TOLERANCE = 0.2
"""How far a value may be from what it is to be: values of different states differ by 0.5 or more with gamma = 0.5."""
SURE = 0.85
"""How likely the best action is to be, where a policy has probabilities."""
GAMMA = 0.5
"""A discount that values tell from none after a single step."""
STEPS = 16_384
"""Of the environments together, at most, on each probe."""
N_ENVS = 16

SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 8, "batch_size": 64, "learning_rate": 3e-3},
    "a2c": {"n_steps": 4, "learning_rate": 3e-3},
    "reinforce": {"n_steps": 4, "learning_rate": 3e-3},
    "grpo": {"n_steps": 8, "batch_size": 64, "learning_rate": 3e-3, "group_size": 8},
    "dqn": {
        "learning_starts": 64,
        "buffer_size": 2_000,
        "batch_size": 64,
        "gradient_steps": 1,
        "target_update_interval": 64,
        "learning_rate": 3e-3,
    },
    "q-learning": {},
}
"""Arguments of Heed's agents, by their names, that suit episodes of one or two steps."""

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
    except (TypeError, ValueError) as error:
        # What not every agent can do it may refuse; to learn from words is not that.
        if probe.needs:
            return result("skipped", str(error))
        return result("failed", f"The agent cannot be made: {type(error).__name__}: {error}")
    why_not = _cannot(agent, probe)
    if why_not:
        return result("skipped", why_not)
    exam = _Exam(probe, float(getattr(agent, "gamma", 1.0) if gamma is None else gamma))
    if not getattr(agent, "_custom_logger", False):
        agent.set_logger(Logger(folder=None, output_formats=[]))
    try:
        agent.learn(steps, callback=exam)
        wrong = exam.wrong(agent)
    except Exception as error:
        return result("failed", f"{probe.broken} It raised {type(error).__name__}: {error}", agent.num_timesteps)
    if wrong:
        return result("failed", f"{probe.broken} {wrong}", agent.num_timesteps)
    return result("passed", probe.tests, agent.num_timesteps)


def _cannot(agent: BaseAlgorithm, probe: Probe) -> str:
    """Return why an agent cannot solve a probe by what it is, or nothing."""
    if probe.needs == "values" and not _has_values(agent):
        return f"{type(agent).__name__} has no value function."
    if probe.needs in ("numbers", "image"):
        encoder = getattr(agent.observation_space, "encoder", None)
        if encoder is None or probe.needs not in encoder.keys:
            return f"{type(agent).__name__} reads the words alone here."
    return ""


def _has_values(agent: BaseAlgorithm) -> bool:
    if isinstance(agent, QLearning) or hasattr(agent.policy, "q_net"):
        return True
    return isinstance(agent.policy, ActorCriticPolicy) and getattr(agent, "has_critic", True)


@dataclass(frozen=True)
class _Beliefs:
    """What an agent knows of B states."""

    values: npt.NDArray[Any] | None = None
    """(B,), of a critic."""
    action_values: npt.NDArray[Any] | None = None
    """(B, A), of a table or a Q-network."""
    probabilities: npt.NDArray[Any] | None = None
    """(B, A), of a policy."""
    actions: npt.NDArray[Any] | None = None
    """(B,), the ones that it takes where it has no probabilities."""


def _beliefs(agent: BaseAlgorithm, words: Mapping[str, Any]) -> _Beliefs:
    if isinstance(agent, QLearning):
        return _Beliefs(action_values=agent.q_values(words))
    space = agent.observation_space
    observations: Any = space.encoder(words) if isinstance(space, PromptSpace) else words
    policy: Any = agent.policy
    policy.set_training_mode(False)
    with torch.no_grad():
        if hasattr(policy, "q_net"):
            prompts, _ = policy.obs_to_tensor(observations)
            return _Beliefs(action_values=policy.q_net(prompts).cpu().numpy())
        if not isinstance(policy, ActorCriticPolicy):
            return _Beliefs(actions=agent.predict(observations, deterministic=True)[0])
        prompts, _ = policy.obs_to_tensor(observations)
        distribution: Any = policy.get_distribution(prompts).distribution
        values = policy.predict_values(prompts).flatten().cpu().numpy() if _has_values(agent) else None
        return _Beliefs(values=values, probabilities=distribution.probs.cpu().numpy())


class _Exam(BaseCallback):
    """Ends a training as soon as the agent knows all that a probe asks."""

    def __init__(self, probe: Probe, gamma: float):
        super().__init__()
        self._cases = probe.cases(gamma)
        self._words = {key: [case.observation[key] for case in self._cases] for key in self._cases[0].observation}
        self._next = 0
        self._passed = False

    def _on_rollout_start(self) -> None:
        # Off-policy agents begin a rollout with every step, and what changed since the last one is little.
        if self.num_timesteps >= self._next:
            self._passed = not self.wrong(self.model)
            self._next = self.num_timesteps + 128

    def _on_step(self) -> bool:
        return not self._passed

    def wrong(self, agent: BaseAlgorithm) -> str:
        """Return a sentence on what the agent has wrong, or nothing."""
        beliefs = _beliefs(agent, self._words)
        for row, case in enumerate(self._cases):
            told = _wrong_values(beliefs, row, case)
            if told:
                return told
        for row, case in enumerate(self._cases):  # actions follow from values
            told = _wrong_action(beliefs, row, case)
            if told:
                return told
        return ""


def _wrong_values(beliefs: _Beliefs, row: int, case: Case) -> str:
    critic = beliefs.values is not None and case.comes_of_best_actions
    if critic and not abs(beliefs.values[row] - case.value) <= TOLERANCE:  # type: ignore[index]
        return f"The value of {_told(case)} is {beliefs.values[row]:.2f}, but should be {case.value:.2f}."
    if beliefs.action_values is not None:
        for action, value in enumerate(case.action_values):
            believed = beliefs.action_values[row, action]
            if not abs(believed - value) <= TOLERANCE:
                return f"The value of action {action} in {_told(case)} is {believed:.2f}, but should be {value:.2f}."
    return ""


def _wrong_action(beliefs: _Beliefs, row: int, case: Case) -> str:
    best = case.best
    if best is None:
        return ""
    if beliefs.probabilities is not None:
        probability = beliefs.probabilities[row, best]
        if probability >= SURE:
            return ""
        return f"In {_told(case)} the right action {best} has the probability {probability:.2f}."
    shown = beliefs.actions if beliefs.action_values is None else beliefs.action_values.argmax(axis=1)
    assert shown is not None
    return "" if shown[row] == best else f"In {_told(case)} the action is {shown[row]}, but should be {best}."


def _told(case: Case) -> str:
    """Return the words of a state, and what tells it from others."""
    more = {key: value for key, value in case.observation.items() if key not in ("instruction", "observation")}
    words = f"{case.observation['instruction']!r}, {case.observation['observation']!r}"
    if "actions" in more:
        words += f", {more['actions']}"
    if "numbers" in more:
        words += f", {more['numbers'].tolist()}"
    return words
