"""How deep Q-learning explores: by a strategy (`heed.agents.exploration`), each environment by itself.

SB3 draws once for all environments, from NumPy's global generator; here it is drawn for each, from a generator of the
agent's own. A strategy that has value functions of its own, or counts what it has seen, gets both here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

from heed.agents.distributed.ranks import Ranks
from heed.agents.exploration import Exploration
from heed.agents.exploration.counts import fingerprint
from heed.agents.exploration.ensemble import ValueEnsemble
from heed.agents.exploration.epsilon_greedy import explore
from heed.agents.parts import Part
from heed.agents.persistence.as_json import argument_to_json
from heed.agents.persistence.checkpoint import read_json, read_tensors, write_json, write_tensors
from heed.agents.replay.buffer import Batch
from heed.envs.contract import ChangingActions
from heed.policies.finite import require_finite_values
from heed.policies.prompts.layout import PromptLayout

_GENERATOR, _KNOWN = "exploration.json", "exploration.safetensors"
"""The files of a checkpoint: the generator's state, and what the strategy knows with its value functions."""


class Explorer(Part):
    """Chooses the actions of a training, by a copy of a strategy.

    Args:
        strategy: how.
        values: returns the agent's values, (B, A), of prompts (B, L).
        ranks: the processes that train the agent.
        seed: of the generator; None draws one.
        argument: the strategy as the agent was given it, or None.

    Shapes: H value functions, B prompts, A actions.
    """

    def __init__(
        self,
        strategy: Exploration,
        values: Callable[[Tensor], Tensor],
        *,
        ranks: Ranks,
        seed: int | None,
        argument: Exploration | None,
    ):
        if strategy.heads and ranks.several:
            raise ValueError(
                f"Exploration by {strategy.name} keeps values and counts of its own, which several processes do not "
                "share: use epsilon-greedy or boltzmann, or train in one process."
            )
        self.strategy = copy.deepcopy(strategy)
        self.ensemble: ValueEnsemble | None = None
        """The strategy's own value functions, if it has such."""
        self._values = values
        self._argument = argument
        self.seed(seed)

    def seed(self, seed: int | None) -> None:
        """Set the seed of the generator."""
        self.generator = np.random.default_rng(seed)

    def begin(
        self, action_space: spaces.Discrete, *, n_envs: int, layout: PromptLayout, device: torch.device | str
    ) -> None:
        """Let the strategy begin, when the agent's model is made.

        Raises:
            ValueError: if it needs a list of actions that stays the same, and there is none.
        """
        self._n_actions, self._n_envs, self._layout = int(action_space.n), n_envs, layout
        if self.strategy.heads and isinstance(action_space, ChangingActions):
            raise ValueError(
                f"{self.strategy.name} keeps values for a list of actions that stays the same, but here the actions "
                "change from state to state: use epsilon-greedy or boltzmann."
            )
        self.strategy.begin(n_actions=self._n_actions, n_envs=n_envs, generator=self.generator)
        if self.strategy.heads:
            self.ensemble = ValueEnsemble(
                heads=self.strategy.heads,
                n_actions=self._n_actions,
                layout=layout,
                prior_scale=self.strategy.prior_scale,
                seed=int(self.generator.integers(2**31)),
            )
            self.ensemble.to(device)

    # -- actions -------------------------------------------------------------------------------------------

    def act(self, prompts: Tensor, rate: float) -> npt.NDArray[np.int64]:
        """Return the actions, (n_envs,), that the training takes at prompts (n_envs, L); `rate` is the schedule's."""
        states = self._observe(prompts)
        actions = self.strategy.act(self.values(prompts), states, rate, self.generator)
        self.strategy.acted(states, actions)
        return actions

    def act_at_random(self, prompts: Tensor) -> npt.NDArray[np.int64]:
        """Return actions, (n_envs,), drawn evenly from those that there are, as before learning begins."""
        states = self._observe(prompts)
        counts = self._layout.numbers_of_actions(prompts.cpu().numpy())
        first = np.zeros(len(prompts), dtype=np.int64)
        actions = explore(first, self._n_actions if counts is None else counts, 1.0, self.generator)
        self.strategy.acted(states, actions)
        return actions

    def sample(self, prompts: Tensor, rate: float) -> npt.NDArray[np.int64]:
        """Draw actions, (B,), outside of a training."""
        return self.strategy.sample(self.values(prompts), self._fingerprints(prompts), rate, self.generator)

    def probabilities(self, prompts: Tensor, rate: float) -> npt.NDArray[np.float64]:
        """Return how likely each action is, (B, A), outside of a training."""
        return self.strategy.probabilities(self.values(prompts), self._fingerprints(prompts), rate)

    def values(self, prompts: Tensor) -> npt.NDArray[Any]:
        """Return the values that the strategy looks at, (H, B, A): its own, or without such the agent's, H = 1."""
        with torch.no_grad():
            values = self._values(prompts)[None] if self.ensemble is None else self.ensemble(prompts)
        array: npt.NDArray[Any] = values.cpu().numpy()
        require_finite_values(array)
        return array

    def _observe(self, prompts: Tensor) -> list[int]:
        states = self._fingerprints(prompts)
        if self.ensemble is not None:
            self.ensemble.observe(prompts)
        return states

    def _fingerprints(self, prompts: Tensor) -> list[int]:
        """Return a fingerprint of each prompt, where there is something to be counted."""
        if self.ensemble is None:
            return []
        layout, rows = self._layout, prompts.cpu().numpy()
        tokens, auxiliary = layout.tokens_of(rows), layout.auxiliary_of(rows)
        words = [row[row >= 0].tobytes() for row in tokens]
        return [fingerprint(text + more.tobytes()) for text, more in zip(words, auxiliary, strict=True)]

    # -- what happens --------------------------------------------------------------------------------------

    def ended(self, dones: npt.NDArray[Any]) -> None:
        """Take notice of the environments whose episode is over, (n_envs,)."""
        self.strategy.ended(dones, self.generator)

    def interrupted(self) -> None:
        """Take notice that all episodes are over."""
        self.ended(np.ones(self._n_envs, dtype=bool))

    def learn(self, batch: Batch, rate: float) -> float | None:
        """Let the strategy's own value functions learn a batch; return their loss, if there are such."""
        if self.ensemble is None:
            return None
        states = self._fingerprints(batch.next_observations)
        bonus = self.strategy.bonus(states, rate)
        masks = self.strategy.masks(len(states), self.generator)
        device = batch.rewards.device
        return self.ensemble.update(
            batch.observations,
            batch.actions,
            batch.rewards,
            batch.next_observations,
            batch.discounts,
            None if bonus is None else torch.as_tensor(bonus, dtype=torch.float32, device=device),
            None if masks is None else torch.as_tensor(masks, device=device),
        )

    # -- checkpoints ---------------------------------------------------------------------------------------

    def write(self, folder: Path) -> None:
        """Write the generator's state, and what the strategy knows."""
        write_json(folder / _GENERATOR, self.generator.bit_generator.state)
        self.write_export(folder)

    def read(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put both back."""
        self.generator.bit_generator.state = read_json(folder / _GENERATOR)
        self.read_export(folder, saved)

    def write_export(self, folder: Path) -> None:
        """Write what the strategy knows, and its value functions."""
        own = {} if self.ensemble is None else {f"ensemble.{k}": t for k, t in self.ensemble.get_state().items()}
        write_tensors(folder / _KNOWN, {**self.strategy.get_state(), **own})

    def read_export(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put that back; a strategy that takes the place of another begins anew."""
        if saved["arguments"]["exploration"] != argument_to_json("exploration", self._argument):
            return
        tensors = read_tensors(folder / _KNOWN)
        own = {k.removeprefix("ensemble."): t for k, t in tensors.items() if k.startswith("ensemble.")}
        self.strategy.set_state({k: t for k, t in tensors.items() if not k.startswith("ensemble.")})
        if self.ensemble is not None:
            self.ensemble.set_state(own)
