"""Deep Q-learning (Mnih et al. 2015, doi 10.1038/nature14236) for language policies.

SB3's DQN does the work. What differs:
- double Q-learning (van Hasselt et al. 2016, arXiv 1509.06461): the online network chooses the next action, the
  target network values it;
- n-step returns (Sutton 1988; as in Rainbow, arXiv 1710.02298, section "Multi-step learning") by default;
- each environment explores by itself, with probability epsilon, drawn from a generator of the agent's own; SB3
  draws once for all environments, from NumPy's global generator;
- environments speak, and checkpoints hold no pickle (`LanguageAgent`). The replay buffer is saved with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor
from torch.nn import functional

from heed.agents.agent import _COUNTERS, LANGUAGE_POLICY, LanguageAgent
from heed.agents.checkpoint import read_json, read_tensors, write_json, write_tensors
from heed.policies.q_network import LanguageQPolicy

_BUFFER_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class DQN(LanguageAgent, SB3DQN):
    """DQN over a `LanguageQPolicy`; the arguments are SB3's, with other defaults, and `double`.

    Args:
        policy: "LanguagePolicy" or a policy class.
        env: a language `VecEnv` as `heed.envs.make` gives it; None only to load.
        learning_rate: a number or a schedule; by default 5e-4 falling linearly to 5e-5.
        buffer_size: transitions that the replay buffer holds.
        learning_starts: steps of random actions before learning.
        batch_size: transitions in an update.
        tau: how far the target network moves towards the online network at each of its updates.
        gamma: discount.
        train_freq: vectorised steps between trainings.
        gradient_steps: updates in a training.
        n_steps: of the return that bootstraps.
        double: let the online network choose the action that the target network values.
        target_update_interval: steps between the target network's updates.
        exploration_fraction: of the training, over which epsilon falls.
        exploration_initial_eps: epsilon at the start.
        exploration_final_eps: epsilon at the end.
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
    _counters: ClassVar[tuple[str, ...]] = (*_COUNTERS, "_n_calls", "exploration_rate")

    def __init__(
        self,
        policy: str | type[DQNPolicy] = LANGUAGE_POLICY,
        env: Any = None,
        learning_rate: float | Schedule = LinearSchedule(5e-4, 5e-5, 1.0),  # noqa: B008 - holds no state
        buffer_size: int = 50_000,
        learning_starts: int = 1_000,
        batch_size: int = 256,
        tau: float = 1.0,
        gamma: float = 0.95,
        train_freq: int = 1,
        gradient_steps: int = 1,
        n_steps: int = 3,
        double: bool = True,
        target_update_interval: int = 1_000,
        exploration_fraction: float = 0.5,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
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
        self.double = double
        self._exploration = np.random.default_rng(seed)
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

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Update the online network `gradient_steps` times on batches from the replay buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses, values = [], []
        for _ in range(gradient_steps):
            assert self.replay_buffer is not None
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            discounts = self.gamma if batch.discounts is None else batch.discounts
            with torch.no_grad():
                targets = batch.rewards + (1 - batch.dones) * discounts * self._next_values(batch.next_observations)
            chosen = self.q_net(batch.observations).gather(1, batch.actions.long())
            loss = functional.smooth_l1_loss(chosen, targets)
            losses.append(loss.item())
            values.append(chosen.mean().item())
            self.policy.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.q_net.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(np.mean(losses)))
        self.logger.record("train/q_value", float(np.mean(values)))

    def _next_values(self, observations: Any) -> Tensor:
        """Return the value of the state behind a transition, (batch, 1)."""
        values = self.q_net_target(observations)
        chooser = self.q_net(observations) if self.double else values
        best: Tensor = values.gather(1, chooser.argmax(dim=1, keepdim=True))
        return best

    def predict(
        self,
        observation: Any,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """Return the best actions; unless `deterministic`, each is random with probability epsilon."""
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if deterministic:
            return actions, state
        return self._explore(np.asarray(actions), self.exploration_rate), state

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        if self.num_timesteps < learning_starts:
            actions = self._explore(np.zeros(n_envs, dtype=np.int64), 1.0)
        else:
            actions, _ = self.predict(self._last_obs)
        return actions, actions

    def _explore(self, actions: npt.NDArray[Any], epsilon: float) -> npt.NDArray[Any]:
        assert isinstance(self.action_space, spaces.Discrete)
        random = self._exploration.integers(int(self.action_space.n), size=actions.shape)
        return np.where(self._exploration.random(actions.shape) < epsilon, random, actions)

    def _probabilities(self, prompts: Any) -> Tensor:
        q_values = self.q_net(prompts)
        n_actions = q_values.shape[1]
        best = functional.one_hot(q_values.argmax(dim=1), n_actions).to(q_values.dtype)
        probabilities: Tensor = (1 - self.exploration_rate) * best + self.exploration_rate / n_actions
        return probabilities

    def _write(self, folder: Path) -> None:
        super()._write(folder)
        buffer = self.replay_buffer
        assert buffer is not None
        arrays = {name: torch.from_numpy(getattr(buffer, name)[: buffer.size()]) for name in _BUFFER_ARRAYS}
        write_tensors(folder / "replay_buffer.safetensors", arrays)
        state = {"position": buffer.pos, "full": buffer.full, "exploration": self._exploration.bit_generator.state}
        write_json(folder / "replay_buffer.json", state)

    def _read(self, folder: Path, saved: dict[str, Any]) -> None:
        state = read_json(folder / "replay_buffer.json")
        buffer = self.replay_buffer
        assert buffer is not None
        arrays = read_tensors(folder / "replay_buffer.safetensors")
        if saved["n_envs"] == self.n_envs:
            for name, array in arrays.items():
                getattr(buffer, name)[: len(array)] = array.numpy()
            buffer.pos, buffer.full = state["position"], state["full"]
        self._exploration.bit_generator.state = state["exploration"]
        super()._read(folder, saved)
