"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) for language policies.

SB3's PPO does the work. What differs:
- environments speak, and checkpoints hold no pickle (`LanguageAgent`);
- the update is ours (`PolicyGradient`): minibatches by tokens, gradients in parts, a reference policy. The objective is
  SB3's, without clipping of the value;
- defaults suit a small language model in short episodes: many environments with short rollouts, large
  minibatches, few epochs, a learning rate that falls linearly to a tenth, an entropy bonus.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor

from heed.agents.policy_agent import LANGUAGE_POLICY
from heed.agents.policy_gradient import Measures, PolicyGradient
from heed.agents.rollouts.sample import Sample
from heed.policies.actor_critic import LanguageActorCriticPolicy


class PPO(PolicyGradient, SB3PPO):
    """PPO over a `LanguageActorCriticPolicy`; the arguments are SB3's, with other defaults.

    Args:
        policy: "LanguagePolicy" or a policy class.
        env: a language `VecEnv` as `heed.envs.make` gives it; None only to load.
        learning_rate: a number or a schedule; by default 1e-3 falling linearly to 1e-4.
        n_steps: steps per environment in a rollout.
        batch_size: prompts in a minibatch, at most; all are of about the same size.
        batch_tokens: tokens in a minibatch, about, if it is to be given so; `batch_size` has no meaning then.
        micro_batch_tokens: the gradient of a minibatch is gathered in parts of at most so many different tokens, which
            bounds memory and changes nothing but rounding; None for the whole minibatch at once.
        n_epochs: passes over a rollout.
        gamma: discount.
        gae_lambda: of generalised advantage estimation.
        clip_range: of the probability ratio.
        ent_coef: weight of the entropy bonus: a number or a schedule.
        vf_coef: weight of the value loss.
        reference_coef: weight of the KL divergence from the policy that the training began with.
        value_warmup_steps: environment steps at the beginning in which only the value function learns.
        max_grad_norm: gradients are clipped to this norm.
        target_kl: stop a rollout's epochs where the policy has moved this far; None for no limit.
        normalize_advantage: within a minibatch.
        stats_window_size: episodes that the logged means are taken over.
        tensorboard_log: folder for TensorBoard.
        policy_kwargs: `model`, `head`, `normalization`, ... of the policy; `max_prompt_tokens`, `template` of prompts.
        verbose: as in SB3.
        seed: of all randomness, environments included.
        device: as in SB3.
        _init_setup_model: as in SB3.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {LANGUAGE_POLICY: LanguageActorCriticPolicy}

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy] = LANGUAGE_POLICY,
        env: Any = None,
        learning_rate: float | Schedule = LinearSchedule(1e-3, 1e-4, 1.0),  # noqa: B008 - holds no state
        n_steps: int = 64,
        batch_size: int = 512,
        batch_tokens: int | None = None,
        micro_batch_tokens: int | None = None,
        n_epochs: int = 4,
        gamma: float = 0.95,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        ent_coef: float | Schedule = 0.01,
        vf_coef: float = 0.5,
        reference_coef: float = 0.0,
        value_warmup_steps: int = 0,
        max_grad_norm: float = 0.5,
        target_kl: float | None = None,
        normalize_advantage: bool = True,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        self._remember_arguments(locals())
        self._set_update(
            batch_tokens=batch_tokens,
            micro_batch_tokens=micro_batch_tokens,
            reference_coef=reference_coef,
            value_warmup_steps=value_warmup_steps,
            n_epochs=n_epochs,
            target_kl=target_kl,
        )
        env, policy_kwargs = self.prepare(env, policy_kwargs)
        with warnings.catch_warnings():
            # That the last of them is small, which it is not here.
            warnings.filterwarnings("ignore", "You have specified a mini-batch size")
            super().__init__(
                policy=policy,
                env=env,
                learning_rate=learning_rate,
                n_steps=n_steps,
                batch_size=batch_size,
                n_epochs=n_epochs,
                gamma=gamma,
                gae_lambda=gae_lambda,
                clip_range=clip_range,
                ent_coef=ent_coef,  # type: ignore[arg-type]  # SB3 keeps it, and only our update reads it
                vf_coef=vf_coef,
                max_grad_norm=max_grad_norm,
                target_kl=target_kl,
                normalize_advantage=normalize_advantage,
                stats_window_size=stats_window_size,
                tensorboard_log=tensorboard_log,
                policy_kwargs=policy_kwargs,
                verbose=verbose,
                seed=seed,
                device=device,
                _init_setup_model=_init_setup_model,
            )

    def _begin_update(self) -> None:
        assert callable(self.clip_range)
        self._clip_range = self.clip_range(self._current_progress_remaining)
        self.logger.record("train/clip_range", self._clip_range)

    def objective(self, sample: Sample) -> tuple[Tensor, Measures]:
        """Return the clipped surrogate, the critic's error and the entropy bonus (equation 9 of the paper)."""
        policy_loss, clip_fraction = clipped_surrogate(sample, self._clip_range)
        loss = policy_loss + self.entropy_weight * sample.entropy_loss + self.vf_coef * sample.value_loss
        return loss, {
            "clip_fraction": clip_fraction,
            "value_loss": sample.value_loss,
            "policy_gradient_loss": policy_loss,
            "entropy_loss": sample.entropy_loss,
        }


def clipped_surrogate(sample: Sample, clip_range: float) -> tuple[Tensor, Tensor]:
    """Return the clipped loss (equation 7 of the paper), (), and the share of the steps that it clips, ()."""
    advantages, ratio = sample.batch.advantages, sample.log_ratio.exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    loss = -torch.min(advantages * ratio, advantages * clipped).mean()
    return loss, ((ratio - 1).abs() > clip_range).float().mean()
