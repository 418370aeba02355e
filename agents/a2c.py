"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783) for language policies, in its synchronous form.

SB3's A2C does the work. What differs:
- the update is ours (`PolicyGradient`): gradients in parts, a reference policy. It is one step on the whole rollout,
  with SB3's objective, or `n_epochs` steps, which may end at a target KL;
- environments speak, and checkpoints hold no pickle (`LanguageAgent`);
- defaults suit a small language model in short episodes: Adam instead of RMSprop, generalised advantages, normalised.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from stable_baselines3 import A2C as SB3A2C
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor

from heed.agents.policy_agent import LANGUAGE_POLICY
from heed.agents.policy_gradient import Measures, PolicyGradient
from heed.agents.rollouts.sample import Sample
from heed.policies.actor_critic import LanguageActorCriticPolicy


class A2C(PolicyGradient, SB3A2C):
    """A2C over a `LanguageActorCriticPolicy`; the arguments are SB3's, with other defaults.

    Args:
        policy: "LanguagePolicy" or a policy class.
        env: a language `VecEnv` as `heed.envs.make` gives it; None only to load.
        learning_rate: a number or a schedule; by default 1e-3 falling linearly to 1e-4.
        n_steps: steps per environment in a rollout.
        micro_batch_tokens: as in `PPO`.
        gamma: discount.
        gae_lambda: of generalised advantage estimation.
        ent_coef: weight of the entropy bonus: a number or a schedule.
        vf_coef: weight of the value loss.
        reference_coef: weight of the KL divergence from the policy that the training began with.
        value_warmup_steps: environment steps at the beginning in which only the value function learns.
        max_grad_norm: gradients are clipped to this norm.
        n_epochs: updates on a rollout; with more than one, the later ones do not follow its policy any more.
        target_kl: end a rollout's updates where the policy has moved this far; None for no limit. It needs `n_epochs`.
        normalize_advantage: within a rollout.
        stats_window_size: episodes that the logged means are taken over.
        tensorboard_log: folder for TensorBoard.
        policy_kwargs: as in `PPO`.
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
        n_steps: int = 16,
        micro_batch_tokens: int | None = None,
        gamma: float = 0.95,
        gae_lambda: float = 0.95,
        ent_coef: float | Schedule = 0.01,
        vf_coef: float = 0.5,
        reference_coef: float = 0.0,
        value_warmup_steps: int = 0,
        max_grad_norm: float = 0.5,
        n_epochs: int = 1,
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
            batch_tokens=None,
            micro_batch_tokens=micro_batch_tokens,
            reference_coef=reference_coef,
            value_warmup_steps=value_warmup_steps,
            n_epochs=n_epochs,
            target_kl=target_kl,
        )
        if target_kl is not None and n_epochs == 1:
            raise ValueError("target_kl ends a rollout's updates early, but with n_epochs=1 there is only one.")
        env, policy_kwargs = self.prepare(env, policy_kwargs)
        super().__init__(
            policy=policy,
            env=env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,  # type: ignore[arg-type]  # SB3 keeps it, and only our update reads it
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_rms_prop=False,
            normalize_advantage=normalize_advantage,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def objective(self, sample: Sample) -> tuple[Tensor, Measures]:
        """Return -A log pi(a), the critic's error and the entropy bonus; the old log-probabilities are constants."""
        policy_loss = -(sample.batch.advantages * sample.log_ratio).mean()
        loss = policy_loss + self.entropy_weight * sample.entropy_loss + self.vf_coef * sample.value_loss
        return loss, {
            "value_loss": sample.value_loss,
            "policy_gradient_loss": policy_loss,
            "entropy_loss": sample.entropy_loss,
        }
