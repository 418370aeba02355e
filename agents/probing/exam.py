"""What an agent knows of a probe's states, held against what is to be known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy

from heed.agents.tabular.q_learning import QLearning
from heed.envs.probes import Case, Probe
from heed.policies.prompts.prompt import PromptSpace

TOLERANCE = 0.2
"""How far a value may be from what it is to be: values of different states differ by 0.5 or more with gamma = 0.5."""
INTERVAL = 128
"""Steps between two looks at what an agent knows; it is to be right in two of them, one after the other."""
SURE = 0.85
"""How likely the best action is to be, where a policy has probabilities."""


def has_values(agent: BaseAlgorithm) -> bool:
    """Say whether an agent learns values."""
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
        values = policy.predict_values(prompts).flatten().cpu().numpy() if has_values(agent) else None
        return _Beliefs(values=values, probabilities=distribution.probs.cpu().numpy())


class Exam(BaseCallback):
    """Ends a training as soon as the agent knows all that a probe asks.

    Args:
        probe: asks it.
        gamma: the discount that values are to have.
    """

    def __init__(self, probe: Probe, gamma: float):
        super().__init__()
        self._cases = probe.cases(gamma)
        self._words = {key: [case.observation[key] for case in self._cases] for key in self._cases[0].observation}
        self._next = 0
        self._passed = 0

    def _on_rollout_start(self) -> None:
        # Off-policy agents begin a rollout with every step, and what changed since the last one is little.
        if self.num_timesteps >= self._next:
            self._passed = 0 if self.wrong(self.model) else self._passed + 1
            self._next = self.num_timesteps + INTERVAL

    def _on_step(self) -> bool:
        # A value that goes beyond what it is to be is right on its way.
        return self._passed < 2

    def wrong(self, agent: BaseAlgorithm) -> str:
        """Return what the agent has wrong: a sentence on the first value, one on the first action, or nothing."""
        beliefs = _beliefs(agent, self._words)
        # Both, since either may be the cause: a critic learns what its policy earns, and a policy follows its critic.
        told = (_first(_wrong_values, beliefs, self._cases), _first(_wrong_action, beliefs, self._cases))
        return " ".join(sentence for sentence in told if sentence)


def _first(wrong: Callable[[_Beliefs, int, Case], str], beliefs: _Beliefs, cases: list[Case]) -> str:
    """Return the sentence on the first state in which something is wrong, or nothing."""
    return next((told for row, case in enumerate(cases) if (told := wrong(beliefs, row, case))), "")


def _wrong_values(beliefs: _Beliefs, row: int, case: Case) -> str:
    if beliefs.values is not None and case.comes_of_best_actions:
        believed = beliefs.values[row]
        if not abs(believed - case.value) <= TOLERANCE:  # so that NaN is wrong too
            return f"The value of {_told(case)} is {believed:.2f}, but should be {case.value:.2f}."
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
