"""The actor-critic policy, for PPO and A2C: an action distribution and a value from one reading of the prompt."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.distributions import Categorical

from heed.policies.adapters.adapters import Adapter
from heed.policies.adapters.parameter_groups import LearningRates
from heed.policies.backbones.networks import make_network
from heed.policies.backbones.precision import Precision, Weights, require_sensible
from heed.policies.backbones.prompt_network import Head
from heed.policies.decision import Evaluation
from heed.policies.finite import require_finite_scores
from heed.policies.heads.scoring import Normalization
from heed.policies.models.language_model import TINY, LanguageModel
from heed.policies.models.loading import as_trained
from heed.policies.observations import PromptObservations, require_prompt_space

NO_ACTION = -1e9
"""The logit of an action that there is not; its probability is 0 exactly."""


class LanguageActorCriticPolicy(PromptObservations, ActorCriticPolicy):
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
        head: how actions come out of the language model.
        normalization: of the scores over an action's tokens.
        temperature: divides the scores.
        train_layers: how many of the language model's top layers train; None for all of it, 0 for nothing.
        freeze_embeddings: let the language model's embeddings stay as they are, and an output embedding that is one.
        adapter: trains instead of the language model's weights.
        learning_rates: how the learning rate differs from part to part; None for the same everywhere.
        precision: `bfloat16`, `float32`, or `auto`: bfloat16 on a GPU that has it, for models wide enough.
        compiled: let `torch.compile` fuse the layers' operations: the first updates take minutes, later ones less time.
        activation_checkpointing: let layers keep their input alone for the gradient, and compute the rest again: much
            less memory, and a third more time.
        weights: `bfloat16` stores the language model so, in half the memory, where nothing of it trains but an adapter.
        value_hidden: width of the value network's hidden layer.
        optimizer_class: as in SB3.
        optimizer_kwargs: as in SB3.
        use_sde: must be False: state-dependent exploration has no meaning here.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        model: str | LanguageModel = TINY,
        head: Head = "score",
        normalization: Normalization = "mean",
        temperature: float = 1.0,
        train_layers: int | None = None,
        freeze_embeddings: bool = False,
        adapter: Adapter | None = None,
        learning_rates: LearningRates | None = None,
        precision: Precision = "auto",
        compiled: bool = False,
        activation_checkpointing: bool = False,
        weights: Weights = "float32",
        value_hidden: int = 64,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        use_sde: bool = False,
    ):
        if use_sde:
            raise ValueError("use_sde=True is not for language policies.")
        require_sensible(precision, weights, trains_own_weights=adapter is None and train_layers != 0)
        self.language_model = as_trained(
            model, train_layers, adapter, embeddings=not freeze_embeddings, weights=weights
        )
        require_prompt_space(observation_space, self.language_model.vocabulary)
        self.head: Head = head
        self.normalization: Normalization = normalization
        self.temperature = temperature
        self.train_layers = train_layers
        self.learning_rates = learning_rates
        self.precision: Precision = precision
        self.compiled = compiled
        self.activation_checkpointing = activation_checkpointing
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
        self.network = make_network(
            self.language_model,
            self.action_space,
            self.head,
            self.normalization,
            encoder=self.encoder,
            train_layers=self.train_layers,
            precision=self.precision,
            compiled=self.compiled,
            activation_checkpointing=self.activation_checkpointing,
        )
        self.features_dim = self.network.features_dim
        super()._build(lr_schedule)
        if self.head == "score":
            del self.action_net
        elif isinstance(self.action_net, nn.Linear):
            # An almost uniform first policy, as SB3's orthogonal initialisation with gain 0.01 gives.
            nn.init.orthogonal_(self.action_net.weight, gain=0.01)
            nn.init.zeros_(self.action_net.bias)
        trained = self.trained_parameters()
        self.optimizer = self.optimizer_class(trained, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def trained_parameters(self) -> list[Any]:
        """Return what an optimizer of the policy takes: the parameters that train, by the factors of their rates."""
        if self.learning_rates is None:
            return [parameter for parameter in self.parameters() if parameter.requires_grad]
        values = (self.mlp_extractor.value_net, self.value_net)
        return self.learning_rates.groups(self, self.network.model, values)

    def read(self, prompts: Tensor) -> tuple[Distribution, Tensor]:
        """Return the action distribution and the values, (B, 1), for prompts (B, L)."""
        features, scores = self.network(prompts)
        return self._distribution(features, scores), self._values(features)

    def _distribution(self, features: Tensor, scores: Tensor | None) -> Distribution:
        if scores is None:
            outputs = self.action_net(features)
            require_finite_scores(outputs, self)
            if isinstance(self.action_dist, DiagGaussianDistribution):
                require_finite_scores(self.log_std, self, name="standard deviation")
                return self.action_dist.proba_distribution(outputs, self.log_std)
            return self.action_dist.proba_distribution(action_logits=outputs)
        assert isinstance(self.action_dist, CategoricalDistribution)
        # Actions that are not there have the score -inf, from which entropy and KL would make NaN.
        logits = (scores / self.temperature).clamp(min=NO_ACTION)
        # Where actions are drawn; in an update the loss tells as much, and is one number.
        if not torch.is_grad_enabled():
            require_finite_scores(scores if self.network.action_sets is None else logits, self)
        # Torch's own check takes three times as long as all else that is done with the scores.
        self.action_dist.distribution = Categorical(logits=logits, validate_args=False)
        return self.action_dist

    def read_values_alone(self, prompts: Tensor) -> Tensor:
        """Return the values, (B, 1), for prompts (B, L), with a gradient for the value network only."""
        with torch.no_grad():
            features, _ = self.network(prompts)
        return self._values(features)

    def _values(self, features: Tensor) -> Tensor:
        values: Tensor = self.value_net(self.mlp_extractor.forward_critic(features))
        return values

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values (B, 1) and the actions' log-probabilities (B,) for prompts (B, L)."""
        distribution, values = self.read(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        log_probabilities = distribution.log_prob(actions)
        return actions.reshape((-1, *(self.action_space.shape or ()))), values, log_probabilities

    def read_ahead(self, prompts: npt.NDArray[np.integer[Any]]) -> None:
        """Read prompts, (B, L), that are going to be asked for one by one; without a memory this does nothing."""
        if self.network.memory is not None and not self.training:
            with torch.no_grad():
                self.network(torch.as_tensor(prompts, device=self.device))

    def evaluate(self, prompts: Tensor, actions: Tensor, *, values: bool = True) -> Evaluation:
        """Return what the policy says of `actions`, (B, ...), at prompts (B, L); without `values` none are computed."""
        features, scores = self.network(prompts)
        distribution = self._distribution(features, scores)
        return Evaluation(
            log_probability=distribution.log_prob(actions),
            entropy=distribution.entropy(),
            values=self._values(features) if values else None,
            distribution=copy.copy(distribution),  # SB3's holds the next one as well
        )

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values (B, 1), log-probabilities (B,) of `actions`, and the entropy (B,), for prompts (B, L)."""
        distribution, values = self.read(obs)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: Any) -> Distribution:
        """Return the action distribution for prompts (B, L); no value is computed."""
        return self._distribution(*self.network(obs))

    def predict_values(self, obs: Any) -> Tensor:
        """Return the values, (B, 1), for prompts (B, L)."""
        return self.read(obs)[1]
