"""A head that a user might add: it writes one token, a thought, before it chooses an action in its light."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from torch import Tensor, nn
from torch.distributions import Categorical

from heed.policies.decision import Evaluation
from heed.policies.heads.action_head import ActionHead, Reading, register_head

THOUGHTS = 4


class Thinking(ActionHead):
    """An action is a row: what the environment takes, and the thought."""

    def __init__(self, action_space: spaces.Space[Any], width: int, *, temperature: float = 1.0):
        super().__init__(action_space, width, temperature=temperature)
        assert isinstance(action_space, spaces.Discrete)
        self.thought = nn.Linear(width, THOUGHTS)
        self.action = nn.Linear(width, THOUGHTS * int(action_space.n))
        self._n_actions = int(action_space.n)

    @property
    def columns(self) -> int:
        return 2

    def from_rows(self, rows: Tensor) -> Tensor:
        return rows.long()

    def act(self, reading: Reading, *, greedy: bool = False) -> tuple[Tensor, Tensor]:
        thoughts, actions = self._logits(reading)
        thought = thoughts.argmax(dim=1) if greedy else Categorical(logits=thoughts).sample()
        chosen = actions[torch.arange(len(thought)), thought]
        action = chosen.argmax(dim=1) if greedy else Categorical(logits=chosen).sample()
        rows = torch.stack([action, thought], dim=1)
        return rows, self.evaluate(reading, rows).log_probability

    def evaluate(self, reading: Reading, actions: Tensor) -> Evaluation:
        thoughts, chosen = self._logits(reading)
        action, thought = actions[:, 0], actions[:, 1]
        log_probability = Categorical(logits=thoughts).log_prob(thought)
        light = chosen[torch.arange(len(thought)), thought]
        return Evaluation(log_probability=log_probability + Categorical(logits=light).log_prob(action), entropy=None)

    def distribution(self, reading: Reading) -> Distribution:
        """Over actions, whatever was thought."""
        thoughts, actions = self._logits(reading)
        joint = torch.log_softmax(thoughts, dim=1)[:, :, None] + torch.log_softmax(actions, dim=2)
        return CategoricalDistribution(self._n_actions).proba_distribution(joint.logsumexp(dim=1))

    def _logits(self, reading: Reading) -> tuple[Tensor, Tensor]:
        return self.thought(reading.features), self.action(reading.features).unflatten(1, (THOUGHTS, self._n_actions))


register_head("thinking", reads_texts=False, actor=Thinking)
