"""The Q-learning policy, for DQN: a value for every action from one forward pass."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor, nn

from heed.policies.finite import require_finite_scores
from heed.policies.heads.action_head import Reading, ValueHead, head_kind
from heed.policies.language_policy import LanguagePolicy
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import DEFAULT_MODEL, LanguageModel
from heed.policies.networks.prompt_network import PromptNetwork
from heed.policies.observations import PromptObservations


class LanguageQNetwork(PromptObservations, BasePolicy):
    """Q-values of all actions from a language model.

    With `dueling`, Q(s, a) = V(s) + A(s, a) - the mean of A(s, .), equation 9 of Wang et al. 2016 (arXiv 1511.06581).
    The state's value V is a linear layer over the prompt's last hidden state, which keeps Q free of the range of what
    A is made of. The advantages are

    - `head="score"`: the action texts' log-likelihoods times a learned scale (`heed.policies.heads.text_scores`);
    - `head="linear"`: a linear layer over the same hidden state (`heed.policies.heads.linear`).

    Without it they are the Q-values themselves.

    Wang et al. give V and A hidden layers of their own and scale down the gradient that enters their common layers;
    here the language model is what is common, and neither is done.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        network: PromptNetwork,
        *,
        head: str,
        dueling: bool,
    ):
        super().__init__(observation_space, action_space)
        self.network = network
        values = head_kind(head).values
        if values is None:
            raise ValueError(f"head={head!r} has no values of actions: train a policy gradient with it.")
        self.advantages: ValueHead = values(n_actions=int(action_space.n), width=network.features_dim, dueling=dueling)
        self.state_value = nn.Linear(network.features_dim, 1) if dueling else None

    def forward(self, obs: Tensor) -> Tensor:
        """Return the Q-values, (B, A), of prompts (B, L); -inf where there are fewer actions."""
        features, scores = self.network(obs)
        changing = self.network.has_changing_actions
        advantages, there = self.advantages(Reading(obs, features, scores, changing=changing, source=self))
        return self._q_values(features, advantages, there)

    def _q_values(self, features: Tensor, advantages: Tensor, there: Tensor | None) -> Tensor:
        """Return the Q-values given advantages, (B, A), of which those that are not `there`, (B, A), are 0."""
        if self.state_value is None:
            q_values = advantages
        else:
            counts = advantages.shape[1] if there is None else there.sum(dim=1, keepdim=True)
            q_values = self.state_value(features) + advantages - advantages.sum(dim=1, keepdim=True) / counts
        return q_values if there is None else q_values.masked_fill(~there, -torch.inf)

    def _predict(self, observation: Any, deterministic: bool = True) -> Tensor:
        q_values = self.forward(observation)
        # The best is NaN where any value is; actions that are not there have -inf.
        require_finite_scores(q_values.amax(dim=1), self, name="value")
        return q_values.argmax(dim=1).reshape(-1)


class LanguageQPolicy(LanguagePolicy, DQNPolicy):
    """A language model as Q-network, with a target network of its own.

    Each network has all of its weights, since SB3 moves all of the target network's; see `sharing`.

    Args:
        observation_space: a `PromptSpace`, as `PromptVecEnv` gives it.
        action_space: `TextActions` or `ChangingActions` for `head="score"`, any Discrete space for `head="linear"`.
        lr_schedule: gives the optimizer's first learning rate.
        model: a name for `load_language_model`, or a language model, which is copied unless it was given away.
        dueling: let a value of the state and the actions' advantages make up the Q-values.
        optimizer_class: as in SB3.
        optimizer_kwargs: as in SB3.
        options: how the language model is used, each a keyword argument: the fields of `heed.policies.ModelOptions`.
    """

    value_name = "Q-value of the action"
    explained_name = "Q-value above the mean of all actions"
    shares_frozen: ClassVar[bool] = False
    """Whether both networks have those weights in common that do not train."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        model: str | LanguageModel = DEFAULT_MODEL,
        dueling: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ):
        self.dueling = dueling
        self._load_language_model(observation_space, model, ModelOptions(**options))
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
        # The target network stays the same over many checkpoints. The last bits of cached outputs depend on their
        # batch, so with a cache a resumed training could not continue exactly.
        # A frozen model is the same in both networks, and so are its cached outputs.
        online: Any = self.q_net
        target: Any = self.q_net_target
        is_same = self.shares_frozen and online.network.is_frozen
        target.network.memory = online.network.memory if is_same else None
        target.network.prefixes = None
        if self.options.learning_rates is not None:
            values = () if online.state_value is None else (online.state_value,)
            groups = self.options.learning_rates.groups(online, online.network.model, values)
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
            self._make_network(language_model),
            head=self.options.head,
            dueling=self.dueling,
        )
        return network.to(self.device)

    @property
    def acting(self) -> nn.Module:
        """The online network."""
        network: nn.Module = self.q_net
        return network

    @property
    def reader(self) -> PromptNetwork:
        """The network inside the online network."""
        online: Any = self.q_net
        network: PromptNetwork = online.network
        return network

    def best_actions(self, prompts: Tensor) -> Tensor:
        """Return the most valued actions."""
        best: Tensor = self.q_net(prompts).argmax(dim=1)
        return best

    def values_of(self, prompts: Tensor, actions: Tensor) -> Tensor:
        """Return Q(s, a), (B,)."""
        values: Tensor = self.q_net(prompts).gather(1, actions.long().reshape(-1, 1))[:, 0]
        return values

    def explained(self, prompts: Tensor, action: Tensor) -> Tensor:
        """Return Q(s, a) less the mean over the actions, (B,)."""
        q_values: Tensor = self.q_net(prompts)
        there = q_values.isfinite()
        means = q_values.masked_fill(~there, 0.0).sum(dim=1) / there.sum(dim=1)
        advantage: Tensor = q_values[:, int(action)] - means
        return advantage


def sharing(kind: type[LanguageQPolicy]) -> type[LanguageQPolicy]:
    """Return the class of policies whose two networks have those weights in common that do not train.

    It is for `heed.agents.DQN`, whose target network moves by the weights that are apart. SB3's own DQN would multiply
    the common ones by 1 - tau at each update: with tau=1 they would be zero.
    """
    return kind if kind.shares_frozen else type(kind.__name__, (kind,), {"shares_frozen": True})


def follow(online: nn.Module, target: nn.Module, tau: float) -> None:
    """Move the weights of a target network, but for those that it shares, towards the online network's by `tau`."""
    pairs = zip(online.parameters(), target.parameters(), strict=True)
    apart = [(weight, slow) for weight, slow in pairs if weight is not slow]
    polyak_update([weight for weight, _ in apart], [slow for _, slow in apart], tau)
