"""The Q-learning policy, for DQN: a value for every action from one reading of the prompt."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor, nn

from heed.policies.adapters.adapters import Adapter
from heed.policies.adapters.parameter_groups import LearningRates
from heed.policies.backbones.networks import make_network
from heed.policies.backbones.precision import Precision, Weights, require_sensible
from heed.policies.backbones.prompt_network import Head
from heed.policies.finite import require_finite_scores
from heed.policies.heads.scoring import Normalization
from heed.policies.models.language_model import TINY, LanguageModel
from heed.policies.models.loading import as_trained
from heed.policies.observations import PromptObservations, require_prompt_space
from heed.policies.prompts.prompt import PromptSpace


class LanguageQNetwork(PromptObservations, BasePolicy):
    """Q-values of all actions from a language model.

    With `dueling`, Q(s, a) = V(s) + A(s, a) - the mean of A(s, .), equation 9 of Wang et al. 2016 (arXiv 1511.06581).
    The state's value V is a linear layer over the prompt's last hidden state, which keeps Q free of the range of what
    A is made of. The advantages are

    - `head="score"`: the action texts' log-likelihoods times a learned scale. In maximum-entropy reinforcement
      learning an optimal policy's log-probabilities *are* its advantages;
    - `head="linear"`: a linear layer over the same hidden state.

    Without it they are the Q-values themselves, for `head="score"` moved by a learned number, the same for all states:
    log-likelihoods are negative, and returns need not be.

    Wang et al. give V and A hidden layers of their own and scale down the gradient that enters their common layers;
    here the language model is what is common, and neither is done.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        *,
        language_model: LanguageModel,
        head: Head,
        normalization: Normalization,
        dueling: bool,
        train_layers: int | None,
        precision: Precision,
        compiled: bool,
        activation_checkpointing: bool = False,
    ):
        super().__init__(observation_space, action_space)
        assert isinstance(observation_space, PromptSpace)
        self.network = make_network(
            language_model,
            action_space,
            head,
            normalization,
            encoder=observation_space.encoder,
            train_layers=train_layers,
            precision=precision,
            compiled=compiled,
            activation_checkpointing=activation_checkpointing,
        )
        width = self.network.features_dim
        self.offset: nn.Parameter | None = None
        if head == "score":
            self.scale = nn.Parameter(torch.ones(()))
            if not dueling:
                self.offset = nn.Parameter(torch.zeros(()))
        else:
            self.action_values = nn.Linear(width, int(action_space.n))
        self.state_value = nn.Linear(width, 1) if dueling else None

    def forward(self, obs: Tensor) -> Tensor:
        """Return the Q-values, (B, A), of prompts (B, L); -inf where there are fewer actions."""
        features, scores = self.network(obs)
        if scores is None:
            return self._q_values(features, self.action_values(features), None)
        there = scores != -torch.inf if self.network.action_sets is not None else None
        advantages = self.scale * (scores if there is None else scores.masked_fill(~there, 0.0))
        return self._q_values(features, advantages, there)

    def _q_values(self, features: Tensor, advantages: Tensor, there: Tensor | None) -> Tensor:
        """Return the Q-values given advantages, (B, A), of which those that are not `there`, (B, A), are 0."""
        if self.state_value is None:
            q_values = advantages if self.offset is None else self.offset + advantages
        else:
            counts = advantages.shape[1] if there is None else there.sum(dim=1, keepdim=True)
            q_values = self.state_value(features) + advantages - advantages.sum(dim=1, keepdim=True) / counts
        return q_values if there is None else q_values.masked_fill(~there, -torch.inf)

    def _predict(self, observation: Any, deterministic: bool = True) -> Tensor:
        q_values = self.forward(observation)
        # The best is NaN where any value is; actions that are not there have -inf.
        require_finite_scores(q_values.amax(dim=1), self, name="value")
        return q_values.argmax(dim=1).reshape(-1)


class LanguageQPolicy(PromptObservations, DQNPolicy):
    """A language model as Q-network, with a target network of its own.

    Each network has all of its weights, since SB3 moves all of the target network's; see `sharing`.

    Args:
        observation_space: a `PromptSpace`, as `PromptVecEnv` gives it.
        action_space: `TextActions` or `ChangingActions` for `head="score"`, any Discrete space for `head="linear"`.
        lr_schedule: gives the optimizer's first learning rate.
        model: a name for `load_language_model`, or a language model, which is copied unless it was given away.
        head: how Q-values come out of the language model.
        normalization: of the scores over an action's tokens.
        dueling: let a value of the state and the actions' advantages make up the Q-values.
        train_layers: how many of the language model's top layers train; None for all of it, 0 for nothing.
        freeze_embeddings: let the language model's embeddings stay as they are, and an output embedding that is one.
        adapter: trains instead of the language model's weights.
        learning_rates: how the learning rate differs from part to part; None for the same everywhere. `value` is of the
            state's value in the dueling form.
        precision: `bfloat16`, `float32`, or `auto`: bfloat16 on a GPU that has it, for models wide enough.
        compiled: let `torch.compile` fuse the layers' operations: the first updates take minutes, later ones less time.
        activation_checkpointing: let layers keep their input alone for the gradient, and compute the rest again: much
            less memory, and a third more time.
        weights: `bfloat16` stores the language model so, in half the memory, where nothing of it trains but an adapter.
        optimizer_class: as in SB3.
        optimizer_kwargs: as in SB3.
    """

    shares_frozen: ClassVar[bool] = False
    """Whether both networks have those weights in common that do not train."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        model: str | LanguageModel = TINY,
        head: Head = "score",
        normalization: Normalization = "mean",
        dueling: bool = True,
        train_layers: int | None = None,
        freeze_embeddings: bool = False,
        adapter: Adapter | None = None,
        learning_rates: LearningRates | None = None,
        precision: Precision = "auto",
        compiled: bool = False,
        activation_checkpointing: bool = False,
        weights: Weights = "float32",
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ):
        require_sensible(precision, weights, trains_own_weights=adapter is None and train_layers != 0)
        self.language_model = as_trained(
            model, train_layers, adapter, embeddings=not freeze_embeddings, weights=weights
        )
        require_prompt_space(observation_space, self.language_model.vocabulary)
        self.head: Head = head
        self.normalization: Normalization = normalization
        self.dueling = dueling
        self.train_layers = train_layers
        self.learning_rates = learning_rates
        self.precision: Precision = precision
        self.compiled = compiled
        self.activation_checkpointing = activation_checkpointing
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        """Make both networks and the optimizer; SB3 calls this at the end of its constructor."""
        super()._build(lr_schedule)
        # The target network outlives many checkpoints unchanged. What it remembers depends, in the last bit, on the
        # batches in which it read, and a resumed training could not go on exactly.
        # A frozen model is the same in both networks, and so is what they remember of it.
        online: Any = self.q_net
        target: Any = self.q_net_target
        is_same = self.shares_frozen and online.network.is_frozen
        target.network.memory = online.network.memory if is_same else None
        target.network.prefixes = None
        if self.learning_rates is not None:
            values = () if online.state_value is None else (online.state_value,)
            groups = self.learning_rates.groups(online, online.network.model, values)
            self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def make_q_net(self) -> LanguageQNetwork:  # type: ignore[override]
        """Make one network with a language model of its own; SB3 calls this for online and target network.

        The first one has the policy's language model itself.
        """
        assert isinstance(self.action_space, spaces.Discrete)
        language_model = self.language_model
        if hasattr(self, "q_net"):
            language_model = language_model.copy(shares_frozen=self.shares_frozen)
        network = LanguageQNetwork(
            self.observation_space,
            self.action_space,
            language_model=language_model,
            head=self.head,
            normalization=self.normalization,
            dueling=self.dueling,
            train_layers=self.train_layers,
            precision=self.precision,
            compiled=self.compiled,
            activation_checkpointing=self.activation_checkpointing,
        )
        return network.to(self.device)


def sharing(kind: type[LanguageQPolicy]) -> type[LanguageQPolicy]:
    """Return the class of policies whose two networks have those weights in common that do not train.

    It is for `heed.agents.DQN`, whose target network moves by the weights that are apart. SB3's own DQN would multiply
    the common ones by 1 - tau at each update: with tau=1 they would be zero.
    """
    return kind if kind.shares_frozen else type(kind.__name__, (kind,), {"shares_frozen": True})
