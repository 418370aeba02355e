"""Saving an agent into a folder and loading it: without pickle, and so that a training goes on from there exactly.

A folder holds what the agent is (`agent.json`), what it has learned (of a language policy
`heed.agents.persistence.saved_policy` writes it), and what it needs to go on: counters, random states, environments,
its parts, the log's next line. Of several ranks each has some of that for itself, in a folder of its own.
`heed.agents.persistence.checkpoint` is about the files.
"""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_wrapper

from heed.agents.device import available_device
from heed.agents.distributed.ranks import current
from heed.agents.exploration.intrinsic import IntrinsicRewardVecEnv
from heed.agents.persistence.as_json import argument_from_json, space_from_json, space_to_json
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
from heed.agents.persistence.saved_policy import HEADS, set_heads
from heed.agents.persistence.untrusted import as_checkpoint_error, check_agent, limited_parameters
from heed.agents.registry import ALGORITHMS
from heed.agents.rollouts.scaled_rewards import NormalizedRewards, ScaledRewardsVecEnv

if TYPE_CHECKING:
    from heed.agents.agent import LanguageAgent

Agent = TypeVar("Agent", bound="LanguageAgent")

OWN = "own.json"
"""The file of a rank's folder in a checkpoint that holds what `agent.json` holds of the first one."""

SHARED = "heed"
"""The folder beside an exported language model that holds the rest of its agent."""

NOT_SAVED = ("self", "policy", "env", "policy_kwargs", "_init_setup_model", "device", "verbose", "tensorboard_log")
"""Arguments of constructors that no checkpoint holds."""


# -- save --------------------------------------------------------------------------------------------------


def save_agent(agent: LanguageAgent, path: Path) -> None:
    """Do as `LanguageAgent.save`."""
    agent.ranks.assert_in_sync(agent.weights())
    agent.require_finite()
    own_files = agent.ranks.to_first({} if agent.ranks.is_first else _own_files(agent))

    def fill(folder: Path) -> None:
        _write(agent, folder)
        for rank, files in enumerate(own_files[1:], start=1):
            place = folder / _folder_of(rank)
            place.mkdir()
            for name, content in files.items():
                (place / name).write_bytes(content)

    agent.ranks.first(lambda: write_checkpoint(path, fill))
    # What was computed in earlier batches differs, in the last bit, from what a resumed training computes.
    agent.clear_cache()


def describe(agent: LanguageAgent) -> dict[str, Any]:
    """Return what `agent.json` says of an agent, be it in a training or exported."""
    return {
        "class": type(agent).__name__,
        "arguments": agent.hyperparameters,
        "action_space": space_to_json(agent.action_space),
        "n_envs": agent.n_envs,
        "counters": {name: getattr(agent, name) for name in agent.counters},
    }


def _write(agent: LanguageAgent, folder: Path) -> None:
    for part in agent.parts():
        if part.is_shared:
            part.write(folder)
    write_json(
        folder / "agent.json",
        {
            **describe(agent),
            **agent.write_learned(folder),
            **({"ranks": agent.ranks.count} if agent.ranks.several else {}),
            "episodes": [list(agent.ep_info_buffer or []), [float(s) for s in agent.ep_success_buffer or []]],
            **_write_own(agent, folder),
            "log": _pending_log(agent),
        },
    )


def _write_own(agent: LanguageAgent, folder: Path) -> dict[str, Any]:
    """Write what each of several ranks has of its own; return what JSON is to hold of it."""
    for part in agent.parts():
        if not part.is_shared:
            part.write(folder)
    for name, wrapper in _reward_wrappers(agent.env):
        write_tensors(folder / name, wrapper.get_tensors())
    random_numbers, random_tensors = get_random_state(agent.action_space)
    write_tensors(folder / "random.safetensors", random_tensors)
    return {
        "episode_starts": None if agent._last_episode_starts is None else agent._last_episode_starts.tolist(),
        "random": random_numbers,
        "envs": agent.get_env_state(),
    }


def _own_files(agent: LanguageAgent) -> dict[str, bytes]:
    """Return the same as files, for the first rank to write."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_json(folder / OWN, _write_own(agent, folder))
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _pending_log(agent: LanguageAgent) -> dict[str, Any]:
    """Return what the logger holds for its next line."""
    if not hasattr(agent, "_logger"):
        return {}
    return {
        name: (float(value), list(agent.logger.name_to_excluded[name]))
        for name, value in agent.logger.name_to_value.items()
        if np.isscalar(value) and not isinstance(value, str) and np.isfinite(value)
    }


# -- load --------------------------------------------------------------------------------------------------


def load(
    path: Path | str,
    env: Any = None,
    device: torch.device | str = "auto",
    base_model: str | None = None,
    **arguments: Any,
) -> LanguageAgent:
    """Load the agent of a checkpoint folder, or of one that `export` wrote, whichever algorithm trained it.

    The arguments are those of `LanguageAgent.load`.

    Raises:
        CheckpointFormatError: if the checkpoint is of another format.
        CheckpointError: if the checkpoint is missing, damaged or holds what it must not, naming the file, or is of an
            agent that is not registered.
        ValueError: if `env` has other actions than the agent.
    """
    folder = home_of(Path(path))
    verify_checkpoint(folder)
    saved = read_json(folder / "agent.json")
    # Of the registry: a name in a file is nothing to be looked up among all that there is.
    saved_class = saved.get("class") if isinstance(saved, dict) else None
    for algorithm in ALGORITHMS.values():
        if algorithm.class_name == saved_class:
            found: type[LanguageAgent] = algorithm.agent_class
            return _load_verified(found, folder, saved, env, device, base_model, arguments)
    raise CheckpointError(f"{folder / 'agent.json'} holds an agent of the unknown class {saved_class!r}.")


def load_agent(
    cls: type[Agent],
    path: Path,
    env: Any,
    device: torch.device | str,
    base_model: str | None,
    arguments: dict[str, Any],
) -> Agent:
    """Do as `LanguageAgent.load`."""
    folder = home_of(path)
    verify_checkpoint(folder)
    return _load_verified(cls, folder, read_json(folder / "agent.json"), env, device, base_model, arguments)


def home_of(folder: Path) -> Path:
    """Return where the files of an agent stand: of one that was exported in a folder of their own, else in `folder`."""
    return folder / SHARED if (folder / SHARED / "agent.json").is_file() else folder


def _load_verified(
    cls: type[Agent],
    folder: Path,
    saved: Any,
    env: Any,
    device: torch.device | str,
    base_model: str | None,
    arguments: dict[str, Any],
) -> Agent:
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
    check_agent(folder / "agent.json", saved, arguments=set(known) - set(NOT_SAVED), counters=frozenset(cls.counters))
    if env is not None and not saved.get("shared"):
        _require_as_many(folder, saved.get("ranks", 1), current().count)
    device = available_device(device)
    # What the caller changes may be wrong in ways of its own.
    reading = contextlib.nullcontext() if arguments else as_checkpoint_error(folder)
    with reading:
        own_arguments, observation_space, taken_env = cls.read_arguments(folder, saved, base_model)
        construct: Any = cls  # the mixin's constructor is the algorithm's
        agent: Agent = construct(
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
            _read_export(agent, folder, saved)
        else:
            _read(agent, folder, saved)
            if agent._last_obs is None:
                agent.running.interrupt()  # the environments could not be brought back
    return agent


def _read(agent: LanguageAgent, folder: Path, saved: dict[str, Any]) -> None:
    """Put the saved state into this newly made agent; the random states come last."""
    place = folder if agent.ranks.is_first else folder / _folder_of(agent.ranks.rank)
    own = saved if place == folder else read_json(place / OWN)
    agent.read_learned(folder, saved)
    for name, wrapper in _reward_wrappers(agent.env):
        if (place / name).is_file():
            wrapper.set_tensors(read_tensors(place / name))
    for name, value in saved["counters"].items():
        setattr(agent, name, value)
    infos, successes = saved["episodes"]
    agent.ep_info_buffer = deque(infos, maxlen=agent._stats_window_size)
    agent.ep_success_buffer = deque(successes, maxlen=agent._stats_window_size)
    if own["episode_starts"] is not None:
        agent._last_episode_starts = np.array(own["episode_starts"], dtype=bool)
    if agent.env is not None and own["envs"] is not None and saved["n_envs"] == agent.n_envs:
        agent._last_obs = agent.restore_envs(own["envs"])
    for part in agent.parts():
        part.read(folder if part.is_shared else place, saved)
    agent.not_yet_logged = saved["log"]
    set_random_state(agent.action_space, own["random"], read_tensors(place / "random.safetensors"))


def _read_export(agent: LanguageAgent, folder: Path, saved: dict[str, Any]) -> None:
    """Put back what `heed.agents.persistence.export` wrote; the language model came with the policy."""
    policy_agent: Any = agent  # nothing else is exported
    set_heads(policy_agent.language_policy, read_tensors(folder / HEADS), folder / HEADS)
    for name, value in saved["counters"].items():
        setattr(agent, name, value)
    for part in agent.parts():
        part.read_export(folder, saved)


def _folder_of(rank: int) -> str:
    """Return the name of the folder in a checkpoint that holds another rank's own files than the first one's."""
    return f"rank-{rank}"


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
