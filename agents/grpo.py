"""Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300, section 4) for language policies.

There is no critic. G environments begin an episode with the same seed, so in the same level with the same instruction,
and act independently; what an episode was worth is its return against those of its group:

    A_i = (R_i - mean(R)) / std(R)          for every step of episode i

The policy improves by PPO's clipped ratio, held near a reference policy by their KL divergence. What differs:
- a step is an action in an environment, not a token; R is the (discounted) return from the episode's beginning. This is
  the paper's outcome supervision. Its standard deviation is that of the G returns, not of a larger population;
- groups fill up across rollouts: an environment that ends its episode begins the next at once, and steps wait until
  their group's last episode has ended. So no environment idles, no episode is cut, and short ones are not favoured. A
  step may be a rollout or two older than its update; the ratio is taken to the policy that took it, as in the partial
  rollouts of Kimi k1.5 (arXiv 2501.12599);
- an episode that met its time limit counts as over, with the return that it had: without a critic there is nothing to
  stand for what would have come;
- every step weighs the same, where the paper divides by each episode's length, which favours short successes and
  spares long failures: so Dr. GRPO (Liu et al. 2025, arXiv 2503.20783), which also leaves out the division by
  std(R). `divide_by_length` and `divide_by_deviation` choose;
- the divergence from the reference is exact, as the sum over actions, not estimated from the action taken;
- an entropy bonus, and one policy gradient for all of it (`PolicyGradient`): minibatches by tokens, gradients in parts.
"""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from heed.agents.parts import Part
from heed.agents.policy_agent import LANGUAGE_POLICY
from heed.agents.policy_gradient import Measures, PolicyGradient
from heed.agents.ppo import clipped_surrogate
from heed.agents.rollouts.groups import EpisodeGroups
from heed.agents.rollouts.sample import Sample
from heed.envs.demonstrations.demonstrate import MOST_STEPS
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.finite import REMEDY, NonFiniteError, first_not_finite, kind_of


class EndlessEpisodesError(ValueError):
    """The episodes that an agent waits for do not end. The message says after how many steps, and what to do."""


class GRPO(PolicyGradient, OnPolicyAlgorithm):
    """GRPO over a `LanguageActorCriticPolicy`, whose critic stays as it was made.

    Args:
        policy: "LanguagePolicy" or a policy class.
        env: a language `VecEnv` as `heed.envs.make(..., group_size=8)` gives it; None only to load.
        learning_rate: a number or a schedule; by default 1e-3 falling linearly to 1e-4.
        group_size: episodes that begin alike; as that of `env`.
        n_steps: steps per environment in a rollout, at least; it goes on until a group is complete.
        batch_size: prompts in a minibatch, about.
        batch_tokens: as in `PPO`.
        micro_batch_tokens: as in `PPO`.
        n_epochs: passes over the groups that a rollout completed.
        gamma: discount.
        clip_range: of the probability ratio.
        ent_coef: weight of the entropy bonus: a number or a schedule.
        reference_coef: weight of the KL divergence from the policy that the training began with.
        divide_by_deviation: divide a group's advantages by the standard deviation of its returns.
        divide_by_length: divide an episode's advantages by its length.
        max_grad_norm: gradients are clipped to this norm.
        target_kl: stop a rollout's epochs where the policy has moved this far; None for no limit.
        stats_window_size: episodes that the logged means are taken over.
        tensorboard_log: folder for TensorBoard.
        policy_kwargs: as in `PPO`.
        verbose: as in SB3.
        seed: of all randomness, environments included.
        device: as in SB3.
        _init_setup_model: as in SB3.

    Raises:
        ValueError: if `env` has groups of another size.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {LANGUAGE_POLICY: LanguageActorCriticPolicy}
    has_critic = False
    normalize_advantage = False  # groups are

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy] = LANGUAGE_POLICY,
        env: Any = None,
        learning_rate: float | Schedule = LinearSchedule(1e-3, 1e-4, 1.0),  # noqa: B008 - holds no state
        group_size: int = 8,
        n_steps: int = 64,
        batch_size: int = 512,
        batch_tokens: int | None = None,
        micro_batch_tokens: int | None = None,
        n_epochs: int = 4,
        gamma: float = 0.95,
        clip_range: float | Schedule = 0.2,
        ent_coef: float | Schedule = 0.01,
        reference_coef: float = 0.0,
        divide_by_deviation: bool = True,
        divide_by_length: bool = False,
        max_grad_norm: float = 0.5,
        target_kl: float | None = None,
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
            n_epochs=n_epochs,
            target_kl=target_kl,
        )
        if group_size < 2:
            raise ValueError(f"group_size is {group_size}, but an episode is compared with others: at least 2.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but must be at least 1.")
        self.group_size = group_size
        self.batch_size = batch_size
        self.clip_range = clip_range
        self.divide_by_deviation = divide_by_deviation
        self.divide_by_length = divide_by_length
        env, policy_kwargs = self.prepare(env, policy_kwargs)
        super().__init__(
            policy=policy,
            env=env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=1.0,
            ent_coef=ent_coef,  # type: ignore[arg-type]  # SB3 keeps it, and only our update reads it
            vf_coef=0.0,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )

    def _require_groups(self, env: Any) -> None:
        """Refuse environments whose episodes begin alike in groups of another size."""
        theirs = getattr(env.unwrapped, "group_size", 1)
        if theirs != self.group_size:
            raise ValueError(
                f"The agent compares groups of {self.group_size} episodes, but the environments begin alike in "
                f"groups of {theirs}: make them with heed.envs.make(..., group_size={self.group_size})."
            )

    def _fitting_env(self, env: Any) -> VecEnv:
        taken = super()._fitting_env(env)
        self._require_groups(taken)
        return taken

    def _setup_model(self) -> None:
        if self.env is not None:
            self._require_groups(self.env)
        self.rollout_buffer_class = self._make_groups  # type: ignore[assignment]  # SB3 does nothing but call it
        super()._setup_model()
        self.clip_range = FloatSchedule(self.clip_range)

    def _make_groups(self, n_steps: int, prompts: spaces.Space[Any], actions: spaces.Space[Any], **_: Any) -> Any:
        """Make what steps wait in; SB3's own buffer would cut episodes."""
        self.groups = EpisodeGroups(
            prompts,
            actions,
            group_size=self.group_size,
            gamma=self.gamma,
            divide_by_deviation=self.divide_by_deviation,
            divide_by_length=self.divide_by_length,
            device=self.device,
            n_envs=self.n_envs,
        )
        return self.groups

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Act for `n_rollout_steps` steps, and on until a group is complete, in each of several ranks.

        Returns:
            False if a callback ended the training.

        Raises:
            EndlessEpisodesError: if no group is complete after `MOST_STEPS`, or twice the environment's own limit.
        """
        with self.running.playing():
            return self._collect(env, callback, n_rollout_steps)

    def _collect(self, env: VecEnv, callback: BaseCallback, n_rollout_steps: int) -> bool:
        assert isinstance(self.policy, LanguageActorCriticPolicy)
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        n_steps = 0
        while n_steps < n_rollout_steps or not self.ranks.least(len(self.groups.complete)):
            prompts: Any = self._last_obs
            with torch.no_grad():
                reading = self.policy.read(torch.as_tensor(prompts, device=self.device))
                drawn, log_probability = self.policy.action_head.act(reading)
                log_probabilities = log_probability.cpu().numpy()
            actions = drawn.cpu().numpy()
            taken = actions
            if isinstance(self.action_space, spaces.Box):
                taken = np.clip(actions, self.action_space.low, self.action_space.high)
            new_obs, rewards, dones, infos = env.step(taken)
            # Before a callback may end the training: the environments have moved on, and the steps must not be lost.
            running = env.unwrapped.running_groups  # type: ignore[attr-defined]
            self.groups.add(
                prompts, actions.reshape(len(actions), -1), log_probabilities, rewards, dones, infos, running
            )
            self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
            self.num_timesteps += env.num_envs
            n_steps += 1
            if n_steps >= max(n_rollout_steps, MOST_STEPS) and not self.groups.complete and n_steps >= _endless(env):
                raise EndlessEpisodesError(
                    f"GRPO learns from groups of episodes that have ended, but none was whole after {n_steps} steps of "
                    "each environment. Does the environment end its episodes? heed.envs.make(..., max_steps=...), or "
                    "--max-steps, ends them after so many steps."
                )
            callback.update_locals(locals())
            goes_on = callback.on_step()
            self._update_info_buffer(infos, dones)
            if not goes_on:
                return False
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Update the policy on the groups that are complete, `n_epochs` times over."""
        groups = [self.groups.advantages_of(self._returns(group)) for group in self.groups.complete]
        super().train()
        # Where all episodes of a group were worth the same, there is nothing to learn from it.
        count, differ = self.ranks.sums([len(groups), sum(np.ptp(group) > 1e-6 for group in groups)])
        self.logger.record("train/groups", int(count))
        self.logger.record("train/groups_that_differ", differ / count)
        self.groups.reset()

    def _require_finite_rollout(self) -> None:
        samples = self.groups.samples()
        names = {"log-probability": samples.old_log_prob, "return": samples.returns, "advantage": samples.advantages}
        wrong = first_not_finite(names.items())
        if wrong is not None:
            raise NonFiniteError(f"The {wrong[0]} of a step is {kind_of(wrong[1])}. {REMEDY}")

    def _returns(self, group: Any) -> Any:
        return np.array([episode.discounted_return(self.gamma) for episode in group])

    def _begin_update(self) -> None:
        assert callable(self.clip_range)
        self._clip_range = self.clip_range(self._current_progress_remaining)
        self.logger.record("train/clip_range", self._clip_range)

    def objective(self, sample: Sample) -> tuple[Tensor, Measures]:
        """Return the clipped surrogate (equation 3 of the paper, the mean over steps) and the entropy bonus."""
        policy_loss, clip_fraction = clipped_surrogate(sample, self._clip_range)
        loss = policy_loss + self.entropy_weight * sample.entropy_loss
        return loss, {
            "clip_fraction": clip_fraction,
            "policy_gradient_loss": policy_loss,
            "entropy_loss": sample.entropy_loss,
        }

    def restore_envs(self, state: dict[str, Any]) -> Any:
        """Bring the environments back, and know which groups run there."""
        observations = super().restore_envs(state)
        self.groups.running_groups = set(self.env.unwrapped.running_groups)  # type: ignore[union-attr]
        return observations

    def parts(self) -> list[Part]:
        """Return what it has besides its policy."""
        return [*super().parts(), self.groups]


def _endless(env: VecEnv) -> int:
    """Return after how many steps without a whole group its episodes are taken to be endless.

    Episodes of a group need not begin together, so it is twice the limit that the environments name, if they do.
    """
    named: list[int] = []
    for name in ("spec", "max_steps"):
        with contextlib.suppress(AttributeError):
            named += [n for one in env.get_attr(name) if isinstance(n := getattr(one, "max_episode_steps", one), int)]
    return max([MOST_STEPS, *(2 * limit for limit in named)])
