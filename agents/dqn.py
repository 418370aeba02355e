"""Deep Q-learning (Mnih et al. 2015, doi 10.1038/nature14236) for language policies.

SB3's DQN does the work. The differences:
- double Q-learning (van Hasselt et al. 2016, arXiv 1509.06461): the online network chooses the next action, the
  target network evaluates it;
- n-step returns and, as an option, prioritized replay (`heed.agents.replay.buffer`);
- hindsight instruction replay as an option (`heed.agents.replay.hindsight`);
- demonstrations as an option (`heed.agents.replay.demonstrations`);
- dueling networks (Wang et al. 2016, arXiv 1511.06581) by default (`heed.policies.q_network`);
- the target network follows at intervals (`tau=1`, as in the paper) or slowly at each step (`tau=0.005,
  target_update_interval=n_envs`: Polyak averaging, as in Lillicrap et al. 2016, arXiv 1509.02971), as in SB3;
- each environment explores by itself, by `exploration`, epsilon-greedily unless said otherwise
  (`heed.agents.exploration.explorer`);
- observations are text, and checkpoints hold no pickle (`LanguageAgent`). The replay buffer is saved with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import RolloutReturn, Schedule, TrainFreq
from stable_baselines3.common.utils import LinearSchedule, polyak_update
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor
from torch.nn import functional

from heed.agents.environments import require_rewards_for_replay
from heed.agents.exploration import EpsilonGreedy, Exploration
from heed.agents.exploration import Schedule as ExplorationSchedule
from heed.agents.exploration.explorer import Explorer
from heed.agents.parts import Part
from heed.agents.policy_agent import LANGUAGE_POLICY, LanguagePolicyAgent
from heed.agents.replay.buffer import Batch, ReplayBuffer
from heed.agents.replay.demonstrations import keep_demonstrations, margin_loss
from heed.agents.replay.hindsight import Hindsight, HindsightReplay, have_told
from heed.agents.rollouts.micro_batches import MicroBatches, Rows
from heed.envs.demonstrations.demonstrations import Demonstration
from heed.policies.caches.batching import Inputs
from heed.policies.finite import clip_gradient, require_finite_loss, require_finite_values
from heed.policies.prompts.prompt import PromptSpace, PromptVecEnv
from heed.policies.q_network import LanguageQPolicy, follow, sharing


class DQN(LanguagePolicyAgent, SB3DQN):
    """DQN over a `LanguageQPolicy`; the arguments are SB3's, with other defaults, and `double`.

    Args:
        policy: "LanguagePolicy" or a policy class.
        env: a language `VecEnv` as `heed.envs.make` gives it; None only to load.
        learning_rate: a number or a schedule; by default 5e-4 falling linearly to 5e-5.
        buffer_size: transitions that the replay buffer holds; several ranks have a buffer each, of its share.
        learning_starts: steps of random actions before learning.
        batch_size: transitions in an update; several ranks take the same share of them each.
        micro_batch_tokens: accumulate the gradient of a batch over micro-batches of at most so many different tokens,
            which bounds memory and changes nothing but rounding; None for the whole batch at once.
        tau: how far an update moves the target network towards the online network.
        gamma: discount.
        train_freq: vectorised steps between trainings.
        gradient_steps: updates in a training.
        n_steps: of the return that bootstraps.
        double: the online network chooses the action that the target network evaluates.
        priority_exponent: alpha of prioritized replay; 0 draws transitions evenly.
        importance_exponent: beta of prioritized replay at the start; it rises linearly to 1 over the training.
        hindsight: with how many of the instructions that it fulfilled, at most, an episode is stored a second time
            (`heed.agents.replay.hindsight`); 0 for none. More than 0 needs environments that tell what was fulfilled.
        margin_coef: weight of the large-margin loss on demonstrated transitions; 0 learns from their rewards only.
        margin: by which a demonstrated action's value should exceed the others', in that loss.
        demonstration_bonus: added to the TD errors of demonstrated transitions as priorities.
        target_update_interval: steps between the target network's updates.
        exploration_fraction: of the training, over which epsilon falls, unless `exploration` says otherwise.
        exploration_initial_eps: epsilon at the start, likewise.
        exploration_final_eps: epsilon at the end, likewise.
        exploration: how actions are chosen while training; by default epsilon-greedily.
        max_grad_norm: gradients are clipped to this norm.
        stats_window_size: episodes that the logged means are taken over.
        tensorboard_log: folder for TensorBoard.
        policy_kwargs: `model`, `head`, `normalization`, ... of the policy; `max_prompt_tokens`, `template` of prompts.
        verbose: as in SB3.
        seed: of all randomness, environments included.
        device: as in SB3.
        _init_setup_model: as in SB3.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {LANGUAGE_POLICY: LanguageQPolicy}
    replay_buffer: ReplayBuffer  # type: ignore[assignment] # SB3 calls nothing of it but `add`
    explorer: Explorer
    """Chooses the actions of the training."""
    hindsight_replay: Hindsight | None = None
    """Stores episodes a second time, if `hindsight` says so."""
    counters: ClassVar[tuple[str, ...]] = (*LanguagePolicyAgent.counters, "_n_calls", "exploration_rate")

    def __init__(
        self,
        policy: str | type[DQNPolicy] = LANGUAGE_POLICY,
        env: Any = None,
        learning_rate: float | Schedule = LinearSchedule(5e-4, 5e-5, 1.0),  # noqa: B008 - holds no state
        buffer_size: int = 50_000,
        learning_starts: int = 1_000,
        batch_size: int = 64,
        micro_batch_tokens: int | None = None,
        tau: float = 1.0,
        gamma: float = 0.95,
        train_freq: int = 1,
        gradient_steps: int = 4,
        n_steps: int = 5,
        double: bool = True,
        priority_exponent: float = 0.0,
        importance_exponent: float = 0.4,
        hindsight: int = 0,
        margin_coef: float = 0.0,
        margin: float = 0.8,
        demonstration_bonus: float = 1.0,
        target_update_interval: int = 1_000,
        exploration_fraction: float = 0.3,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        exploration: Exploration | None = None,
        max_grad_norm: float = 10.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        self._remember_arguments(locals())
        if hindsight < 0:
            raise ValueError(f"hindsight is {hindsight}, but must not be negative.")
        if margin_coef < 0 or margin < 0:
            raise ValueError(f"margin_coef and margin must not be negative, but are {margin_coef} and {margin}.")
        if not 0 <= importance_exponent <= 1:
            raise ValueError(f"importance_exponent is {importance_exponent}, but must be between 0 and 1.")
        self.micro_batches = MicroBatches(micro_batch_tokens)
        self.double = double
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        self.hindsight = hindsight
        self.margin_coef = margin_coef
        self.margin = margin
        self.demonstration_bonus = demonstration_bonus
        epsilon = ExplorationSchedule(
            start=exploration_initial_eps, end=exploration_final_eps, fraction=exploration_fraction
        )
        self.ranks.share("batch_size", batch_size)
        self.explorer = Explorer(
            EpsilonGreedy(schedule=epsilon) if exploration is None else exploration,
            lambda prompts: self.q_net(prompts),
            ranks=self.ranks,
            seed=self.ranks.seed(seed),
            argument=exploration,
        )
        env, policy_kwargs = self.prepare(env, policy_kwargs)
        super().__init__(
            policy=policy,
            env=env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            n_steps=n_steps,
            target_update_interval=target_update_interval,
            exploration_fraction=exploration_fraction,
            exploration_initial_eps=exploration_initial_eps,
            exploration_final_eps=exploration_final_eps,
            max_grad_norm=max_grad_norm,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _setup_model(self) -> None:
        assert isinstance(self.action_space, spaces.Discrete)
        # SB3 makes a buffer of its own where there is none yet.
        if getattr(self, "replay_buffer", None) is None:
            assert isinstance(self.observation_space, spaces.Box)
            self.replay_buffer = ReplayBuffer(
                max(1, self.buffer_size // self.ranks.count),
                self.observation_space,
                n_envs=self.n_envs,
                n_steps=self.n_steps,
                gamma=self.gamma,
                priority_exponent=self.priority_exponent,
                demonstration_bonus=self.demonstration_bonus,
                n_actions=int(self.action_space.n),
                device=self.device,
                seed=self.ranks.seed(self.seed),
            )
        if issubclass(self.policy_class, LanguageQPolicy):
            self.policy_class = sharing(self.policy_class)
        super()._setup_model()
        if self.hindsight:
            self._begin_hindsight()
        require_rewards_for_replay(self.env)
        # SB3 logs it as exploration_rate, and asks for it after each step.
        self.exploration_schedule = self.exploration.schedule
        self.exploration_rate = self.exploration.schedule(1.0)
        self.explorer.begin(self.action_space, n_envs=self.n_envs, layout=self._layout, device=self.device)

    def _begin_hindsight(self) -> None:
        if self.env is not None:
            have_told(self.env)
        if isinstance(self.observation_space, PromptSpace):
            encoder, seed = self.observation_space.encoder, self.ranks.seed(self.seed)
            replay = HindsightReplay(self.n_envs, encoder, per_episode=self.hindsight, seed=seed)
            self.hindsight_replay = Hindsight(replay, self.replay_buffer)

    def parts(self) -> list[Part]:
        """Return what it has besides its policy."""
        parts = (self.replay_buffer, self.hindsight_replay, self.explorer)
        return [part for part in parts if part is not None]

    @property
    def exploration(self) -> Exploration:
        """How actions are chosen while training; the agent's own copy."""
        return self.explorer.strategy

    def _fitting_env(self, env: Any) -> VecEnv:
        taken = super()._fitting_env(env)
        require_rewards_for_replay(taken)
        return taken

    def set_random_seed(self, seed: int | None = None) -> None:
        """Set the seed of all randomness; the environments begin new episodes with it."""
        super().set_random_seed(seed)
        if seed is not None:
            self.explorer.seed(self.ranks.seed(seed))
            self.replay_buffer.seed(self.ranks.seed(seed))

    # -- acting --------------------------------------------------------------------------------------------

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        self.running.step_is_open = True
        if self.hindsight_replay is not None:
            self.hindsight_replay.shown(cast(PromptVecEnv, self.env).words)
        self.policy.set_training_mode(False)
        prompts: Any = self.policy.obs_to_tensor(self._last_obs)[0]  # type: ignore[arg-type]
        if self.num_timesteps < learning_starts:
            actions = self.explorer.act_at_random(prompts)
        else:
            actions = self.explorer.act(prompts, self.exploration_rate)
        return actions, actions

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: npt.NDArray[Any] | None = None) -> None:
        super()._update_info_buffer(infos, dones)
        if dones is not None:
            self.explorer.ended(dones)

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: npt.NDArray[Any],
        new_obs: Any,
        reward: npt.NDArray[Any],
        dones: npt.NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        prompts: Any = self._last_obs
        normalization = self.get_vec_normalize_env()
        if normalization is not None:  # the buffer holds rewards as they are, since the scale goes on changing
            reward = normalization.get_original_reward()
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        if self.hindsight_replay is not None:
            self.hindsight_replay.stepped(prompts, buffer_action, reward, dones, infos)
        self.running.step_is_open = False

    def predict(
        self,
        observation: Any,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """Return the best actions; unless `deterministic`, as the exploration draws them."""
        if deterministic:
            return self.policy.predict(observation, state, episode_start, deterministic)
        self.policy.set_training_mode(False)
        prompts, batched = self.policy.obs_to_tensor(observation)
        actions = self.explorer.sample(cast(Tensor, prompts), self.exploration_rate)
        return (actions if batched else actions[0]), state

    # -- learning ------------------------------------------------------------------------------------------

    def add_demonstrations(self, demonstrations: Sequence[Demonstration], *, history: int = 0) -> None:
        """Put demonstrations into the replay buffer, where they stay; before the first step of a training.

        Args:
            demonstrations: episodes that an expert played, with the agent's actions; of several ranks, all are given
                the same ones.
            history: of the environments, where they show one.

        Raises:
            ValueError: if there are none, or not one for each rank, one has actions that the agent has not or labels
                instead of an expert's actions, or they do not fit into the buffer with others.
            DemonstrationError: if they lack what the agent reads.
        """
        assert isinstance(self.action_space, spaces.Discrete)
        keep_demonstrations(
            self.replay_buffer,
            demonstrations,
            encoder=self.language_policy.encoder,
            action_space=self.action_space,
            history=history,
            ranks=self.ranks,
        )

    def pretrain(self, updates: int) -> None:
        """Learn from the demonstrations alone, before the first step of a training (DQfD's first phase).

        The target network follows after as many updates as it does in the training.

        Raises:
            ValueError: if there are no demonstrations.
        """
        if not self.replay_buffer.kept:
            raise ValueError("There are no demonstrations to learn from: add_demonstrations() comes first.")
        if not self._custom_logger and self.num_timesteps == 0:
            self._logger = Logger(folder=None, output_formats=[])  # `learn` makes the real one
        train_freq = cast(TrainFreq, self.train_freq)  # SB3 has made it one by now
        interval = max(self._steps_of_target * self.gradient_steps // train_freq.frequency, 1)
        with self._telling_when():
            for done in range(0, updates, interval):
                self.train(gradient_steps=min(interval, updates - done), batch_size=self.batch_size)
                self._update_target()

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Update the online network `gradient_steps` times on batches from the replay buffer.

        Each rank draws the same share of a batch from its own buffer. Does nothing until the first n-step return is
        complete.
        """
        if not self.ranks.least(self.replay_buffer.size):
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses, values = [], []
        for _ in range(gradient_steps):
            batch = self._sample(batch_size // self.ranks.count)
            measures, errors = self._accumulate_gradient(batch)
            measures = self.ranks.sum_gradients(self.policy.q_net.parameters(), measures)
            require_finite_loss(measures, self.policy.q_net)
            losses.append(measures["loss"])
            values.append(measures["q_value"])
            clip_gradient(self.policy.q_net, self.max_grad_norm)
            self.policy.optimizer.step()
            self._share_ranks()
            self.replay_buffer.update_priorities(batch.indices, errors)
            ensemble_loss = self.explorer.learn(batch, self.exploration_rate)
            if ensemble_loss is not None:
                self.logger.record("train/ensemble_loss", ensemble_loss)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(np.mean(losses)))
        self.logger.record("train/q_value", float(np.mean(values)))
        if self.micro_batches.max_tokens is not None:
            self.logger.record("train/micro_batch_tokens", self.micro_batches.max_tokens)

    def _accumulate_gradient(self, batch: Batch) -> tuple[dict[str, float], npt.NDArray[np.floating[Any]]]:
        """Accumulate the gradient of a batch's loss; of several ranks, this one's part of it.

        Returns:
            The loss and the mean value as means over the batch (or the part in them), and the TD errors, (B,).
        """
        with torch.no_grad():
            targets = batch.rewards + batch.discounts * self._next_values(batch.next_observations)

        def accumulate(parts: Iterator[Rows]) -> tuple[dict[str, float], npt.NDArray[np.floating[Any]]]:
            self.policy.optimizer.zero_grad()
            means = {"loss": 0.0, "q_value": 0.0}
            errors = torch.zeros_like(targets[:, 0])
            for rows in parts:
                part = batch.part(rows)
                loss, chosen = self._loss(part, targets[rows])
                share = len(part.actions) / (len(targets) * self.ranks.count)
                (loss * share).backward()
                means["loss"] += share * loss.item()
                means["q_value"] += share * chosen.mean().item()
                errors[rows] = (chosen - targets[rows]).detach()[:, 0]
            return means, errors.cpu().numpy()

        return self.micro_batches.accumulate(lambda: Inputs.of_rows(self._layout, batch.observations), accumulate)

    def _loss(self, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of transitions and the values of their actions, (B, 1), given their targets, (B, 1)."""
        q_values = self.q_net(batch.observations)
        chosen = q_values.gather(1, batch.actions)
        loss = (batch.weights * functional.smooth_l1_loss(chosen, targets, reduction="none")).mean()
        if self.margin_coef and self.replay_buffer.kept:
            loss = loss + self.margin_coef * margin_loss(q_values, batch, self.margin)
        if self.rank_budget is not None:
            loss = loss + self.rank_budget.penalty()
        return loss, chosen

    def _sample(self, batch_size: int) -> Batch:
        """Draw transitions, of several ranks each this many from its own buffer."""
        beta = 1.0 - (1.0 - self.importance_exponent) * self._current_progress_remaining  # rises linearly to 1
        batch = self.replay_buffer.sample(batch_size, beta, self.ranks)
        normalization = self.get_vec_normalize_env()
        if normalization is None:
            return batch
        rewards = normalization.normalize_reward(batch.rewards.cpu().numpy())
        return batch._replace(rewards=torch.from_numpy(rewards).to(batch.rewards))

    @property
    def _steps_of_target(self) -> int:
        """The number of vectorised steps, over all ranks, between updates of the target network."""
        return max(self.target_update_interval // (self.n_envs * self.ranks.count), 1)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: Any,
        action_noise: Any = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Act and store transitions; the arguments are SB3's."""
        before, taken_in = self._episode_num, self.episodes_of_all.count
        # SB3 would log by the episodes of this rank alone.
        interval = None if self.ranks.several else log_interval
        with self.running.playing():
            rollout = super().collect_rollouts(
                env, callback, train_freq, replay_buffer, action_noise, learning_starts, interval
            )
            if not rollout.continue_training:
                self._take_in_last_step(replay_buffer, callback.locals)
        if self.ranks.several:
            self._episode_num = before + self.episodes_of_all.count - taken_in
            if log_interval is not None and self._episode_num // log_interval > before // log_interval:
                self.dump_logs()
        return rollout

    def _take_in_last_step(self, replay_buffer: Any, step: dict[str, Any]) -> None:
        """Store the step after which a callback ended the training: SB3 returns before that."""
        self._update_info_buffer(step["infos"], step["dones"])
        self._store_transition(
            replay_buffer, step["buffer_actions"], step["new_obs"], step["rewards"], step["dones"], step["infos"]
        )
        self._episode_num += int(step["dones"].sum())

    def _on_step(self) -> None:
        """Update the target network at its interval; SB3's own update would move what both networks share."""
        self._n_calls += 1
        if self._n_calls % self._steps_of_target == 0:
            self._update_target()
            polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _update_target(self) -> None:
        """Move the target network's own weights towards the online network's by `tau`."""
        follow(self.q_net, self.q_net_target, self.tau)

    def _next_values(self, observations: Any) -> Tensor:
        """Return the value of the state after a transition, (B, 1)."""
        values = self.q_net_target(observations)
        chooser = self.q_net(observations) if self.double else values
        best: Tensor = values.gather(1, chooser.argmax(dim=1, keepdim=True))
        return best

    def action_preferences(self, observations: Any) -> npt.NDArray[np.floating[Any]]:
        """Return the values of the actions, (B, A)."""
        self.policy.set_training_mode(False)
        prompts, _ = self.policy.obs_to_tensor(observations)
        with torch.no_grad():
            values: npt.NDArray[np.floating[Any]] = self.q_net(prompts).cpu().numpy()
        require_finite_values(values)
        return values

    def _probabilities(self, prompts: Any) -> Tensor:
        return torch.from_numpy(self.explorer.probabilities(prompts, self.exploration_rate))
