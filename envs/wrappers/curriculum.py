"""A curriculum over the levels of a mixture, or the tasks of `Instructions`: what goes well is drawn less.

Which level an episode plays still follows from its seed, and from the shares that stood when it began. Shares follow
from the outcomes of all environments, so they are kept here, around the vector, and handed to the environments between
episodes. `get_state` tells what was drawn for each running episode, the shares that stand, and the outcomes that they
follow from; `set_state` has the same drawn again. So a training with a curriculum is resumed exactly, in processes
too.

In groups (`group_size`) all episodes of a seed are drawn under the same shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from heed.envs.contract import ContractError
from heed.envs.wrappers.shares import Curriculum, Shares


class CurriculumVecEnv(VecEnvWrapper):
    """Draws more often what is worth more practice.

    Args:
        venv: as `heed.envs.make` gives it, of a mixture or with `Instructions` in each environment.
        curriculum: how the shares follow success.

    Raises:
        ContractError: if the environments draw nothing.
    """

    def __init__(self, venv: VecEnv, curriculum: Curriculum):
        super().__init__(venv)
        try:
            self._key, names, weights = (venv.get_attr(name, 0)[0] for name in ("draws", "drawn_names", "weights"))
        except AttributeError:
            raise ContractError(
                "There is nothing to make a curriculum of: the environment is no mixture (LEVEL+LEVEL) and has no "
                "`Instructions` to draw from."
            ) from None
        self._shares = Shares(names, weights, curriculum)
        self._size = int(getattr(venv, "group_size", 1))
        groups = venv.num_envs // self._size
        self._begun = [0] * groups  # episodes of each group
        self._held: list[tuple[float, ...]] = [tuple(weights)] * groups  # shares that stand in each group
        self._drawn: list[str | None] = [None] * venv.num_envs  # what the running episodes play

    @property
    def unwrapped(self) -> VecEnv:
        """This: who asks the innermost environments for their state must get the curriculum's with it."""
        return self

    def getattr_depth_check(self, name: str, already_found: bool) -> str | None:
        """Take what this has for what is meant, though the environments within have it too; see `unwrapped`."""
        if name in self._get_all_attributes():
            return f"{type(self).__module__}.{type(self).__name__}" if already_found else None
        return super().getattr_depth_check(name, already_found)

    @property
    def shares(self) -> dict[str, float]:
        """How often each is to be drawn now, by name; they sum to 1."""
        return dict(zip(self._shares.names, self._shares.now(), strict=True))

    @property
    def success_rates(self) -> dict[str, float]:
        """The success rate of each in the curriculum's window, by name; of those that were played."""
        return self._shares.success_rates()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed that the seeds of all coming episodes are drawn from; their count restarts."""
        self._begun = [0] * len(self._begun)
        return self.venv.seed(seed)

    def reset(self) -> Any:
        """Begin a new episode in every environment, under the shares of now."""
        self._begun = [-(-begun // self._size) * self._size for begun in self._begun]  # each group begins a new seed
        self._hand_out(range(len(self._begun)))
        observations = self.venv.reset()
        self._begun = [begun + self._size for begun in self._begun]
        self._note_drawn(range(self.num_envs))
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Return what a step gave, take in the episodes that ended, and hand out the shares for those to come."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self.reset_infos = self.venv.reset_infos
        ended = np.flatnonzero(dones).tolist()
        if ended:
            for index in ended:
                self._begun[index // self._size] += 1
                drawn = self._drawn[index]
                if drawn is not None and "is_success" in infos[index]:  # a lost one has none, and counts for nothing
                    self._shares.add(drawn, bool(infos[index]["is_success"]))
            self._note_drawn(ended)
            self._hand_out(group for group, begun in enumerate(self._begun) if begun % self._size == 0)
            if any("episode_lost" in infos[index] for index in ended):
                # What was made anew knows nothing of shares, and a whole process may have been.
                self._hand_again(range(self.num_envs))
        return observations, rewards, dones, infos

    def _hand_out(self, groups: Iterable[int]) -> None:
        """Let the shares of now stand in these groups, of which no episode waits for the seed of a running one."""
        shares = self._shares.now()
        changed = [group for group in groups if self._held[group] != shares]
        for group in changed:
            self._held[group] = shares
        if changed:
            indices = [group * self._size + place for group in changed for place in range(self._size)]
            self.venv.env_method("set_weights", shares, indices=indices)

    def _hand_again(self, indices: Iterable[int]) -> None:
        for index in indices:
            self.venv.env_method("set_weights", self._held[index // self._size], indices=[index])

    def _note_drawn(self, indices: Iterable[int]) -> None:
        self.reset_infos = self.venv.reset_infos
        for index in indices:
            self._drawn[index] = self.reset_infos[index].get(self._key)

    def get_state(self) -> dict[str, Any]:
        """Return what `set_state` needs to bring environments and curriculum back to where they are (plain JSON)."""
        curriculum = {
            "drawn": list(self._drawn),
            "shares": [list(held) for held in self._held],
            "outcomes": self._shares.get_state(),
        }
        state: dict[str, Any] = self.venv.get_state()  # type: ignore[attr-defined]
        return {**state, "curriculum": curriculum}

    def set_state(self, state: dict[str, Any]) -> Any:
        """Bring environments and curriculum to where they were at `get_state`; return the observations there.

        Raises:
            ValueError: if the state is of another number of environments, of other levels or tasks, or of a training
                without a curriculum.
        """
        if "curriculum" not in state:
            raise ValueError("The state is of a training without a curriculum: it cannot be continued with one.")
        saved = state["curriculum"]
        if len(saved["drawn"]) != self.num_envs:
            raise ValueError(f"The state is of {len(saved['drawn'])} environments, but there are {self.num_envs}.")
        self._shares.set_state(saved["outcomes"])
        self._drawn, self._held = list(saved["drawn"]), [tuple(shares) for shares in saved["shares"]]
        for index, drawn in enumerate(self._drawn):
            if drawn is not None:  # it alone can be drawn
                alone = [float(name == drawn) for name in self._shares.names]
                self.venv.env_method("set_weights", alone, indices=[index])
        rest = {key: value for key, value in state.items() if key != "curriculum"}
        observations = self.venv.set_state(rest)  # type: ignore[attr-defined]
        self._hand_again(range(self.num_envs))
        episodes, size = state["episodes"], self._size
        self._begun = [max(episodes[group * size : (group + 1) * size]) + 1 for group in range(len(self._begun))]
        return observations
