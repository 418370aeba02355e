"""A curriculum over the levels of a mixture, or the tasks of `Instructions`: what goes well is drawn less.

Which level an episode plays follows from its seed and from the sampling weights when that seed began. The weights
follow from the outcomes of all environments, so this wrapper around the vector keeps them. Only the vector knows which
episode begins when (a reset may fail, and the next episode begins), so it hands the weights to the environments, draws
all episodes of a seed with the same weights, and stores those of the running episodes in its state. So a training with
a curriculum resumes exactly, with worker processes too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from heed.envs.contract import ContractError
from heed.envs.wrappers.sampling_weights import Curriculum, SamplingWeights


class CurriculumVecEnv(VecEnvWrapper):
    """Draws more often what is worth more practice.

    Args:
        venv: as `heed.envs.make` gives it, of a mixture or with `Instructions` in each environment.
        curriculum: how the sampling weights follow success.

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
        self._sampling_weights = SamplingWeights(names, weights, curriculum)
        self._handed: tuple[float, ...] | None = None

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
    def sampling_weights(self) -> dict[str, float]:
        """The current sampling weights of the levels or tasks, by name; they sum to 1."""
        return dict(zip(self._sampling_weights.names, self._sampling_weights.now(), strict=True))

    @property
    def success_rates(self) -> dict[str, float]:
        """The success rate of each in the curriculum's window, by name; of those that were played."""
        return self._sampling_weights.success_rates()

    def reset(self) -> Any:
        """Begin a new episode in every environment, under the current sampling weights."""
        self._hand_out()
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Return what a step gave, record the episodes that ended, and hand out the weights for those to come."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self.reset_infos = self.venv.reset_infos
        for index in np.flatnonzero(dones).tolist():
            drawn = infos[index].get(self._key)
            if drawn is not None and "is_success" in infos[index]:  # a lost one has none, and counts for nothing
                self._sampling_weights.add(drawn, bool(infos[index]["is_success"]))
        if dones.any():
            self._hand_out()
        return observations, rewards, dones, infos

    def _hand_out(self) -> None:
        weights = self._sampling_weights.now()
        if weights != self._handed:
            self._handed = weights
            self.venv.draw_by(weights)  # type: ignore[attr-defined]

    def get_state(self) -> dict[str, Any]:
        """Return what `set_state` needs to bring environments and curriculum back to where they are (plain JSON)."""
        state: dict[str, Any] = self.venv.get_state()  # type: ignore[attr-defined]
        return {**state, "curriculum": {"outcomes": self._sampling_weights.get_state()}}

    def set_state(self, state: dict[str, Any]) -> Any:
        """Bring environments and curriculum to where they were at `get_state`; return the observations there.

        Raises:
            ValueError: if the state is of another number of environments, of other levels or tasks, or of a training
                without a curriculum.
        """
        if "curriculum" not in state:
            raise ValueError("The state is of a training without a curriculum: it cannot be continued with one.")
        saved = state["curriculum"]
        self._sampling_weights.set_state(saved["outcomes"])
        rest = {key: value for key, value in state.items() if key != "curriculum"}
        observations = self.venv.set_state(rest)  # type: ignore[attr-defined]
        self.reset_infos = self.venv.reset_infos
        self._handed = None
        self._hand_out()
        return observations
