"""How deep Q-learning explores: by a strategy (`heed.agents.exploration`), each environment by itself.

SB3 draws once for all environments, from NumPy's global generator; here it is drawn for each, from a generator of the
agent's own. A strategy that has value functions of its own, or counts what it has seen, gets both here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import DQN as SB3DQN
from torch import Tensor

from heed.agents.agent import LanguageAgent
from heed.agents.exploration import Exploration
from heed.agents.exploration.counts import fingerprint
from heed.agents.exploration.ensemble import ValueEnsemble
from heed.agents.exploration.epsilon_greedy import explore
from heed.agents.persistence.as_json import argument_to_json
from heed.agents.persistence.checkpoint import read_json, read_tensors, write_json, write_tensors
from heed.agents.replay.buffer import Batch
from heed.envs.contract import ChangingActions
from heed.policies.finite import require_finite_values


class ExploringDQN(LanguageAgent, SB3DQN):
    """SB3's DQN with a strategy that chooses the actions while it trains."""

    exploration: Exploration
    ensemble: ValueEnsemble | None
    """The strategy's own value functions, if it has such."""
    _exploration: np.random.Generator

    def _setup_model(self) -> None:
        if self.exploration.heads and self.learners.several:
            raise ValueError(
                f"Exploration by {self.exploration.name} keeps values and counts of its own, which several processes "
                "do not share: use epsilon-greedy or boltzmann, or train in one process."
            )
        super()._setup_model()

    def _begin_exploring(self) -> None:
        """Let the strategy begin, when the model is made.

        Raises:
            ValueError: if it needs a list of actions that stays the same, and there is none.
        """
        assert isinstance(self.action_space, spaces.Discrete)
        n_actions = int(self.action_space.n)
        if self.exploration.heads and isinstance(self.action_space, ChangingActions):
            raise ValueError(
                f"{self.exploration.name} keeps values for a list of actions that stays the same, but here the actions "
                "change from state to state: use epsilon-greedy or boltzmann."
            )
        # What SB3 logs as exploration_rate, and asks for after each step, is the strategy's one number.
        self.exploration_schedule = self.exploration.schedule
        self.exploration_rate = self.exploration.schedule(1.0)
        self.exploration.begin(n_actions=n_actions, n_envs=self.n_envs, generator=self._exploration)
        if self.exploration.heads:
            seed = int(self._exploration.integers(2**31))
            heads, prior_scale = self.exploration.heads, self.exploration.prior_scale
            self.ensemble = ValueEnsemble(
                heads=heads, n_actions=n_actions, layout=self._layout, prior_scale=prior_scale, seed=seed
            )
            self.ensemble.to(self.device)

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
        values, states = self._values_to_explore(prompts), self._fingerprints(prompts)
        actions = self.exploration.sample(values, states, self.exploration_rate, self._exploration)
        return (actions if batched else actions[0]), state

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        assert isinstance(self.action_space, spaces.Discrete)
        self._step_is_open = True
        self.policy.set_training_mode(False)
        prompts: Any = self.policy.obs_to_tensor(self._last_obs)[0]  # type: ignore[arg-type]
        states = self._fingerprints(prompts)
        if self.ensemble is not None:
            self.ensemble.observe(prompts)
        if self.num_timesteps < learning_starts:
            first = np.zeros(n_envs, dtype=np.int64)
            counts = self._layout.numbers_of_actions(prompts.cpu().numpy())
            n_actions = int(self.action_space.n) if counts is None else counts
            actions = explore(first, n_actions, 1.0, self._exploration)
        else:
            values = self._values_to_explore(prompts)
            actions = self.exploration.act(values, states, self.exploration_rate, self._exploration)
        self.exploration.acted(states, actions)
        return actions, actions

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: npt.NDArray[Any] | None = None) -> None:
        super()._update_info_buffer(infos, dones)
        if dones is not None:
            self.exploration.ended(dones, self._exploration)

    def _episodes_interrupted(self) -> None:
        super()._episodes_interrupted()
        self.exploration.ended(np.ones(self.n_envs, dtype=bool), self._exploration)

    def _values_to_explore(self, prompts: Any) -> npt.NDArray[Any]:
        """Return the values that the strategy looks at, (H, B, A): its own, or without such the agent's."""
        with torch.no_grad():
            values = self.q_net(prompts)[None] if self.ensemble is None else self.ensemble(prompts)
        array: npt.NDArray[Any] = values.cpu().numpy()
        require_finite_values(array)
        return array

    def _fingerprints(self, prompts: Any) -> list[int]:
        """Return a fingerprint of each prompt, where there is something to be counted."""
        if self.ensemble is None:
            return []
        layout, rows = self._layout, prompts.cpu().numpy()
        tokens, auxiliary = layout.tokens_of(rows), layout.auxiliary_of(rows)
        words = [row[row >= 0].tobytes() for row in tokens]
        return [fingerprint(text + more.tobytes()) for text, more in zip(words, auxiliary, strict=True)]

    def _update_ensemble(self, batch: Batch) -> None:
        """Let the exploration's own value functions learn a batch."""
        if self.ensemble is None:
            return
        states = self._fingerprints(batch.next_observations)
        bonus = self.exploration.bonus(states, self.exploration_rate)
        masks = self.exploration.masks(len(states), self._exploration)
        loss = self.ensemble.update(
            batch.observations,
            batch.actions,
            batch.rewards,
            batch.next_observations,
            batch.discounts,
            None if bonus is None else torch.as_tensor(bonus, dtype=torch.float32, device=self.device),
            None if masks is None else torch.as_tensor(masks, device=self.device),
        )
        self.logger.record("train/ensemble_loss", loss)

    def _probabilities(self, prompts: Any) -> Tensor:
        values, states = self._values_to_explore(prompts), self._fingerprints(prompts)
        return torch.from_numpy(self.exploration.probabilities(values, states, self.exploration_rate))

    def _write_own(self, folder: Path) -> dict[str, Any]:
        write_json(folder / "exploration.json", self._exploration.bit_generator.state)
        self._write_exploration(folder)
        return super()._write_own(folder)

    def _write_exploration(self, folder: Path) -> None:
        """Write what the strategy knows, and its value functions."""
        own = {} if self.ensemble is None else {f"ensemble.{k}": t for k, t in self.ensemble.get_state().items()}
        write_tensors(folder / "exploration.safetensors", {**self.exploration.get_state(), **own})

    def _read(self, folder: Path, saved: dict[str, Any]) -> None:
        place = self._own_folder(folder)
        self._exploration.bit_generator.state = read_json(place / "exploration.json")
        self._read_exploration(place, saved)
        super()._read(folder, saved)

    def _read_exploration(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put back what `_write_exploration` wrote."""
        # A strategy that takes the place of another begins anew.
        same = saved["arguments"]["exploration"] == argument_to_json("exploration", self._arguments["exploration"])
        if same:
            tensors = read_tensors(folder / "exploration.safetensors")
            own = {k.removeprefix("ensemble."): t for k, t in tensors.items() if k.startswith("ensemble.")}
            self.exploration.set_state({k: t for k, t in tensors.items() if not k.startswith("ensemble.")})
            if self.ensemble is not None:
                self.ensemble.set_state(own)

    def _write_shared(self, folder: Path) -> None:
        super()._write_shared(folder)
        self._write_exploration(folder)

    def _read_shared(self, folder: Path, saved: dict[str, Any]) -> None:
        self._read_exploration(folder, saved)
        super()._read_shared(folder, saved)
