"""What agents with a language model have in common: prompts, the policy, and its action probabilities."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from heed.agents.agent import LanguageAgent, TakeEnv
from heed.agents.environments import fitting_env, require_language_vec_env
from heed.agents.persistence.saved_policy import read_language_model, read_policy, require_savable, write_policy
from heed.policies.adapters.parameter_groups import FACTOR
from heed.policies.adapters.rank_budget import RankBudget
from heed.policies.backbones.precision import decided, weights_dtype
from heed.policies.finite import require_finite_weights
from heed.policies.language_policy import LanguagePolicy
from heed.policies.modalities.modality import modalities_of, unread_keys
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import DEFAULT_MODEL, LanguageModel
from heed.policies.models.loading import load_language_model, options_for
from heed.policies.networks.choosing import reads_segments
from heed.policies.networks.prompt_network import PromptNetwork
from heed.policies.prompts.layout import PromptLayout
from heed.policies.prompts.prompt import PromptSpace, PromptVecEnv

LANGUAGE_POLICY = "LanguagePolicy"
"""The name under which every agent knows its language policy."""


class LanguagePolicyAgent(LanguageAgent):
    """Mixin before an SB3 algorithm, over a policy that reads prompts with a language model.

    `env` is wrapped so that the policy sees prompts. `policy_kwargs` takes `max_prompt_tokens`, `template`
    (`heed.policies.prompts.template`), `words_only` (leave out auxiliary observations), `quantize` (load the
    language model with weights of `8bit` or `4bit`) and `segments` (let a frozen encoder process the instruction,
    parts of the observation and actions one by one; the default wherever possible) besides the policy's own arguments.
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
        options = ModelOptions.among(policy_kwargs)
        model = policy_kwargs.get("model", DEFAULT_MODEL)
        if isinstance(model, LanguageModel) and quantize not in (None, model.quantized):
            raise ValueError(
                "This language model is loaded already: load_language_model(name, quantize=...) quantizes it."
            )
        if isinstance(model, LanguageModel):
            language_model = model
        else:
            dtype = weights_dtype(options.weights)
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
        segments = reads_segments(language_model, options_for(language_model, options), segments)
        encoder = language_model.encoder(
            template=template,
            max_tokens=language_model.backbone.prompt_tokens if max_tokens is None else max_tokens,
            modalities=modalities,
            segments=segments,
        )
        return PromptVecEnv(env, encoder), policy_kwargs

    def _remember_arguments(self, arguments: dict[str, Any]) -> None:
        """Keep the constructor's arguments, for checkpoints.

        Raises:
            TypeError, ValueError: if the policy's optimizer cannot train it, or not be saved.
        """
        super()._remember_arguments(arguments)
        require_savable(arguments.get("policy_kwargs") or {}, arguments["device"])

    def _setup_model(self) -> None:
        self._decide_precision()
        super()._setup_model()
        if isinstance(self.policy, LanguagePolicy):
            # The policy may have copied it; do not keep the original too.
            self.policy_kwargs = {**self.policy_kwargs, "model": self.policy.language_model}

    def _decide_precision(self) -> None:
        """Replace the precision `auto` where this processor has to try it out, so that a checkpoint holds the answer.

        A training that is resumed computes as it began, and several ranks compute alike.
        """
        options, given = ModelOptions.among(self.policy_kwargs or {}), (self.policy_kwargs or {}).get("model")
        if isinstance(given, LanguageModel) and (options.precision, options.weights) == ("auto", "float32"):
            settled = self.ranks.first(lambda: decided(given.model, "auto", self.device))
            if settled != "auto":
                self.policy_kwargs = {**self.policy_kwargs, "precision": settled}

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name not in self.policy_aliases:
            raise ValueError(
                f"There is no policy {policy_name!r} here, since observations are words: leave it out, or give "
                f"{LANGUAGE_POLICY!r}, which reads them with a language model."
            )
        return super()._get_policy_from_name(policy_name)

    def _fitting_env(self, env: Any) -> VecEnv:
        """Return other environments as the agent takes them."""
        return fitting_env(env, self.language_policy.encoder, self.action_space)

    @property
    def language_policy(self) -> LanguagePolicy:
        """The policy, as what it is here."""
        assert isinstance(self.policy, LanguagePolicy)
        return self.policy

    @property
    def rank_budget(self) -> RankBudget | None:
        """Distributes the ranks of an AdaLoRA adapter, if the policy has one."""
        return self.policy.rank_budget if isinstance(self.policy, LanguagePolicy) else None

    def _share_ranks(self) -> None:
        """Let an AdaLoRA adapter drop its least important ranks, after a step of the optimizer."""
        if self.rank_budget is not None:
            self.rank_budget.share(1 - self._current_progress_remaining)

    @property
    def _layout(self) -> PromptLayout:
        """What stands where in what the policy reads; of what are no prompts, all that they hold."""
        space = self.observation_space
        return space.encoder.layout if isinstance(space, PromptSpace) else PromptLayout(math.prod(space.shape or ()))

    def _policies(self) -> list[torch.nn.Module]:
        """Return the policy, and what other policies the agent keeps."""
        return [self.policy]

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        """Set the learning rate of the time, for each part of the policy its own."""
        super()._update_learning_rate(optimizers)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] *= group.get(FACTOR, 1.0)

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

    def clear_cache(self) -> None:
        """Drop cached outputs of the language model: prompts are computed again, in the rounding of their new batch."""
        for policy in self._policies():
            for module in policy.modules():
                if isinstance(module, PromptNetwork):
                    module.clear_cache()

    def weights(self) -> Iterator[Tensor]:
        """Yield all tensors of the policy, which are the same in all processes."""
        yield from self.policy.parameters()
        yield from self.policy.buffers()

    # -- checkpoints ---------------------------------------------------------------------------------------

    def require_finite(self) -> None:
        """Refuse to be saved or shared with a weight that is not finite.

        Raises:
            NonFiniteError: naming the first.
        """
        for policy in self._policies():
            require_finite_weights(policy)

    def write_learned(self, folder: Path) -> dict[str, Any]:
        """Write policy and optimizer."""
        return write_policy(self.language_policy, self.policy_kwargs, self.rank_budget, folder)

    def read_learned(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put both back."""
        read_policy(self.language_policy, self.rank_budget, folder, saved["optimizer"])

    @classmethod
    def read_arguments(
        cls, folder: Path, saved: dict[str, Any], base_model: str | None
    ) -> tuple[dict[str, Any], spaces.Space[Any], TakeEnv]:
        """Return the policy's arguments with its language model, the space of its prompts, and what takes an env."""
        policy_kwargs, encoder = read_language_model(folder, saved, base_model)
        arguments = {"policy_kwargs": policy_kwargs}
        return arguments, encoder.space, lambda env, action_space: fitting_env(env, encoder, action_space)

    def restore_envs(self, state: dict[str, Any]) -> Any:
        """Bring the environments back, where they can be; return their prompts."""
        if not isinstance(self.env, PromptVecEnv) or not hasattr(self.env.unwrapped, "set_state"):
            return None
        return self.env.set_state(state)
