"""What Heed's agents add to SB3's algorithms: language environments, running episodes, ranks, checkpoints.

`LanguageAgent` is the one class between SB3 and Heed's algorithms. It reports events to its parts
(`heed.agents.parts`), keeps ranks in sync (`heed.agents.distributed`), and saves and loads (`heed.agents.persistence`).
One with a language model is a `heed.agents.policy_agent.LanguagePolicyAgent`.
"""

from __future__ import annotations

import contextlib
import io
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor

from heed.agents.device import available_device
from heed.agents.distributed.counts import EpisodesOfAll, counting_together
from heed.agents.distributed.ranks import ALONE, Ranks, current
from heed.agents.distributed.together import begin_together, require_shares
from heed.agents.environments import reward_normalization, without_env
from heed.agents.parts import Part
from heed.agents.persistence.as_json import argument_to_json
from heed.agents.persistence.saving import NOT_SAVED, load_agent, save_agent
from heed.agents.rollouts.running_episodes import RunningEpisodes
from heed.policies.finite import telling_when

Self = TypeVar("Self", bound="LanguageAgent")

TakeEnv = Callable[[Any, spaces.Space[Any]], VecEnv]
"""Takes environments and the agent's action space; returns the environments as the agent uses them, or raises as
`set_env`."""


class LanguageAgent(BaseAlgorithm):
    """Mixin before an SB3 algorithm.

    - `env` is a language `VecEnv` (from `heed.envs.make`).
    - `save` and `load` use folders of JSON and safetensors, never pickle.
    - Within `heed.agents.distributed.ranks.join`, several processes train it together, each with its share of the
      environments.
      `env` is that share, and other sizes (steps, minibatches, buffers, intervals) are those of all together.
    """

    counters: ClassVar[tuple[str, ...]] = (
        "num_timesteps",
        "_total_timesteps",
        "_num_timesteps_at_start",
        "_episode_num",
        "_n_updates",
        "_current_progress_remaining",
    )
    """Attributes that say how far a training is; an algorithm may have more."""
    ranks: Ranks = ALONE
    """The processes that train it together."""
    episodes_of_all: EpisodesOfAll
    """Collects their episodes until all of them update their statistics."""
    running: RunningEpisodes
    """Ends what belongs to episodes that are not continued."""
    not_yet_logged: dict[str, Any]
    """Measurements of a loaded agent that were not logged yet."""
    _arguments: dict[str, Any]
    _given_env: Any
    """The environments as they were given, before they were wrapped to return prompts."""

    def _remember_arguments(self, arguments: dict[str, Any]) -> None:
        """Keep the constructor's arguments, for checkpoints; constructors begin with it.

        Raises:
            DeviceError: if there is no such device.
            TypeError: if there is no environment.
        """
        given = arguments["env"]
        if given is None and arguments["_init_setup_model"]:
            raise TypeError(without_env(type(self).__name__, arguments.get("policy")))
        available_device(arguments["device"])
        self._given_env = given
        self.ranks = current()
        self.episodes_of_all = EpisodesOfAll(self.ranks)
        self.running = RunningEpisodes(self)
        self.not_yet_logged = {}
        self._arguments = {k: v for k, v in arguments.items() if k not in NOT_SAVED and not k.startswith("__")}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The constructor's arguments as JSON, defaults included.

        Raises:
            TypeError: if one cannot be written as JSON (a learning-rate function, say).
        """
        return {name: argument_to_json(name, value) for name, value in self._arguments.items()}

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[safe-super]  # the algorithm's, behind this mixin
        if self.ranks.several:
            begin_together(self)
        # SB3 would put back what VecNormalize has changed in observations. Here it changes rewards alone.
        self._vec_normalize_env = None

    def parts(self) -> list[Part]:
        """Return what the agent has besides its policy, in the order in which events are reported to it."""
        return []

    def _policies(self) -> list[torch.nn.Module]:
        """Return the policies of the agent, its own first; a table is none."""
        return []

    # -- environments --------------------------------------------------------------------------------------

    def get_env(self) -> VecEnv | None:
        """Return the environments as they were given, before they were wrapped to return prompts."""
        given = self._given_env
        return given if given in (self.env, getattr(self.env, "venv", None)) else self.env

    def get_vec_normalize_env(self) -> VecNormalize | None:
        """Return SB3's `VecNormalize`, if it is around the environments: it scales their rewards."""
        return reward_normalization(self.env)

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Train in other environments from now on, as many as there were.

        Args:
            env: as in the constructor, with the actions that the agent has.
            force_reset: begin new episodes; False goes on with those that are running, if these environments are the
                ones that the agent has already.

        Raises:
            TypeError: if it is no `VecEnv`.
            ValueError: if it has no text, or other actions, or lacks auxiliary observations that the agent
                reads; if the number of environments is another; or if there are no episodes to go on with.
        """
        same = env is not None and env in (self.env, self.get_env())
        if not same and not force_reset:
            raise ValueError(
                "force_reset=False goes on with the running episodes, but other environments do not have these: leave "
                "it out."
            )
        if not same:
            self._use_env(env)
        if force_reset:
            self.running.interrupt()

    def weights(self) -> Iterator[Tensor]:
        """Yield all tensors that are the same in all processes; a table is trained in one."""
        yield from ()

    @abstractmethod
    def _fitting_env(self, env: Any) -> VecEnv:
        """Return other environments as the agent takes them.

        Raises:
            TypeError, ValueError: if it cannot.
        """

    def _use_env(self, env: Any) -> None:
        """Take other environments in place of those that there are, or of none."""
        taken = self._fitting_env(env)
        if taken.num_envs != self.n_envs:
            raise ValueError(
                f"The agent has {self.n_envs} environments, and set_env takes as many, not {taken.num_envs}: "
                f"{type(self).__name__}.load(path, env=...) takes another number."
            )
        self._given_env, self.env = env, taken
        for part in self.parts():
            part.uses(taken)
        if self.ranks.several:
            require_shares(self.ranks, taken)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Set the seed of all randomness; the environments begin new episodes with it."""
        super().set_random_seed(seed)
        if seed is not None:
            self.running.interrupt()

    def shown(self) -> Any:
        """Return the last observations of the environments, the same object; None if they do not keep it."""
        return getattr(self.env, "prompts", None)

    # -- training ------------------------------------------------------------------------------------------

    def learn(self, *arguments: Any, **named: Any) -> Any:
        """Train; the arguments are those of SB3's algorithm.

        Raises:
            NonFiniteError: where a loss, gradient, score, value or reward is NaN or infinite, saying when.
        """
        with self._telling_when():
            return super().learn(*arguments, **named)  # type: ignore[safe-super]  # the algorithm's, behind this mixin

    def _telling_when(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that adds the training's step to an error about NaN or infinity."""
        return telling_when(
            lambda: f"The training ends here, after {self.num_timesteps} steps and {self._n_updates} updates."
        )

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.env is None:
            raise ValueError(
                "There is no environment to train in: load the agent with one (env=...), or give it one by set_env."
            )
        if self.ranks.several:
            callback = counting_together(callback)
            if not self.ranks.is_first:
                progress_bar = False
                if not self._custom_logger:
                    self.set_logger(Logger(folder=None, output_formats=[]))
        if reset_num_timesteps or not self.running.are_as_seen():
            self.running.interrupt()
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: npt.NDArray[Any] | None = None) -> None:
        """Log how many episodes the environments have lost, once one is."""
        if self.ranks.several:
            self.episodes_of_all.note(infos, dones)  # `take_in_episodes` follows
            return
        super()._update_info_buffer(infos, dones)
        self._log_lost(self._lost_here)

    def take_in_episodes(self) -> None:
        """Add the episodes of all ranks since the last rollout to the statistics; called by all."""
        infos, dones = self.episodes_of_all.exchange(self._lost_here)
        super()._update_info_buffer(infos, dones)
        self._log_lost(self.episodes_of_all.lost)

    @property
    def _lost_here(self) -> int:
        return 0 if self.env is None else getattr(self.env.unwrapped, "lost_count", 0)

    def _log_lost(self, lost: int) -> None:
        if lost:
            self.logger.record("rollout/lost_episodes", lost)

    def set_logger(self, logger: Logger) -> None:
        """Log into `logger`, first what a loaded agent had measured but not logged."""
        super().set_logger(logger)
        for name, (value, excluded) in self.not_yet_logged.items():
            logger.record(name, value, exclude=tuple(excluded))

    # -- acting --------------------------------------------------------------------------------------------

    def predict(
        self,
        observation: Any,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """Return actions, (B,) or one, and `state`.

        Args:
            observation: a dict of texts, `{"instruction": "...", "observation": "..."}` and auxiliary observations; a
                dict of lists; a list of dicts; or prompts, (B, L) or (L,).
            state: of SB3's recurrent policies; it is handed back.
            episode_start: likewise.
            deterministic: take the best action, instead of drawing one.

        Raises:
            TypeError: if it is neither text nor prompts.
            ValueError: if there is none, a key is missing, or there are no such prompts.
        """
        return super().predict(observation, state, episode_start, deterministic)

    @abstractmethod
    def action_probabilities(self, observations: Any) -> npt.NDArray[np.floating[Any]]:
        """Return the probability of every action, (B, A), for a batch of language observations.

        Raises:
            TypeError: if the actions are not Discrete.
        """

    def action_preferences(self, observations: Any) -> npt.NDArray[np.floating[Any]]:
        """Return scores, (B, A), whose argmax is the greedy action; arguments as above.

        Raises:
            TypeError: if the actions are not Discrete.
        """
        return self.action_probabilities(observations)

    def clear_cache(self) -> None:
        """Drop cached outputs of the language model: prompts are computed again, in the rounding of their new batch."""

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Save the agent into the folder `path`: weights, optimizer, counters, random states, environments.

        Where several ranks train it all of them call this, and the first one writes what all of them need.

        An older checkpoint of that name is replaced. `exclude` and `include` are of SB3's pickled format and must be
        left out.

        Raises:
            FileExistsError: if something else stands at `path`.
            TypeError: if an argument of the agent cannot be written as JSON.
            RanksError: if the ranks have not the same weights any more.
            NonFiniteError: if a weight is not finite; what was saved before stays.
        """
        if exclude is not None or include is not None:
            raise TypeError("save() takes no `exclude` or `include`: a checkpoint holds what resuming needs.")
        if isinstance(path, io.BufferedIOBase):
            raise TypeError("A checkpoint is a folder: give a path, not an open file.")
        save_agent(self, Path(path))

    @abstractmethod
    def require_finite(self) -> None:
        """Refuse to be saved or shared with a number that is not finite.

        Raises:
            NonFiniteError: naming the first.
        """

    @abstractmethod
    def write_learned(self, folder: Path) -> dict[str, Any]:
        """Write what the agent has learned into a checkpoint; return what `agent.json` is to say of it."""

    @abstractmethod
    def read_learned(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put back what `write_learned` wrote; `saved` is `agent.json`."""

    @classmethod
    @abstractmethod
    def read_arguments(
        cls, folder: Path, saved: dict[str, Any], base_model: str | None
    ) -> tuple[dict[str, Any], spaces.Space[Any], TakeEnv]:
        """Return the constructor's arguments besides those in `saved`, the observation space, and what takes an env."""

    def get_env_state(self) -> dict[str, Any] | None:
        """Return the state of the training environments, where they can tell it and a training has begun.

        In the middle of a step of an agent that goes on from one step to the next there is none: an agent that is
        loaded from there begins new episodes.
        """
        if self.env is None or self._last_obs is None or not hasattr(self.env.unwrapped, "get_state"):
            return None
        if self.running.step_is_open:
            return None  # they are ahead of the agent
        state: dict[str, Any] = self.env.unwrapped.get_state()
        return state

    def restore_envs(self, state: dict[str, Any]) -> Any:
        """Bring the environments back to a state of `get_env_state`; return what they show, or None if they cannot."""
        set_state = getattr(self.env, "set_state", None)
        return None if set_state is None else set_state(state)

    @classmethod
    def load(  # type: ignore[override]
        cls: type[Self],
        path: Any,
        env: Any = None,
        device: torch.device | str = "auto",
        base_model: str | None = None,
        **arguments: Any,
    ) -> Self:
        """Load an agent from a checkpoint folder, or from one that `heed.agents.export` wrote.

        With an `env` of as many environments as the agent was trained on, `learn(..., reset_num_timesteps=False)`
        continues exactly where the checkpoint was made; where environments cannot be brought back, the episodes that
        ran there end as truncated, and new ones begin. One that several ranks made is continued by as many. An
        agent that was shared has no optimizer and no replay buffer, and can be trained on from its weights only.

        Args:
            path: the checkpoint folder, which each of several ranks reads.
            env: to train on; as in the constructor.
            device: as in SB3.
            base_model: of a checkpoint with an adapter: where the adapted model is, if not where it was.
            arguments: of the constructor, to change them.

        Raises:
            CheckpointFormatError: if the checkpoint is of a format that this version does not read.
            CheckpointError: if the checkpoint is missing, damaged, of another class, or holds what it must not, naming
                the file.
            ValueError: if `env` has other actions than the agent.
        """
        return load_agent(cls, Path(path), env, device, base_model, arguments)

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto") -> None:
        """Put tensors into the policy and its optimizer, a dictionary as `get_parameters` gives it.

        Raises:
            TypeError: if it is a path: SB3's files hold pickles.
            ValueError: if they are of other modules.
        """
        if not isinstance(load_path_or_dict, dict):
            raise TypeError(
                "set_parameters() takes a dictionary of get_parameters(), not a path, where SB3 keeps a pickle: use "
                "load(), which brings the weights back as well."
            )
        super().set_parameters(load_path_or_dict, exact_match, device)
        self.clear_cache()

    def save_replay_buffer(self, path: Any) -> None:
        """Refuse SB3's pickled format; `save` keeps the replay buffer with the agent."""
        raise TypeError("save_replay_buffer() writes a pickle: use save(), which keeps the replay buffer as well.")

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Refuse SB3's pickled format, which can run code."""
        raise TypeError("load_replay_buffer() reads a pickle: use load(), which brings the replay buffer back as well.")
