"""What policy gradients share: how a rollout becomes an update of a language policy.

A minibatch may be given by the tokens of its prompts rather than by their number, and its gradient may be gathered in
parts of bounded size. With `reference_coef`, the loss holds the policy near the one that the training began with, by
KL(pi || pi_0) as in fine-tuning language models from human preferences (Ziegler et al., arXiv 1909.08593): exactly, as
the sum over actions, since there are few. With `target_kl`, the passes over a rollout end where the policy has moved so
far from the one that played it. The entropy bonus may follow a schedule, as the learning rate may.

With `value_warmup_steps`, only the value function learns at first, from the language model's states as they are, so
that a policy that is good already, as a clone is, does not follow the advantages of a critic that is not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn import functional

from heed.agents.parts import Part
from heed.agents.policy_agent import LanguagePolicyAgent
from heed.agents.rollouts.lost_steps import RolloutWithoutLostSteps
from heed.agents.rollouts.micro_batches import MicroBatches, Rows
from heed.agents.rollouts.reference import Reference
from heed.agents.rollouts.sample import RolloutBatch, Sample
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.caches.batching import Inputs
from heed.policies.finite import clip_gradient, require_finite_loss, require_finite_rollout
from heed.policies.prompts.layout import PADDING
from heed.policies.prompts.prompt import PromptVecEnv

Measures = dict[str, Tensor]
"""What is logged of a loss, by name: means over its samples, ()."""


class PolicyGradient(LanguagePolicyAgent, OnPolicyAlgorithm):
    """Mixin before an SB3 on-policy algorithm, over a `LanguageActorCriticPolicy`."""

    n_epochs: int = 1
    target_kl: float | None = None
    normalize_advantage: bool
    batch_tokens: int | None
    micro_batch_tokens: int | None
    micro_batches: MicroBatches
    """What parts the gradient is gathered in, which may have become smaller than `micro_batch_tokens`."""
    rollout_buffer: RolloutWithoutLostSteps  # in place of SB3's; of GRPO it is `EpisodeGroups`
    reference_coef: float
    value_warmup_steps: int
    ent_coef: float | Schedule  # type: ignore[assignment]
    has_critic: bool = True
    """Whether values are computed and learned."""
    reference: LanguageActorCriticPolicy | None = None
    """The policy that the training began with, if the loss knows it."""

    def _set_update(
        self,
        *,
        batch_tokens: int | None,
        micro_batch_tokens: int | None,
        reference_coef: float,
        n_epochs: int,
        target_kl: float | None,
        value_warmup_steps: int = 0,
    ) -> None:
        """Set what an update does beyond SB3's.

        Raises:
            ValueError: if a number cannot be.
        """
        if batch_tokens is not None and batch_tokens < 1:
            raise ValueError(f"batch_tokens is {batch_tokens}, but must be at least 1, or None.")
        for name, number in (("reference_coef", reference_coef), ("value_warmup_steps", value_warmup_steps)):
            if number < 0:
                raise ValueError(f"{name} is {number}, but must not be negative.")
        if target_kl is not None and target_kl <= 0:
            raise ValueError(f"target_kl is {target_kl}, but must be positive, or None.")
        if n_epochs < 1:
            raise ValueError(f"n_epochs is {n_epochs}, but must be at least 1.")
        self.batch_tokens = batch_tokens
        self.micro_batch_tokens = micro_batch_tokens
        self.micro_batches = MicroBatches(micro_batch_tokens)
        self.reference_coef = reference_coef
        self.n_epochs = n_epochs
        self.target_kl = target_kl
        self.value_warmup_steps = value_warmup_steps

    def _setup_model(self) -> None:
        if self.rollout_buffer_class is None:
            self.rollout_buffer_class = RolloutWithoutLostSteps
        super()._setup_model()
        self.rollout_buffer.ranks = self.ranks
        columns = getattr(getattr(self.policy, "action_head", None), "columns", None)
        if columns is not None and columns != self.rollout_buffer.action_dim:
            self.rollout_buffer.action_dim = columns  # a row holds more than the environment takes
            self.rollout_buffer.reset()
        if self.reference_coef:
            # Nothing of it trains, so each prompt is read once. What the policy does not train either they share.
            reference: Any = self.policy_class
            language_model = self.language_policy.language_model.copy().give_away()
            kwargs = {**self.policy_kwargs, "model": language_model, "train_layers": 0, "adapter": None}
            kwargs["activation_checkpointing"] = False  # it has no gradient
            self.reference = reference(self.observation_space, self.action_space, lambda _: 0.0, **kwargs)
            assert self.reference is not None
            self.reference.to(self.device).requires_grad_(False)
            self.reference.set_training_mode(False)
            self.renew_reference()

    def renew_reference(self) -> None:
        """Let the reference, if there is one, be the policy as it is now: the training that follows begins with it."""
        if self.reference is not None:
            Reference(self.reference, self._actor_critic).renew()

    @property
    def warms_up(self) -> bool:
        """Whether only the value function learns from the rollout that is just over.

        A rollout belongs to the warm-up if it began within it: so this follows from the count of steps alone.
        """
        buffer = self.rollout_buffer
        rollout = buffer.buffer_size * buffer.n_envs * self.ranks.count
        return self.num_timesteps - rollout < self.value_warmup_steps

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: npt.NDArray[Any] | None = None) -> None:
        """Read, with the prompts that come next, those where episodes met their time limit.

        SB3 is about to ask for the values there, prompt by prompt; now the policy remembers them.
        """
        super()._update_info_buffer(infos, dones)
        if isinstance(self.rollout_buffer, RolloutWithoutLostSteps):
            self.rollout_buffer.lose(infos)
        if not self.has_critic:
            return
        ends = [info["terminal_observation"] for info in infos if info.get("TimeLimit.truncated", False)]
        if ends and isinstance(self.env, PromptVecEnv) and isinstance(self.policy, LanguageActorCriticPolicy):
            self.policy.read_ahead(np.concatenate([self.env.prompts, ends]))

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Act for a rollout; the arguments are SB3's.

        Where a callback ends the training, the rollout is given up, but not the step that was just taken: SB3 returns
        before it has looked at what the environments show now.
        """
        with self.running.playing():
            is_whole = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
            if not is_whole:
                step = callback.locals
                self._update_info_buffer(step["infos"], step["dones"])
                self._last_obs, self._last_episode_starts = step["new_obs"], step["dones"]
        return is_whole

    def train(self) -> None:
        """Update the policy on the rollout, `n_epochs` times over."""
        self._require_finite_rollout()
        warms_up = self.warms_up
        # A language model that does not train now may cache what it reads.
        self.policy.set_training_mode(not warms_up)
        self._update_learning_rate(self.policy.optimizer)
        self._begin_update()
        entropy_weight = self.entropy_weight
        measured: list[dict[str, float]] = []
        for _ in range(self.n_epochs):
            moved_too_far, epoch = False, len(measured)
            for minibatch in self._minibatches():
                measures = (
                    self._accumulate_value_gradient(minibatch) if warms_up else self._accumulate_gradient(minibatch)
                )
                measures = self.ranks.sum_gradients(self.policy.parameters(), measures)
                require_finite_loss(measures, self.policy)
                measured.append(measures)
                moved_too_far = self.target_kl is not None and measures.get("approx_kl", 0.0) > 1.5 * self.target_kl
                if moved_too_far:
                    break
                clip_gradient(self.policy, self.max_grad_norm)
                self.policy.optimizer.step()
                if not warms_up:
                    self._share_ranks()
            self._n_updates += 1
            if moved_too_far:
                break
        for name in measured[0]:
            # How far the policy has moved is of interest at the end of it.
            since = epoch if name == "approx_kl" else 0
            self.logger.record(f"train/{name}", float(np.mean([measures[name] for measures in measured[since:]])))
        if callable(self.ent_coef):
            self.logger.record("train/entropy_weight", entropy_weight)
        if self.micro_batches.max_tokens is not None:
            self.logger.record("train/micro_batch_tokens", self.micro_batches.max_tokens)
        if self.has_critic and isinstance(self.rollout_buffer, RolloutWithoutLostSteps):
            rows = self.rollout_buffer.rows
            values, returns = self.rollout_buffer.values.flatten()[rows], self.rollout_buffer.returns.flatten()[rows]
            values, returns = np.hstack(self.ranks.gather(np.stack([values, returns])))
            self.logger.record("train/explained_variance", explained_variance(values, returns))
        deviation = getattr(self.policy.action_head, "log_std", None)
        if deviation is not None:
            self.logger.record("train/std", deviation.exp().mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _require_finite_rollout(self) -> None:
        """Refuse a rollout that an update would turn all weights into NaN with.

        Raises:
            NonFiniteError: naming the first quantity that is not finite, and its step.
        """
        buffer = self.rollout_buffer
        assert isinstance(buffer, RolloutWithoutLostSteps)
        require_finite_rollout(
            {
                "value": buffer.values,
                "log-probability": buffer.log_probs,
                # PromptVecEnv has checked the environments' own.
                "reward, with the value behind a time limit,": buffer.rewards,
                "advantage": buffer.advantages,
                "return": buffer.returns,
            }
        )

    @property
    def entropy_weight(self) -> float:
        """The weight of the entropy bonus at this time of the training."""
        return self.ent_coef(self._current_progress_remaining) if callable(self.ent_coef) else self.ent_coef

    def _minibatches(self) -> Iterator[RolloutBatch]:
        """Yield the rollout in random order, in minibatches of `batch_size` prompts or `batch_tokens` tokens.

        They are as many as that takes, and of like size: a small rest would move the weights as far as any other.
        """
        if self.batch_tokens is None:
            # An algorithm without minibatches has one, the rollout.
            yield from self.rollout_buffer.get(getattr(self, "batch_size", None))
            return
        for rollout in self.rollout_buffer.get():
            prompts = self._layout.tokens_of(rollout.observations)
            tokens = (prompts != PADDING).sum(dim=1).cumsum(dim=0)  # up to each sample
            parts = -(-int(tokens[-1]) * self.ranks.count // self.batch_tokens)
            for rows in _in_parts(tokens, self.ranks.most(min(parts, len(tokens)))):
                yield _rows(rollout, rows)

    def _accumulate_gradient(self, minibatch: RolloutBatch) -> dict[str, float]:
        """Put the gradient of the loss on a minibatch into the parameters; of several ranks, this one's part of it.

        Returns:
            The loss, its parts, and how far the policy has moved, as means over the minibatch (or the part in them).
        """
        advantages = minibatch.advantages
        count = self.ranks.total(len(advantages))
        if self.normalize_advantage and count > 1:
            mean, deviation = self.ranks.moments(advantages)
            advantages = (advantages - mean) / (deviation + 1e-8)
        minibatch = minibatch._replace(advantages=advantages)

        def accumulate(parts: Iterator[Rows]) -> dict[str, float]:
            self.policy.optimizer.zero_grad()
            means: dict[str, float] = {}
            for rows in parts:
                part = _rows(minibatch, rows)
                loss, measures = self._loss(part)
                share = len(part.advantages) / count
                (loss * share).backward()
                for name, value in measures.items():
                    means[name] = means.get(name, 0.0) + share * value.item()
            return means

        return self.micro_batches.accumulate(lambda: Inputs.of_rows(self._layout, minibatch.observations), accumulate)

    def _accumulate_value_gradient(self, minibatch: RolloutBatch) -> dict[str, float]:
        """Put the gradient of the value loss into the value function's parameters, and none into any other.

        The optimizer leaves alone what has no gradient.
        """
        policy = self._actor_critic
        policy.optimizer.zero_grad(set_to_none=True)
        values = policy.read_values_alone(minibatch.observations)
        loss = functional.mse_loss(minibatch.returns, values.flatten())
        share = len(values) / self.ranks.total(len(values))
        (self.vf_coef * loss * share).backward()
        return {"value_loss": loss.item() * share}

    def _loss(self, batch: RolloutBatch) -> tuple[Tensor, Measures]:
        """Return the loss of samples whose advantages are normalised already, and what to log of it."""
        sample = Sample.of(self._actor_critic, batch, values=self.has_critic)
        loss, measures = self.objective(sample)
        if self.rank_budget is not None:
            loss = loss + self.rank_budget.penalty()
        if self.reference is not None:
            divergence = sample.evaluation.kl(sample.evaluated_by(self.reference)).mean()
            loss = loss + self.reference_coef * divergence
            measures["reference_kl"] = divergence
        with torch.no_grad():
            measures |= {"loss": loss, "approx_kl": sample.approx_kl}
        return loss, measures

    @abstractmethod
    def objective(self, sample: Sample) -> tuple[Tensor, Measures]:
        """Return what the algorithm minimises, (), and what to log of it.

        What all policy gradients may add, the divergence from a reference and an adapter's own penalty, is no part.
        """

    @property
    def _actor_critic(self) -> LanguageActorCriticPolicy:
        assert isinstance(self.policy, LanguageActorCriticPolicy)
        return self.policy

    def _begin_update(self) -> None:
        """Set what holds for a whole update; called before it."""

    def _policies(self) -> list[torch.nn.Module]:
        return [self.policy] if self.reference is None else [self.policy, self.reference]

    def parts(self) -> list[Part]:
        """Return the reference policy, if there is one."""
        return [] if self.reference is None else [Reference(self.reference, self._actor_critic)]

    def _probabilities(self, prompts: Any) -> Tensor:
        distribution: Any = self._actor_critic.get_distribution(prompts).distribution
        probabilities: Tensor = distribution.probs
        return probabilities


def _in_parts(tokens: Tensor, parts: int) -> list[Tensor]:
    """Split samples into parts of about as many tokens each, and at least one sample.

    Args:
        tokens: up to each sample, (B,).
        parts: where they are more than the samples, some samples are taken more than once.
    """
    rows = torch.arange(len(tokens), device=tokens.device)
    sizes = torch.unique_consecutive((tokens - 1) * parts // tokens[-1], return_counts=True)[1]
    if len(sizes) == parts:
        return list(rows.split(sizes.tolist()))
    return list((rows if len(rows) >= parts else rows.repeat(-(-parts // len(rows)))[:parts]).tensor_split(parts))


def _rows(samples: RolloutBatch, rows: Rows) -> RolloutBatch:
    return type(samples)(*(part[rows] for part in samples))
