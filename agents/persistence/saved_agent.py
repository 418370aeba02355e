"""What saves an agent into a folder and loads it: checkpoints without pickle, which a training goes on from exactly.

A folder holds what the agent is (`agent.json`), what its policy has learned (`heed.agents.persistence.saved_policy`),
and what it
needs to go on: counters, random states, environments, the log's next line. Of several learners each has some of that
for itself, in a folder of its own. `heed.agents.persistence.checkpoint` is about the files; what algorithms know
beside this they write and read themselves.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_wrapper

from heed.agents.device import available_device
from heed.agents.distributed.joined_agent import JoinedAgent
from heed.agents.distributed.ranks import current
from heed.agents.environments import fitting_env
from heed.agents.exploration import IntrinsicRewardVecEnv
from heed.agents.persistence.as_json import argument_from_json, argument_to_json, space_from_json, space_to_json
from heed.agents.persistence.checkpoint import (
    CheckpointError,
    read_json,
    read_tensors,
    verify_checkpoint,
    write_checkpoint,
    write_json,
    write_tensors,
)
from heed.agents.persistence.random_state import get_random_state, set_random_state
from heed.agents.persistence.saved_policy import (
    describe_policy,
    read_language_model,
    read_policy,
    require_savable,
    write_policy,
)
from heed.agents.persistence.shared import HEADS, heads_of, home_of, set_heads, shared_name
from heed.agents.persistence.untrusted import as_checkpoint_error, check_agent, limited_parameters
from heed.agents.rollouts.scaled_rewards import NormalizedRewards, ScaledRewardsVecEnv
from heed.policies.adapters.rank_budget import RankBudget
from heed.policies.finite import require_finite_weights
from heed.policies.language_policy import LanguagePolicy
from heed.policies.prompts.prompt import PromptVecEnv

OWN = "own.json"
"""The file of a learner's folder in a checkpoint that holds what `agent.json` holds of the first one."""

_NOT_SAVED = ("self", "policy", "env", "policy_kwargs", "_init_setup_model", "device", "verbose", "tensorboard_log")

Self = TypeVar("Self", bound="SavedAgent")


class SavedAgent(JoinedAgent):
    """Mixin before an SB3 algorithm: `save` and `load` use folders of JSON and safetensors, never pickle."""

    _arguments: dict[str, Any]
    _not_yet_logged: dict[str, Any]
    _given_env: Any
    """The environments as they were given, before prompts were made of what they say."""
    _counters: ClassVar[tuple[str, ...]] = (
        "num_timesteps",
        "_total_timesteps",
        "_num_timesteps_at_start",
        "_episode_num",
        "_n_updates",
        "_current_progress_remaining",
    )
    """Attributes that say how far a training is; an algorithm may have more."""

    def _remember_arguments(self, arguments: dict[str, Any]) -> None:
        """Keep the constructor's arguments, for checkpoints; constructors begin with it.

        Raises:
            DeviceError: if there is no such device.
            TypeError: if there is no environment.
            TypeError, ValueError: if the policy's optimizer cannot train it, or not be saved.
        """
        given = arguments["env"]
        if given is None and arguments["_init_setup_model"]:
            raise TypeError(_no_env(type(self).__name__, arguments.get("policy")))
        available_device(arguments["device"])
        require_savable(arguments.get("policy_kwargs") or {}, arguments["device"])
        self._given_env = given
        self._join()
        self._not_yet_logged = {}
        self._arguments = {k: v for k, v in arguments.items() if k not in _NOT_SAVED and not k.startswith("__")}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The constructor's arguments as JSON, defaults included.

        Raises:
            TypeError: if one cannot be written as JSON (a learning-rate function, say).
        """
        return {name: argument_to_json(name, value) for name, value in self._arguments.items()}

    @property
    @abstractmethod
    def language_policy(self) -> LanguagePolicy:
        """The policy, as what it is here."""

    @property
    @abstractmethod
    def rank_budget(self) -> RankBudget | None:
        """What shares the ranks of an AdaLoRA adapter, if the policy has one."""

    @abstractmethod
    def _policies(self) -> list[torch.nn.Module]:
        """Return the policy, and what other policies the agent keeps."""

    @abstractmethod
    def forget_readings(self) -> None:
        """Forget what the language model has read."""

    # -- save ----------------------------------------------------------------------------------------------

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Save the agent into the folder `path`: weights, optimizer, counters, random states, environments.

        Where several learners train it all of them call this, and the first one writes what all of them need.

        An older checkpoint of that name is replaced. `exclude` and `include` are of SB3's pickled format and must be
        left out.

        Raises:
            FileExistsError: if something else stands at `path`.
            TypeError: if an argument of the agent cannot be written as JSON.
            LearnersError: if the learners have not the same weights any more.
            NonFiniteError: if a weight is not finite; what was saved before stays.
        """
        if exclude is not None or include is not None:
            raise TypeError("save() takes no `exclude` or `include`: a checkpoint holds what resuming needs.")
        if isinstance(path, io.BufferedIOBase):
            raise TypeError("A checkpoint is a folder: give a path, not an open file.")
        self.learners.require_alike(self._weights())
        self.require_finite()
        own_files = self.learners.to_first({} if self.learners.is_first else self._own_files())

        def fill(folder: Path) -> None:
            self._write(folder)
            for rank, files in enumerate(own_files[1:], start=1):
                place = folder / _folder_of(rank)
                place.mkdir()
                for name, content in files.items():
                    (place / name).write_bytes(content)

        self.learners.first(lambda: write_checkpoint(Path(path), fill))
        # What was computed in earlier batches differs, in the last bit, from what a resumed training computes.
        self.forget_readings()

    def require_finite(self) -> None:
        """Refuse to be saved or shared with a weight that is not finite.

        Raises:
            NonFiniteError: naming the first.
        """
        for policy in self._policies():
            require_finite_weights(policy)

    def save_replay_buffer(self, path: Any) -> None:
        """Refuse SB3's pickled format; `save` keeps the replay buffer with the agent."""
        raise TypeError("save_replay_buffer() writes a pickle: use save(), which keeps the replay buffer as well.")

    def _write(self, folder: Path) -> None:
        for part in self._parts():
            if part.is_shared:
                part.write(folder)
        described = {**self._described(), **self._write_policy(folder)}
        write_json(
            folder / "agent.json",
            {
                **described,
                **({"learners": self.learners.count} if self.learners.several else {}),
                "episodes": [list(self.ep_info_buffer or []), [float(s) for s in self.ep_success_buffer or []]],
                **self._write_own(folder),
                "log": self._pending_log(),
            },
        )

    def _write_own(self, folder: Path) -> dict[str, Any]:
        """Write what each of several learners has of its own; return what JSON is to hold of it."""
        for part in self._parts():
            if not part.is_shared:
                part.write(folder)
        for name, wrapper in _reward_wrappers(self.env):
            write_tensors(folder / name, wrapper.get_tensors())
        random_numbers, random_tensors = get_random_state(self.action_space)
        write_tensors(folder / "random.safetensors", random_tensors)
        return {
            "episode_starts": None if self._last_episode_starts is None else self._last_episode_starts.tolist(),
            "random": random_numbers,
            "envs": self.get_env_state(),
        }

    def _own_files(self) -> dict[str, bytes]:
        """Return the same as files, for the first learner to write."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_json(folder / OWN, self._write_own(folder))
            return {path.name: path.read_bytes() for path in folder.iterdir()}

    def _own_folder(self, folder: Path) -> Path:
        """Return where in a checkpoint this learner's own files are."""
        return folder if self.learners.is_first else folder / _folder_of(self.learners.rank)

    def _described(self) -> dict[str, Any]:
        """Return what `agent.json` says of an agent, be it in a training or shared."""
        return {
            "class": type(self).__name__,
            "arguments": self.hyperparameters,
            "action_space": space_to_json(self.action_space),
            "n_envs": self.n_envs,
            "counters": {name: getattr(self, name) for name in self._counters},
        }

    def _described_policy(self) -> dict[str, Any]:
        """Return what `agent.json` says of the policy."""
        return describe_policy(self.language_policy, self.policy_kwargs)

    def _write_policy(self, folder: Path) -> dict[str, Any]:
        """Write what the agent has learned; return what `agent.json` is to say of it."""
        optimizer = write_policy(self.language_policy, self.rank_budget, folder)
        return {**self._described_policy(), "optimizer": optimizer}

    def _write_shared(self, folder: Path) -> None:
        """Write what a shared agent needs beside its language model: heads, and what else its actions hang on."""
        write_tensors(folder / HEADS, heads_of(self.language_policy))
        described = {**self._described(), **self._described_policy(), "shared": True}
        described["language_model"]["name"] = shared_name(described["language_model"]["name"])
        write_json(folder / "agent.json", described)
        for part in self._parts():
            part.write_export(folder)

    def get_env_state(self) -> dict[str, Any] | None:
        """Return the state of the training environments, where they can tell it and a training has begun.

        In the middle of a step of an agent that goes on from one step to the next there is none: an agent that is
        loaded from there begins new episodes.
        """
        if self.env is None or self._last_obs is None or not hasattr(self.env.unwrapped, "get_state"):
            return None
        if self._step_is_open:
            return None  # they are ahead of what is saved beside them
        state: dict[str, Any] = self.env.unwrapped.get_state()
        return state

    def _pending_log(self) -> dict[str, Any]:
        """Return what the logger holds for its next line."""
        if not hasattr(self, "_logger"):
            return {}
        return {
            name: (float(value), list(self.logger.name_to_excluded[name]))
            for name, value in self.logger.name_to_value.items()
            if np.isscalar(value) and not isinstance(value, str) and np.isfinite(value)
        }

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
        self.forget_readings()

    # -- load ----------------------------------------------------------------------------------------------

    @classmethod
    def load(  # type: ignore[override]
        cls: type[Self],
        path: Any,
        env: Any = None,
        device: torch.device | str = "auto",
        base_model: str | None = None,
        **arguments: Any,
    ) -> Self:
        """Load an agent from a checkpoint folder, or from one that `heed.agents.persistence.export` wrote.

        With an `env` of as many environments as the agent was trained on, `learn(..., reset_num_timesteps=False)`
        continues exactly where the checkpoint was made; where environments cannot be brought back, the episodes that
        ran there end as truncated, and new ones begin. One that several learners made is continued by as many. An
        agent that was shared has no optimizer and no replay buffer, and can be trained on from its weights only.

        Args:
            path: the checkpoint folder, which each of several learners reads.
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
        folder = home_of(Path(path))
        verify_checkpoint(folder)
        return cls._load_verified(folder, read_json(folder / "agent.json"), env, device, base_model, arguments)

    @classmethod
    def _load_verified(
        cls: type[Self],
        folder: Path,
        saved: Any,
        env: Any,
        device: torch.device | str,
        base_model: str | None,
        arguments: dict[str, Any],
    ) -> Self:
        """Load an agent from a checkpoint whose files are what its manifest says; `saved` is its `agent.json`."""
        if not isinstance(saved, dict) or saved.get("class") != cls.__name__:
            theirs = saved.get("class") if isinstance(saved, dict) else None
            raise CheckpointError(
                f"{folder / 'agent.json'} holds an agent of class {theirs}, not {cls.__name__}: use heed.agents.load."
            )
        known = inspect.signature(cls.__init__).parameters
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            raise TypeError(f"{cls.__name__} has no argument {unknown[0]!r}; it has {', '.join(list(known)[1:])}.")
        check_agent(
            folder / "agent.json", saved, arguments=set(known) - set(_NOT_SAVED), counters=frozenset(cls._counters)
        )
        if env is not None and not saved.get("shared"):
            _require_as_many(folder, saved.get("learners", 1), current().count)
        device = available_device(device)
        # What the caller changes may be wrong in ways of its own.
        reading = contextlib.nullcontext() if arguments else as_checkpoint_error(folder)
        with reading:
            own_arguments, observation_space, taken_env = cls._read_arguments(folder, saved, base_model)
            construct: Any = cls  # the mixin's constructor is the algorithm's
            agent: Self = construct(
                env=None,
                **own_arguments,
                device=device,
                _init_setup_model=False,
                **{key: argument_from_json(value) for key, value in saved["arguments"].items() if key not in arguments},
                **arguments,
            )
            agent.observation_space = observation_space
            agent.action_space = space_from_json(saved["action_space"])
            agent.n_envs = saved["n_envs"]
        if env is not None:
            agent._given_env, agent.env = env, taken_env(env, agent.action_space)
            agent.n_envs = agent.env.num_envs
        building = contextlib.nullcontext() if arguments else as_checkpoint_error(folder, plays=True)
        with building:
            with limited_parameters(folder):
                agent._setup_model()
            if saved.get("shared"):
                agent._read_shared(folder, saved)
            else:
                agent._read(folder, saved)
                if agent._last_obs is None:
                    agent._interrupt_episodes()  # the environments could not be brought back
        return agent

    @classmethod
    def _read_arguments(
        cls, folder: Path, saved: dict[str, Any], base_model: str | None
    ) -> tuple[dict[str, Any], spaces.Space[Any], Callable[[Any, spaces.Space[Any]], VecEnv]]:
        """Return the constructor's arguments beside those in `saved`, the observation space, and what takes an `env`.

        The last is given environments and the agent's action space; it returns them as the agent takes them, or raises
        what `set_env` does.
        """
        policy_kwargs, encoder = read_language_model(folder, saved, base_model)
        return (
            {"policy_kwargs": policy_kwargs},
            encoder.space,
            lambda env, action_space: fitting_env(env, encoder, action_space),
        )

    def _read(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put the saved state into this newly made agent; the random states come last."""
        place = self._own_folder(folder)
        own = saved if place == folder else read_json(place / OWN)
        self._read_policy(folder, saved)
        for name, wrapper in _reward_wrappers(self.env):
            if (place / name).is_file():
                wrapper.set_tensors(read_tensors(place / name))
        for name, value in saved["counters"].items():
            setattr(self, name, value)
        infos, successes = saved["episodes"]
        self.ep_info_buffer = deque(infos, maxlen=self._stats_window_size)
        self.ep_success_buffer = deque(successes, maxlen=self._stats_window_size)
        if own["episode_starts"] is not None:
            self._last_episode_starts = np.array(own["episode_starts"], dtype=bool)
        if self.env is not None and own["envs"] is not None and saved["n_envs"] == self.n_envs:
            self._last_obs = self._restore_envs(own["envs"])
        for part in self._parts():
            part.read(folder if part.is_shared else place, saved)
        self._not_yet_logged = saved["log"]
        set_random_state(self.action_space, own["random"], read_tensors(place / "random.safetensors"))

    def _read_shared(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put back what `_write_shared` wrote; the language model came with the policy."""
        set_heads(self.language_policy, read_tensors(folder / HEADS), folder / HEADS)
        for name, value in saved["counters"].items():
            setattr(self, name, value)
        for part in self._parts():
            part.read_export(folder, saved)

    def _read_policy(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put back what `_write_policy` wrote."""
        read_policy(self.language_policy, self.rank_budget, folder, saved["optimizer"])

    def _restore_envs(self, state: dict[str, Any]) -> npt.NDArray[Any] | None:
        assert self.env is not None
        if not isinstance(self.env, PromptVecEnv) or not hasattr(self.env.unwrapped, "set_state"):
            return None
        return self.env.set_state(state)

    def set_logger(self, logger: Logger) -> None:
        """Log into `logger`; what a loaded agent had measured but not yet logged goes there too."""
        super().set_logger(logger)
        for name, (value, excluded) in self._not_yet_logged.items():
            logger.record(name, value, exclude=tuple(excluded))

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Refuse SB3's pickled format, which can run code."""
        raise TypeError("load_replay_buffer() reads a pickle: use load(), which brings the replay buffer back as well.")


def _no_env(name: str, policy: Any) -> str:
    """Say what an agent that was given no environment needs."""
    if isinstance(policy, VecEnv | gymnasium.Env) or (callable(policy) and not isinstance(policy, type)):
        return f"The first argument of {name} is the policy: give the environment by its name, {name}(env=...)."
    return f"{name} needs an environment to be made for: give env=heed.envs.make(id, n_envs=...)."


def _folder_of(rank: int) -> str:
    """Return the name of the folder in a checkpoint that holds another learner's own files than the first one's."""
    return f"learner-{rank}"


def _require_as_many(folder: Path, theirs: int, ours: int) -> None:
    """Refuse to go on with a training in another number of processes.

    Raises:
        CheckpointError: saying how many there were.
    """
    if theirs != ours:
        raise CheckpointError(
            f"{folder} was made by {theirs} {'process' if theirs == 1 else 'processes'}, each with environments and "
            f"random numbers of its own, and cannot be trained on by {ours}: start as many."
        )


_REWARD_WRAPPERS: dict[str, type[IntrinsicRewardVecEnv] | type[ScaledRewardsVecEnv] | type[VecNormalize]] = {
    "intrinsic_reward.safetensors": IntrinsicRewardVecEnv,
    "reward_scale.safetensors": ScaledRewardsVecEnv,
    "normalized_rewards.safetensors": VecNormalize,
}
"""What changes rewards by what it has seen, and the file of a checkpoint that holds it."""


def _reward_wrappers(
    env: VecEnv | None,
) -> Iterator[tuple[str, IntrinsicRewardVecEnv | ScaledRewardsVecEnv | NormalizedRewards]]:
    """Yield those that are around `env`, each with the name of its file."""
    for name, kind in _REWARD_WRAPPERS.items():
        wrapper = None if env is None else unwrap_vec_wrapper(env, kind)
        if isinstance(wrapper, VecNormalize):
            yield name, NormalizedRewards(wrapper)
        elif wrapper is not None:
            yield name, wrapper
