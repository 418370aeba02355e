"""Q-learning with a table (Watkins and Dayan 1992, doi 10.1007/BF00992698; Sutton and Barto, section 6.5).

    Q(s, a)  <-  Q(s, a) + alpha (r + gamma max_a' Q(s', a') - Q(s, a))

A state is what a language environment says: instruction and observation. It suits environments of few states, needs no
language model, and is what the tests hold `DQN` against. What is not in the textbook:
- several environments may run side by side; each of their steps is one update, in order;
- an episode that a time limit cuts off is bootstrapped through;
- equally good actions are chosen among at random while training, by the lowest index in `predict(deterministic=True)`;
- an exploration strategy may have value functions of its own (`Exploration.heads`), which learn by the same rule.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv

from heed.agents.agent import LanguageAgent, TakeEnv
from heed.agents.environments import require_language_vec_env, require_same_actions
from heed.agents.exploration import EpsilonGreedy, Exploration
from heed.agents.parts import Part
from heed.agents.persistence.checkpoint import CheckpointError, read_json, read_tensors, write_json, write_tensors
from heed.agents.rollouts.lost_steps import EPISODE_LOST
from heed.agents.tabular.q_table import QTable, State, states_of
from heed.envs.contract import ChangingActions, language_space
from heed.policies.finite import (
    REMEDY,
    REWARD_REMEDY,
    NonFiniteError,
    kind_of,
    require_finite_array,
    require_finite_values,
)
from heed.policies.observations import as_batch
from heed.policies.prompts.prompt import PromptSpace


class QLearning(LanguageAgent):
    """A table of values over the words of any language environment with `Discrete` actions.

    Args:
        env: a language `VecEnv` as `heed.envs.make` gives it; None only to load.
        learning_rate: alpha, a number or a schedule. Where nothing is random 1 is best; elsewhere it should fall.
        gamma: discount.
        initial_value: of every action in a state never seen; more than can be had makes the agent try everything.
        exploration: how actions are chosen while training; by default epsilon-greedily.
        stats_window_size: episodes that the logged means are taken over.
        tensorboard_log: folder for TensorBoard.
        verbose: as in SB3.
        seed: of all randomness, environments included.
        device: is taken for the sake of the other agents; a table has no use for a GPU.
        _init_setup_model: as in SB3.

    Raises:
        TypeError: if `env` is no language `VecEnv`.
        ValueError: if its actions are not `Discrete`, or a number cannot be.
    """

    counters: ClassVar[tuple[str, ...]] = (*LanguageAgent.counters, "exploration_rate")
    table: QTable
    _given_last: Any = None
    """What the environments had given when `_last_obs` was taken in, the very object; a wrapper may have copied it."""

    def __init__(
        self,
        env: Any = None,
        learning_rate: float | Schedule = 0.5,
        gamma: float = 0.95,
        initial_value: float = 0.0,
        exploration: Exploration | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        _init_setup_model: bool = True,
    ):
        self.exploration = copy.deepcopy(exploration) if exploration is not None else EpsilonGreedy()
        self._remember_arguments({**locals(), "exploration": self.exploration})
        if self.ranks.several:
            raise ValueError("A table has no gradients to be averaged: train it in one process.")
        if env is not None:
            _require_table_env(env)
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma is {gamma}, but must be between 0 and 1.")
        if isinstance(learning_rate, float | int) and not 0 < learning_rate <= 1:
            raise ValueError(f"The learning rate of a table is {learning_rate}, but must be above 0 and up to 1.")
        no_policy: Any = None
        super().__init__(
            policy=no_policy,
            env=env,
            learning_rate=learning_rate,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device="cpu",
            support_multi_env=True,
            seed=seed,
        )
        self.gamma = gamma
        self.initial_value = initial_value
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        """Make an empty table."""
        assert isinstance(self.action_space, spaces.Discrete)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        n_actions = int(self.action_space.n)
        self.table = QTable(
            n_actions,
            initial_value=self.initial_value,
            heads=self.exploration.heads,
            prior_scale=self.exploration.prior_scale,
            generator=self._generator,
        )
        self.exploration.begin(n_actions=n_actions, n_envs=self.n_envs, generator=self._generator)
        self.exploration_rate = self.exploration.schedule(1.0)

    # -- training ------------------------------------------------------------------------------------------

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "QLearning",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> QLearning:
        """Train; the arguments are SB3's, `log_interval` counts episodes."""
        with self._telling_when():
            self._learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
        return self

    def _learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback,
        log_interval: int,
        tb_log_name: str,
        reset_num_timesteps: bool,
        progress_bar: bool,
    ) -> None:
        total_timesteps, callbacks = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        self._given_last = self._given_now()
        callbacks.on_training_start(locals(), globals())
        logged = self._episode_num
        while self.num_timesteps < total_timesteps:
            callbacks.on_rollout_start()
            with self.running.playing():
                goes_on = self._step(callbacks)
            if not goes_on:
                break
            callbacks.on_rollout_end()
            if log_interval and self._episode_num // log_interval > logged // log_interval:
                logged = self._episode_num
                self._log()
        callbacks.on_training_end()

    def _step(self, callback: BaseCallback) -> bool:
        """Act once in every environment and learn from it; return whether to go on."""
        assert self.env is not None
        words: Any = self._last_obs
        rows = self.table.rows(words)
        values = self._values_to_explore(*self.table.look_up(rows))
        actions = self.exploration.act(values, rows, self.exploration_rate, self._generator)
        following, rewards, dones, infos = self.env.step(actions)
        require_finite_array(rewards, "reward", REWARD_REMEDY)
        self.num_timesteps += self.n_envs
        self.exploration.acted(rows, actions)
        self._update_info_buffer(infos, dones)
        states = states_of(following)  # type: ignore[arg-type]
        for index in map(int, np.flatnonzero(dones)):
            last = infos[index]["terminal_observation"]
            states[index] = (last["instruction"], last["observation"])
        alpha = float(self.lr_schedule(self._current_progress_remaining))
        masks = self.exploration.masks(self.n_envs, self._generator)
        for index, (row, state, info) in enumerate(zip(rows, states, infos, strict=True)):
            if EPISODE_LOST in info:
                continue  # nobody knows what the action came to
            over = bool(dones[index]) and not info["TimeLimit.truncated"]
            learning = slice(None) if masks is None else masks[:, index]
            self._update(row, int(actions[index]), float(rewards[index]), None if over else state, alpha, learning)
        self._n_updates += self.n_envs
        self.exploration.ended(dones, self._generator)
        self._episode_num += int(dones.sum())
        self._last_obs = following  # type: ignore[assignment]
        self._given_last = self._given_now()
        self._last_episode_starts = dones
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        self.exploration_rate = self.exploration.schedule(self._current_progress_remaining)
        callback.update_locals(locals())
        return callback.on_step()

    def parts(self) -> list[Part]:
        """Return the exploration, which is told where episodes end."""
        return [_Exploring(self)]

    def _given_now(self) -> Any:
        return getattr(self.env.unwrapped, "observations", None) if self.env is not None else None

    def shown(self) -> Any:
        """Return what the agent saw last, if that is what the environments gave last, else what they gave."""
        now = self._given_now()
        return self._last_obs if now is self._given_last else now

    def _update(self, row: int, action: int, reward: float, following: State | None, alpha: float, heads: Any) -> None:
        """Move one entry of the table, and of the strategy's `heads`, towards its target; None ends the episode."""
        next_row = None if following is None else self.table.row(following)
        values = self.table.values
        target = reward if next_row is None else reward + self.gamma * max(values[next_row].tolist())
        values[row, action] += alpha * (target - values[row, action])
        if not self.exploration.heads:
            return
        own = self.table.heads
        targets = np.full(len(own), reward)
        if next_row is not None:
            bonus = self.exploration.bonus([next_row], self.exploration_rate)
            targets += self.gamma * (own[:, next_row] if bonus is None else own[:, next_row] + bonus).max(axis=1)
        own[heads, row, action] += alpha * (targets[heads] - own[heads, row, action])

    def _log(self) -> None:
        assert self.ep_info_buffer is not None
        assert self.ep_success_buffer is not None
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        if self.ep_info_buffer:
            self.logger.record("rollout/ep_rew_mean", safe_mean([episode["r"] for episode in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([episode["l"] for episode in self.ep_info_buffer]))
        if self.ep_success_buffer:
            self.logger.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        self.logger.record("train/states", len(self.table.states))
        self.logger.record("train/q_value", float(self.table.values.max(axis=1).mean()))
        self.logger.dump(step=self.num_timesteps)

    # -- words ---------------------------------------------------------------------------------------------

    def q_values(self, words: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        """Return the values of all actions, (B, A), for a batch of language observations."""
        return self.table.look_up(self.table.find(as_batch(words)[0]))[0]

    def predict(
        self,
        observation: Any,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """Return the best actions, (B,) or one; unless `deterministic`, as the exploration draws them."""
        words, batched = as_batch(observation)
        if deterministic:
            actions = self.q_values(words).argmax(axis=1)
        else:
            rows = self.table.find(words)
            values = self._values_to_explore(*self.table.look_up(rows))
            actions = self.exploration.sample(values, rows, self.exploration_rate, self._generator)
        return (actions if batched else actions[0]), state

    def action_probabilities(self, observations: Any) -> npt.NDArray[np.floating[Any]]:
        """Return how likely the exploration makes every action, (B, A), for a batch of language observations."""
        rows = self.table.find(as_batch(observations)[0])
        values = self._values_to_explore(*self.table.look_up(rows))
        return self.exploration.probabilities(values, rows, self.exploration_rate)

    def action_preferences(self, observations: Any) -> npt.NDArray[np.floating[Any]]:
        """Return the values of the actions, (B, A)."""
        return self.q_values(observations)

    def _values_to_explore(
        self, values: npt.NDArray[np.float64], heads: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Return the values that the strategy looks at, (H, B, A): its own, or without such the agent's."""
        shown = heads if self.exploration.heads else values[None]
        require_finite_values(shown)
        return shown

    def _fitting_env(self, env: Any) -> VecEnv:
        return _fitting_table_env(env, self.action_space)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Set the seed of all randomness; the environments begin new episodes with it."""
        super().set_random_seed(seed)
        self._generator = np.random.default_rng(seed)
        if hasattr(self, "table"):
            self.table.generator = self._generator

    def get_parameters(self) -> Any:
        """Refuse: what a table has learned is no tensor of PyTorch's modules."""
        raise TypeError(
            "A table has no parameters of PyTorch's: its values are in `agent.table`, and save() keeps them."
        )

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto") -> None:
        """Refuse likewise."""
        raise TypeError("A table has no parameters of PyTorch's: load() brings back what save() has kept.")

    # -- checkpoints ---------------------------------------------------------------------------------------

    def require_finite(self) -> None:
        """Refuse to be saved with a value that is not finite.

        Raises:
            NonFiniteError: saying what it is.
        """
        for name, values in (("value", self.table.values), ("exploration's value", self.table.heads)):
            if not np.isfinite(values).all():
                raise NonFiniteError(f"The table holds a {name} that is {kind_of(values)}. {REMEDY}")

    def write_learned(self, folder: Path) -> dict[str, Any]:
        """Write the table: its states as JSON, its values as tensors."""
        states = [list(state) for state in self.table.states]
        write_json(folder / "states.json", states)
        arrays = {"values": self.table.values.copy(), "heads": self.table.heads.copy()}
        write_tensors(folder / "table.safetensors", {name: torch.from_numpy(array) for name, array in arrays.items()})
        write_tensors(folder / "exploration.safetensors", self.exploration.get_state())
        return {"generator": self._generator.bit_generator.state}

    @classmethod
    def read_arguments(
        cls, folder: Path, saved: dict[str, Any], base_model: str | None
    ) -> tuple[dict[str, Any], spaces.Space[Any], TakeEnv]:
        """Return no more arguments, the space of words, and what takes an env."""
        return {}, language_space(), _fitting_table_env

    def read_learned(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put the table back."""
        states = [(instruction, observation) for instruction, observation in read_json(folder / "states.json")]
        arrays = read_tensors(folder / "table.safetensors")
        width = self.table.values.shape[1]
        if arrays["values"].shape != (len(states), width) or arrays["heads"].shape[1:] != (len(states), width):
            raise CheckpointError(
                f"{folder / 'table.safetensors'} does not fit {len(states)} states of {width} actions."
            )
        if any(array.dtype != torch.float64 for array in arrays.values()):
            raise CheckpointError(f"{folder / 'table.safetensors'} does not fit the agent: its values are no float64.")
        # A strategy that takes the place of another begins anew.
        same = saved["arguments"]["exploration"] == {"exploration": self.exploration.as_json()}
        self.table.set(states, arrays["values"].numpy(), arrays["heads"].numpy() if same else None)
        if same:
            self.exploration.set_state(read_tensors(folder / "exploration.safetensors"))
        self._generator.bit_generator.state = saved["generator"]

    def restore_envs(self, state: dict[str, Any]) -> Any:
        """Bring the environments back; return their words, or None if they cannot be."""
        observations = super().restore_envs(state)
        self._given_last = self._given_now()
        return observations


class _Exploring(Part):
    """What an agent with a table does where its episodes are not played on."""

    def __init__(self, agent: QLearning):
        self._agent = agent

    def interrupted(self) -> None:
        """Tell the exploration that all episodes are over."""
        self._agent.exploration.ended(np.ones(self._agent.n_envs, dtype=bool), self._agent._generator)


def _fitting_table_env(env: Any, action_space: spaces.Space[Any]) -> VecEnv:
    """Return environments that an agent with a table takes which is made already."""
    _require_table_env(env)
    require_same_actions(env, action_space)
    taken: VecEnv = env
    return taken


def _require_table_env(env: Any) -> None:
    require_language_vec_env(env)
    if isinstance(env.observation_space, PromptSpace):
        raise ValueError("A table reads words, not prompts: give the environment without PromptVecEnv.")
    if not isinstance(env.action_space, spaces.Discrete):
        raise ValueError(f"A table needs Discrete actions, but the environment's are {env.action_space}.")
    if isinstance(env.action_space, ChangingActions):
        raise ValueError(
            "A table has a column for each action of a list that stays the same, but here the actions change from "
            "state to state: use an agent with a language model."
        )
