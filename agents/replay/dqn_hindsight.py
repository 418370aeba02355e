"""How deep Q-learning learns from episodes in hindsight (`hindsight.py`): they go into its replay buffer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.vec_env import VecEnv

from heed.agents.agent import LanguageAgent
from heed.agents.persistence.checkpoint import read_json, write_json
from heed.agents.replay.buffer import ReplayBuffer
from heed.agents.replay.hindsight import ENVIRONMENT_REWARD, HindsightReplay, RelabelledEpisode
from heed.policies.prompts.prompt import PromptSpace, PromptVecEnv

HINDSIGHT = "hindsight.json"
"""The file of a checkpoint that holds the running episodes, as hindsight has seen them."""


class RelabellingDQN(LanguageAgent, SB3DQN):
    """SB3's DQN, which stores episodes a second time with the instructions that they did fulfil."""

    replay_buffer: ReplayBuffer  # type: ignore[assignment] # SB3 calls nothing of it but `add`
    hindsight: int
    """With how many instructions at most; 0 for none."""
    _hindsight: HindsightReplay | None = None
    _words: dict[str, npt.NDArray[Any]]

    def _setup_model(self) -> None:
        super()._setup_model()
        if not self.hindsight:
            return
        if self.env is not None:
            self._watch(self.env)
        if isinstance(self.observation_space, PromptSpace):
            seed = self.learners.seed(self.seed)
            encoder = self.observation_space.encoder
            self._hindsight = HindsightReplay(self.n_envs, encoder, per_episode=self.hindsight, seed=seed)

    def _watch(self, env: VecEnv) -> None:
        """Have the environments tell what each step fulfils.

        Raises:
            ValueError: if they cannot.
        """
        if not hasattr(env, "words") or not hasattr(env.unwrapped, "tell_fulfilled_instructions"):
            raise ValueError("Hindsight replay needs environments that tell what was fulfilled, from heed.envs.make.")
        env.unwrapped.tell_fulfilled_instructions()

    def _use_env(self, env: Any) -> None:
        super()._use_env(env)
        if self.hindsight and self.env is not None:
            self._watch(self.env)

    def _setup_learn(self, *arguments: Any, **named: Any) -> Any:
        result = super()._setup_learn(*arguments, **named)
        if self._hindsight is not None:
            self._words = cast(PromptVecEnv, self.env).words
        return result

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: npt.NDArray[Any],
        new_obs: Any,
        reward: npt.NDArray[Any],
        dones: npt.NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        before: Any = self._last_obs
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        if self._hindsight is not None:
            own = [info.get(ENVIRONMENT_REWARD, seen) for info, seen in zip(infos, reward, strict=True)]
            self._add(self._hindsight.step(self._words, before, buffer_action, np.array(own), dones, infos))
            self._words = cast(PromptVecEnv, self.env).words

    def _episodes_interrupted(self) -> None:
        super()._episodes_interrupted()
        if self._hindsight is not None:
            self._add(self._hindsight.interrupt())

    def _add(self, episodes: Iterable[RelabelledEpisode]) -> None:
        for episode in episodes:
            self.replay_buffer.add_episode(episode.prompts, episode.actions, episode.rewards, terminated=True)

    def _write_own(self, folder: Path) -> dict[str, Any]:
        if self._hindsight is not None:
            write_json(folder / HINDSIGHT, self._hindsight.get_state())
        return super()._write_own(folder)

    def _read(self, folder: Path, saved: dict[str, Any]) -> None:
        file = self._own_folder(folder) / HINDSIGHT
        if self._hindsight is not None and file.is_file():
            self._hindsight.set_state(read_json(file))
        super()._read(folder, saved)
