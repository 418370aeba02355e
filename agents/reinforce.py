"""REINFORCE with a baseline (Williams 1992, doi 10.1007/BF00992696; Sutton and Barto, section 13.4).

The return that followed an action, less the baseline's guess of it, weighs the action's log-probability. What differs:
- an episode that is still running at the end of a rollout, or met its time limit, has no return yet: the baseline
  stands for what is to come (waiting for its end instead would leave long episodes out, and favour short ones);
- the baseline is the critic, trained on the same returns; advantages are normalised within a rollout;
- one step of Adam on all episodes of a rollout, with an entropy bonus, as in `A2C`, of which this is the case with
  lambda = 1 and long rollouts.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule

from heed.agents.a2c import A2C
from heed.agents.policy_agent import LANGUAGE_POLICY


class REINFORCE(A2C):
    """REINFORCE over a `LanguageActorCriticPolicy`.

    Args:
        policy: "LanguagePolicy" or a policy class.
        env: a language `VecEnv` as `heed.envs.make` gives it; None only to load.
        learning_rate: a number or a schedule; by default 1e-3 falling linearly to 1e-4.
        n_steps: steps per environment in a rollout: several episodes.
        micro_batch_tokens: as in `PPO`.
        gamma: discount.
        ent_coef: weight of the entropy bonus: a number or a schedule.
        vf_coef: weight of the baseline's loss.
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

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy] = LANGUAGE_POLICY,
        env: Any = None,
        learning_rate: float | Schedule = LinearSchedule(1e-3, 1e-4, 1.0),  # noqa: B008 - holds no state
        n_steps: int = 64,
        micro_batch_tokens: int | None = None,
        gamma: float = 0.95,
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
        arguments = {name: value for name, value in locals().items() if name != "self" and not name.startswith("__")}
        super().__init__(gae_lambda=1.0, **arguments)
        self._remember_arguments(arguments)
