"""The actor-critic policy, for PPO and A2C: an action distribution and a value from one forward pass."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from heed.policies.decision import Decision, Evaluation
from heed.policies.heads.action_head import ActionHead, Reading, environment_action, head_kind
from heed.policies.language_policy import LanguagePolicy
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import DEFAULT_MODEL, LanguageModel
from heed.policies.networks.prompt_network import PromptNetwork


class LanguageActorCriticPolicy(LanguagePolicy, ActorCriticPolicy):
    """A language model as actor and critic.

    - `head="score"`: pi(a | prompt) is the softmax over actions of their texts' log-likelihoods divided by
      `temperature`; over those that the prompt lists, where they change from state to state.
    - `head="linear"`: a linear layer over the last hidden state gives the distribution SB3 uses for the action space.

    The value is a small network over the last hidden state.

    Args:
        observation_space: a `PromptSpace`, as `PromptVecEnv` gives it.
        action_space: any that SB3's PPO takes; `TextActions` or `ChangingActions` for `head="score"`.
        lr_schedule: gives the optimizer's first learning rate.
        model: a name for `load_language_model`, or a language model, which is copied unless it was given away.
        temperature: divides the scores.
        value_hidden: width of the value network's hidden layer.
        optimizer_class: as in SB3.
        optimizer_kwargs: as in SB3.
        options: how the language model is used, each a keyword argument: the fields of `heed.policies.ModelOptions`.
        use_sde: must be False: state-dependent exploration has no meaning here.
    """

    value_name = "value of what is seen"
    explained_name = "log-probability"

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        model: str | LanguageModel = DEFAULT_MODEL,
        temperature: float = 1.0,
        value_hidden: int = 64,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        use_sde: bool = False,
        **options: Any,
    ):
        if use_sde:
            raise ValueError("use_sde=True is not for language policies.")
        self.temperature = temperature
        self._load_language_model(observation_space, model, ModelOptions(**options))
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch={"pi": [], "vf": [value_hidden]},
            ortho_init=False,  # SB3's would overwrite the language model's weights
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        """Make network, heads and optimizer; SB3 calls this at the end of its constructor."""
        self.network = self._make_network(self.language_model)
        self.features_dim = self.network.features_dim
        super()._build(lr_schedule)
        del self.action_net  # the head's part
        if hasattr(self, "log_std"):
            del self.log_std
        with torch.random.fork_rng(devices=[]):  # SB3 has drawn the first weights of its own in this place
            self.action_head: ActionHead = head_kind(self.options.head).actor(
                action_space=self.action_space, width=self.features_dim, temperature=self.temperature
            )
        self.action_head.reset_parameters()
        trained = self.trained_parameters()
        self.optimizer = self.optimizer_class(trained, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def trained_parameters(self) -> list[Any]:
        """Return what an optimizer of the policy takes: the parameters that train, by the factors of their rates."""
        if self.options.learning_rates is None:
            return [parameter for parameter in self.parameters() if parameter.requires_grad]
        values = (self.mlp_extractor.value_net, self.value_net)
        return self.options.learning_rates.groups(self, self.network.model, values)

    @property
    def acting(self) -> nn.Module:
        """The policy itself."""
        return self

    @property
    def reader(self) -> PromptNetwork:
        """The network of actor and critic."""
        return self.network

    def read(self, prompts: Tensor) -> Reading:
        """Run the language model on prompts, (B, L); return its features and scores."""
        features, scores = self.network(prompts)
        changing = self.network.has_changing_actions
        return Reading(prompts=prompts, features=features, scores=scores, changing=changing, source=self)

    def read_values_alone(self, prompts: Tensor) -> Tensor:
        """Return the values, (B, 1), for prompts (B, L), with a gradient for the value network only."""
        with torch.no_grad():
            features, _ = self.network(prompts)
        return self._values(features)

    def values_from(self, reading: Reading) -> Tensor:
        """Return the values, (B, 1), of a forward pass."""
        return self._values(reading.features)

    def _values(self, features: Tensor) -> Tensor:
        values: Tensor = self.value_net(self.mlp_extractor.forward_critic(features))
        return values

    def act(self, prompts: Tensor, *, greedy: bool = False) -> Decision:
        """Return actions with their values for prompts (B, L), drawn or the most probable."""
        reading = self.read(prompts)
        values = self.values_from(reading)
        actions, log_probability = self.action_head.act(reading, greedy=greedy)
        return Decision(actions=actions, log_probability=log_probability, values=values)

    def evaluate(self, prompts: Tensor, actions: Tensor, *, values: bool = True) -> Evaluation:
        """Evaluate `actions`, (B, ...), at prompts (B, L); without `values` none are computed."""
        reading = self.read(prompts)
        evaluation = self.action_head.evaluate(reading, actions)
        return dataclasses.replace(evaluation, values=self.values_from(reading)) if values else evaluation

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values (B, 1) and the actions' log-probabilities (B,) for prompts (B, L)."""
        decision = self.act(obs, greedy=deterministic)
        return decision.actions, decision.values, decision.log_probability

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        actions, _ = self.action_head.act(self.read(observation), greedy=deterministic)
        taken: Tensor = environment_action(actions, self.action_space)
        return taken

    def read_ahead(self, prompts: npt.NDArray[np.integer[Any]]) -> None:
        """Compute prompts, (B, L), that will be asked for one by one; without a cache this does nothing."""
        if self.network.memory is not None and not self.training:
            with torch.no_grad():
                self.network(torch.as_tensor(prompts, device=self.device))

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values (B, 1), log-probabilities (B,) of `actions`, and the entropy (B,), for prompts (B, L)."""
        evaluation = self.evaluate(obs, actions)
        assert evaluation.values is not None
        return evaluation.values, evaluation.log_probability, evaluation.entropy

    def get_distribution(self, obs: Any) -> Distribution:
        """Return the action distribution for prompts (B, L); no value is computed.

        Raises:
            TypeError: if the head has none.
        """
        return self.action_head.distribution(self.read(obs))

    def predict_values(self, obs: Any) -> Tensor:
        """Return the values, (B, 1), for prompts (B, L)."""
        return self.values_from(self.read(obs))

    def best_actions(self, prompts: Tensor) -> Tensor:
        """Return the most probable actions."""
        return self.action_head.act(self.read(prompts), greedy=True)[0]

    def values_of(self, prompts: Tensor, actions: Tensor) -> Tensor:
        """Return what the critic expects, (B,)."""
        return self.predict_values(prompts).flatten()

    def explained(self, prompts: Tensor, action: Tensor) -> Tensor:
        """Return log pi(action), (B,)."""
        actions = action.expand(len(prompts), *action.shape[1:])
        return self.action_head.evaluate(self.read(prompts), actions).log_probability
