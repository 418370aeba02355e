"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) for language policies.

SB3's PPO does the work. What differs:
- environments speak, and checkpoints hold no pickle (`LanguageAgent`);
- a minibatch may be given by the tokens of its prompts rather than by their number, and its gradient may be gathered
  in parts of bounded size (`train` is ours for that; the objective is SB3's, without clipping of the value);
- defaults suit a small language model in short episodes: many environments with short rollouts, large
  minibatches, few epochs, a learning rate that falls linearly to a tenth, an entropy bonus.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples, Schedule
from stable_baselines3.common.utils import LinearSchedule, explained_variance
from torch import Tensor
from torch.nn import functional

from heed.agents.agent import LANGUAGE_POLICY, LanguageAgent
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.batching import micro_batches
from heed.policies.prompt import PADDING, PromptVecEnv


class PPO(LanguageAgent, SB3PPO):
    """PPO over a `LanguageActorCriticPolicy`; the arguments are SB3's, with other defaults.

    Args:
        policy: "LanguagePolicy" or a policy class.
        env: a language `VecEnv` as `heed.envs.make` gives it; None only to load.
        learning_rate: a number or a schedule; by default 1e-3 falling linearly to 1e-4.
        n_steps: steps per environment in a rollout.
        batch_size: prompts in a minibatch.
        batch_tokens: tokens in a minibatch, if it is to be given so; `batch_size` has no meaning then.
        micro_batch_tokens: the gradient of a minibatch is gathered in parts of at most so many different tokens, which
            bounds memory and changes nothing but rounding; None for the whole minibatch at once.
        n_epochs: passes over a rollout.
        gamma: discount.
        gae_lambda: of generalised advantage estimation.
        clip_range: of the probability ratio.
        ent_coef: weight of the entropy bonus.
        vf_coef: weight of the value loss.
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
        ent_coef: float = 0.01,
        vf_coef: float = 0.5,
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
        for name, tokens in (("batch_tokens", batch_tokens), ("micro_batch_tokens", micro_batch_tokens)):
            if tokens is not None and tokens < 1:
                raise ValueError(f"{name} is {tokens}, but must be at least 1, or None.")
        self.batch_tokens = batch_tokens
        self.micro_batch_tokens = micro_batch_tokens
        env, policy_kwargs = self.prepare(env, policy_kwargs)
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
            ent_coef=ent_coef,
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

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: npt.NDArray[Any] | None = None) -> None:
        """Read, with the prompts that come next, those where episodes met their time limit.

        SB3 is about to ask for the values there, prompt by prompt; now the policy remembers them.
        """
        super()._update_info_buffer(infos, dones)
        ends = [info["terminal_observation"] for info in infos if info.get("TimeLimit.truncated", False)]
        if ends and isinstance(self.env, PromptVecEnv) and isinstance(self.policy, LanguageActorCriticPolicy):
            self.policy.read_ahead(np.concatenate([self.env.prompts, ends]))

    def train(self) -> None:
        """Update the policy on the rollout, `n_epochs` times over."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert callable(self.clip_range)
        clip_range = self.clip_range(self._current_progress_remaining)
        measured: list[dict[str, float]] = []
        for _ in range(self.n_epochs):
            moved_too_far, epoch = False, len(measured)
            for minibatch in self._minibatches():
                measures = self._gather_gradient(minibatch, clip_range)
                measured.append(measures)
                moved_too_far = self.target_kl is not None and measures["approx_kl"] > 1.5 * self.target_kl
                if moved_too_far:
                    break
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()
            self._n_updates += 1
            if moved_too_far:
                break
        for name in measured[0]:
            # How far the policy has moved is of interest at the end of it.
            since = epoch if name == "approx_kl" else 0
            self.logger.record(f"train/{name}", float(np.mean([measures[name] for measures in measured[since:]])))
        values, returns = self.rollout_buffer.values.flatten(), self.rollout_buffer.returns.flatten()
        self.logger.record("train/explained_variance", explained_variance(values, returns))
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)

    def _minibatches(self) -> Iterator[RolloutBufferSamples]:
        """Yield the rollout in random order, in minibatches of `batch_size` prompts or `batch_tokens` tokens."""
        if self.batch_tokens is None:
            yield from self.rollout_buffer.get(self.batch_size)
            return
        for rollout in self.rollout_buffer.get():
            tokens = (rollout.observations != PADDING).sum(dim=1).cumsum(dim=0)  # up to each sample
            full = torch.div(tokens - 1, self.batch_tokens, rounding_mode="floor")  # minibatches before each sample
            sizes = torch.unique_consecutive(full, return_counts=True)[1]
            for rows in torch.arange(len(tokens), device=tokens.device).split(sizes.tolist()):
                yield _rows(rollout, rows)

    def _gather_gradient(self, minibatch: RolloutBufferSamples, clip_range: float) -> dict[str, float]:
        """Put the gradient of the loss on a minibatch into the parameters.

        Returns:
            The loss, its parts, and how far the policy has moved, as means over the minibatch.
        """
        advantages = minibatch.advantages
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        minibatch = minibatch._replace(advantages=advantages)
        parts = [minibatch]
        if self.micro_batch_tokens is not None:
            parts = [_rows(minibatch, rows) for rows in micro_batches(minibatch.observations, self.micro_batch_tokens)]
        self.policy.optimizer.zero_grad()
        means: dict[str, float] = {}
        for part in parts:
            loss, measures = self._loss(part, clip_range)
            share = len(part.advantages) / len(advantages)
            (loss * share).backward()
            for name, value in measures.items():
                means[name] = means.get(name, 0.0) + share * value.item()
        return means

    def _loss(self, batch: RolloutBufferSamples, clip_range: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of samples whose advantages are normalised already, and what to log of it."""
        actions = batch.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        values, log_probabilities, entropy = self.policy.evaluate_actions(batch.observations, actions)
        log_ratio = log_probabilities - batch.old_log_prob
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
        policy_loss = -torch.min(batch.advantages * ratio, batch.advantages * clipped).mean()
        value_loss = functional.mse_loss(batch.returns, values.flatten())
        entropy_loss = log_probabilities.mean() if entropy is None else -entropy.mean()
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        with torch.no_grad():
            measures = {
                "loss": loss,
                "policy_gradient_loss": policy_loss,
                "value_loss": value_loss,
                "entropy_loss": entropy_loss,
                # The k3 estimator of http://joschu.net/blog/kl-approx.html, as in SB3.
                "approx_kl": (ratio - 1 - log_ratio).mean(),
                "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
            }
        return loss, measures

    def _probabilities(self, prompts: Any) -> Tensor:
        assert isinstance(self.policy, LanguageActorCriticPolicy)
        distribution: Any = self.policy.get_distribution(prompts).distribution
        probabilities: Tensor = distribution.probs
        return probabilities


def _rows(samples: RolloutBufferSamples, rows: Tensor) -> RolloutBufferSamples:
    return RolloutBufferSamples(*(part[rows] for part in samples))
