"""What Heed's agents share beyond SB3's algorithms: environments that speak.

`LanguageAgent` makes prompts of what they say, and tells what its policy would do. What it inherits stands in files of
its own: `heed.agents.persistence.saved_agent` saves and loads it, `heed.agents.distributed.joined_agent` lets several
processes train it.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor

from heed.agents.environments import (
    fitting_env,
    require_language_vec_env,
    reward_normalization,
)
from heed.agents.persistence.saved_agent import OWN, SavedAgent
from heed.agents.persistence.saved_policy import WEIGHTS
from heed.policies.adapters.parameter_groups import FACTOR
from heed.policies.adapters.rank_budget import RankBudget
from heed.policies.backbones.precision import weights_dtype
from heed.policies.finite import telling_when
from heed.policies.language_policy import LanguagePolicy
from heed.policies.modalities.modality import modalities_of, unread_keys
from heed.policies.models.language_model import TINY, LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.choosing import reads_segments
from heed.policies.networks.prompt_network import PromptNetwork
from heed.policies.prompts.layout import PromptLayout
from heed.policies.prompts.prompt import PromptSpace, PromptVecEnv

__all__ = ["LANGUAGE_POLICY", "MAX_PROMPT_TOKENS", "OWN", "WEIGHTS", "LanguageAgent"]

LANGUAGE_POLICY = "LanguagePolicy"
"""The name under which every agent knows its language policy."""

MAX_PROMPT_TOKENS = 256
"""How long prompts may be unless `policy_kwargs["max_prompt_tokens"]` says otherwise."""


class LanguageAgent(SavedAgent):
    """Mixin before an SB3 algorithm.

    - `env` is a language `VecEnv` (from `heed.envs.make`); it is wrapped so that the policy sees prompts.
      `policy_kwargs` takes `max_prompt_tokens`, `template` (`heed.policies.prompts.template`), `words_only` (leave out
      the numbers and the picture that the observations have beside their words), `quantize` (load the language model
      with weights of `8bit` or `4bit`) and `segments` (let a frozen encoder read instruction and parts of the
      observation one by one; it does wherever it can) besides the policy's own arguments.
    - `save` and `load` use folders of JSON and safetensors, never pickle.
    - Within `heed.agents.distributed.ranks.join`, several processes train it together, each with its share of the
      environments.
      `env` is that share, and other sizes (steps, minibatches, buffers, intervals) are those of all together.
    """

    @staticmethod
    def prepare(env: Any, policy_kwargs: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Wrap `env` so that it gives prompts, and load the language model that makes them.

        Returns:
            The environment, and the policy's keyword arguments with the language model in them.
        """
        policy_kwargs = dict(policy_kwargs or {})
        max_tokens = policy_kwargs.pop("max_prompt_tokens", None)
        template = policy_kwargs.pop("template", None)
        words_only = policy_kwargs.pop("words_only", False)
        quantize = policy_kwargs.pop("quantize", None)
        segments = policy_kwargs.pop("segments", None)
        if env is None:
            return None, policy_kwargs
        env = require_language_vec_env(env)
        if isinstance(env.observation_space, PromptSpace):
            asked = {
                "max_prompt_tokens": max_tokens,
                "template": template,
                "words_only": words_only,
                "segments": segments,
            }
            ignored = [name for name, value in asked.items() if value not in (None, False)]
            if ignored:
                raise ValueError(
                    f"The environment makes prompts already (PromptVecEnv), so {' and '.join(ignored)} in "
                    "policy_kwargs would change nothing: say it to its encoder, or give the environment without it."
                )
        model = policy_kwargs.get("model", TINY)
        if isinstance(model, LanguageModel) and quantize not in (None, model.quantized):
            raise ValueError(
                "This language model is loaded already: load_language_model(name, quantize=...) quantizes it."
            )
        if isinstance(model, LanguageModel):
            language_model = model
        else:
            dtype = weights_dtype(policy_kwargs.get("weights", "float32"))
            language_model = load_language_model(model, dtype=dtype, quantize=quantize).give_away()
        policy_kwargs["model"] = language_model
        if isinstance(env.observation_space, PromptSpace):
            return env, policy_kwargs
        assert isinstance(env.observation_space, spaces.Dict)
        unread = unread_keys(env.observation_space)
        if unread:
            warnings.warn(
                f"The agent does not see what the observations hold under {', '.join(unread)}: no modality reads it. "
                "Put it into words, or register a modality (heed.policies.register_modality).",
                stacklevel=3,
            )
        modalities = modalities_of(env.observation_space, env.action_space, words_only=words_only)
        segments = reads_segments(language_model, policy_kwargs, segments)
        encoder = language_model.encoder(
            template=template,
            max_tokens=MAX_PROMPT_TOKENS if max_tokens is None else max_tokens,
            modalities=modalities,
            segments=segments,
        )
        return PromptVecEnv(env, encoder), policy_kwargs

    def _setup_model(self) -> None:
        super()._setup_model()
        if isinstance(self.policy, LanguagePolicy):
            # A model that the policy has copied is not kept beside it.
            self.policy_kwargs = {**self.policy_kwargs, "model": self.policy.language_model}
        # SB3 would put back what VecNormalize has changed in observations. Here it changes rewards alone.
        self._vec_normalize_env = None

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name not in self.policy_aliases:
            raise ValueError(
                f"There is no policy {policy_name!r} here, since observations are words: leave it out, or give "
                f"{LANGUAGE_POLICY!r}, which reads them with a language model."
            )
        return super()._get_policy_from_name(policy_name)

    def get_env(self) -> VecEnv | None:
        """Return the environments as they were given, before prompts were made of what they say."""
        given = self._given_env
        return given if given in (self.env, getattr(self.env, "venv", None)) else self.env

    def get_vec_normalize_env(self) -> VecNormalize | None:
        """Return SB3's `VecNormalize`, if it is around the environments: it scales their rewards."""
        return reward_normalization(self.env)

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Train in other environments from now on, as many as there were.

        Args:
            env: as in the constructor, with the actions that the agent has.
            force_reset: begin new episodes; False goes on with those that are running, if these environments are the
                ones that the agent has already.

        Raises:
            TypeError: if it is no `VecEnv`.
            ValueError: if it carries no words, or has other actions, or not what the agent reads beside the words; if
                the number of environments is another; or if there are no episodes to go on with.
        """
        same = env is not None and env in (self.env, self.get_env())
        if not same and not force_reset:
            raise ValueError(
                "force_reset=False goes on with the running episodes, but other environments do not have these: leave "
                "it out."
            )
        if not same:
            self._use_env(env)
        if force_reset:
            self._interrupt_episodes()

    def _fitting_env(self, env: Any) -> VecEnv:
        """Return other environments as the agent takes them."""
        return fitting_env(env, self.language_policy.encoder, self.action_space)

    def _use_env(self, env: Any) -> None:
        """Take other environments in place of those that there are, or of none."""
        taken = self._fitting_env(env)
        if taken.num_envs != self.n_envs:
            raise ValueError(
                f"The agent has {self.n_envs} environments, and set_env takes as many, not {taken.num_envs}: "
                f"{type(self).__name__}.load(path, env=...) takes another number."
            )
        self._given_env, self.env = env, taken
        for part in self._parts():
            part.uses(taken)
        if self.learners.several:
            self._require_shares()

    def set_random_seed(self, seed: int | None = None) -> None:
        """Set the seed of all randomness; the environments begin new episodes with it."""
        super().set_random_seed(seed)
        if seed is not None:
            self._interrupt_episodes()

    @property
    def language_policy(self) -> LanguagePolicy:
        """The policy, as what it is here."""
        assert isinstance(self.policy, LanguagePolicy)
        return self.policy

    @property
    def rank_budget(self) -> RankBudget | None:
        """What shares the ranks of an AdaLoRA adapter, if the policy has one."""
        return self.policy.rank_budget if isinstance(self.policy, LanguagePolicy) else None

    def _share_ranks(self) -> None:
        """Let an AdaLoRA adapter lose the ranks that matter least; behind a step of the optimizer."""
        if self.rank_budget is not None:
            self.rank_budget.share(1 - self._current_progress_remaining)

    @property
    def _layout(self) -> PromptLayout:
        """What stands where in what the policy reads; of what are no prompts, all that they hold."""
        space = self.observation_space
        return space.encoder.layout if isinstance(space, PromptSpace) else PromptLayout(math.prod(space.shape or ()))

    def learn(self, *arguments: Any, **named: Any) -> Any:
        """Train; the arguments are those of SB3's algorithm.

        Raises:
            NonFiniteError: where a loss, gradient, score, value or reward is NaN or infinite, saying when.
        """
        with self._telling_when():
            return super().learn(*arguments, **named)  # type: ignore[safe-super]  # the algorithm's, behind this mixin

    def _telling_when(self) -> contextlib.AbstractContextManager[None]:
        """Return what says how far the training was when a number came up that is not finite."""
        return telling_when(
            lambda: f"The training ends here, after {self.num_timesteps} steps and {self._n_updates} updates."
        )

    def _policies(self) -> list[torch.nn.Module]:
        """Return the policy, and what other policies the agent keeps."""
        return [self.policy]

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        """Set the learning rate of the time, for each part of the policy its own."""
        super()._update_learning_rate(optimizers)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] *= group.get(FACTOR, 1.0)

    def predict(
        self,
        observation: Any,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """Return actions, (B,) or one, and `state`.

        Args:
            observation: a dict of texts, `{"instruction": "...", "observation": "..."}` and what stands beside them; a
                dict of lists; a list of dicts; or prompts, (B, L) or (L,).
            state: of SB3's recurrent policies; it is handed back.
            episode_start: likewise.
            deterministic: take the best action, instead of drawing one.

        Raises:
            TypeError: if it is neither words nor prompts.
            ValueError: if there is none, a key is missing, or there are no such prompts.
        """
        return super().predict(observation, state, episode_start, deterministic)

    def action_probabilities(self, observations: Any) -> npt.NDArray[np.floating[Any]]:
        """Return the probability of every action, (B, A), for a batch of prompts or language observations.

        Raises:
            TypeError: if the actions are not Discrete.
        """
        if not isinstance(self.action_space, spaces.Discrete):
            raise TypeError(f"Actions of {self.action_space} have no list of probabilities.")
        self.policy.set_training_mode(False)
        prompts, _ = self.policy.obs_to_tensor(observations)
        with torch.no_grad():
            return self._probabilities(prompts).cpu().numpy()

    @abstractmethod
    def _probabilities(self, prompts: Any) -> Tensor:
        """Return the probability of every action, (B, A), for prompts (B, L)."""

    def action_preferences(self, observations: Any) -> npt.NDArray[np.floating[Any]]:
        """Return the numbers, (B, A), of which the agent's greedy action has the largest; arguments as above.

        Raises:
            TypeError: if the actions are not Discrete.
        """
        return self.action_probabilities(observations)

    def forget_readings(self) -> None:
        """Forget what the language model has read: prompts are read again, and rounded by those read beside them."""
        for policy in self._policies():
            for module in policy.modules():
                if isinstance(module, PromptNetwork):
                    module.forget()
