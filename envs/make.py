"""From an environment's id, or the ids of a mixture, to language environments, one or a vector of them."""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from typing import Any

import gymnasium
import minigrid  # noqa: F401 - registers the MiniGrid and BabyAI ids
from stable_baselines3.common.vec_env import VecEnv

from heed.envs.contract import (
    ContractError,
    UnknownEnvironmentError,
    method_of,
    require_language_env,
    speaks_language,
)
from heed.envs.environment_file import EnvironmentFileError, names_file, spec_from_file, with_absolute_paths
from heed.envs.hold_out import HoldOutError, WithoutPhrases, checked_phrases, names_one_of
from heed.envs.vectorize import TIMEOUT, LanguageVecEnv, ProcessLanguageVecEnv, Transport
from heed.envs.words.verbalize import VerbalizedEnv, verbalizer_for
from heed.envs.wrappers.curriculum import CurriculumVecEnv
from heed.envs.wrappers.history import History
from heed.envs.wrappers.limits import StepLimit
from heed.envs.wrappers.mixture import Mixture, is_mixture, levels_of
from heed.envs.wrappers.sampling_weights import Curriculum

gymnasium.register(id="Heed/DeepSea-v0", entry_point="heed.envs.classic.deep_sea:DeepSea")
gymnasium.register(id="BabyAI-MixedTrainLocal-v0", entry_point="heed.envs.babyai.mixed_local:MixedTrainLocal")
gymnasium.register(id="BabyAI-GoToRelationLocal-v0", entry_point="heed.envs.babyai.relation_local:GoToRelationLocal")

WORLDS: dict[str, str] = {
    "ALE/": "heed.envs.worlds.atari.world",
    "FetchPickAndPlace": "heed.envs.worlds.robotics.world",
    "FetchPush": "heed.envs.worlds.robotics.world",
    "FetchReach": "heed.envs.worlds.robotics.world",
    "FetchSlide": "heed.envs.worlds.robotics.world",
    "Heed/Crafter": "heed.envs.worlds.crafter.world",
    "MiniWorld-": "heed.envs.worlds.miniworld.world",
    "PointMaze_": "heed.envs.worlds.robotics.world",
    "Heed/TextWorld": "heed.envs.worlds.textworld.world",
    "miniwob/": "heed.envs.worlds.miniwob.world",
}
"""Worlds whose libraries need not be installed: how their ids begin -> the module whose import registers these.

The module is imported when such an id is first asked for. Its folder is named as the extra that installs its library.
"""

ENTRY_POINT_GROUP = "heed.environments"
"""Packages name their environments in this entry point group: name = id pattern, value = module that registers them.

Gymnasium itself loads no entry points since 1.0.
"""
MakeWrapper = Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]]
"""Puts a wrapper around an environment. For processes an importable function, or a `functools.partial` of such."""

POOL_EPISODES = 64
"""Episodes from which the instructions of a level are collected."""

MOST_EPISODES = 1024
"""Episodes that are looked through for a phrase before it is said that none names it."""


def make_plain_env(env_id: str, *, render_mode: str | None = None, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Make an environment as Gymnasium does, or a mixture of language environments.

    Args:
        env_id: an id registered with Gymnasium, or `package.module:Id-v0` to import the module first, or
            `folder/file.py:Id-v0` to import the file (`heed.envs.environment_file`); or several joined by `+`, each
            with its weight after an `@` if need be, for a `heed.envs.wrappers.mixture.Mixture`.
        render_mode: as in `gymnasium.make`.
        kwargs: go to the environment.

    Raises:
        UnknownEnvironmentError: if no environment has this id, what it needs is not installed, or its file cannot be
            imported.
        ContractError: if levels of a mixture do not speak, or have different actions.
    """
    if is_mixture(env_id):
        return _make_mixture(env_id, render_mode=render_mode, **kwargs)
    if render_mode is not None:
        kwargs["render_mode"] = render_mode  # an environment that draws nothing need not take the argument
    try:
        import_world(env_id)
        which = spec_from_file(env_id) if names_file(env_id) else env_id
        return gymnasium.make(which, disable_env_checker=True, **kwargs)
    except EnvironmentFileError as error:
        raise UnknownEnvironmentError(str(error)) from error
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise UnknownEnvironmentError(
            f"Cannot import what {env_id!r} needs: {str(error).rstrip('.')}. {_how_to_install(env_id)}"
        ) from None
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        raise UnknownEnvironmentError(_unknown(env_id)) from error
    except gymnasium.error.Error as error:
        if not str(error).startswith("Malformed environment ID"):
            raise
        raise UnknownEnvironmentError(_unknown(env_id)) from error


def make_env(
    env_id: str,
    *,
    max_steps: int | None = None,
    hold_out: Sequence[str] = (),
    wrappers: Sequence[MakeWrapper] = (),
    history: int = 0,
    render_mode: str | None = None,
    **kwargs: Any,
) -> gymnasium.Env[Any, Any]:
    """Make one language environment.

    An environment that already speaks the contract is used as it is; any other gets its verbalizer.

    Args:
        env_id: as in `make_plain_env`.
        max_steps: truncate episodes that are longer (`heed.envs.StepLimit`). The environment's own limit stays, so this
            can only shorten; an argument of the same name, as MiniGrid's levels have it, does not go to them.
        hold_out: phrases such as "purple key": no instruction names one, whether it is the environment's or a wrapper's
            (`heed.envs.hold_out`).
        wrappers: put around the environment, the first one first, a mixture's around the mixture: functions of a
            language environment that return another, such as `functools.partial(SubInstructionRewards, reward=0.1)`.
        history: `length` of the `heed.envs.History` that shows past observations and actions too; 0 shows none.
        render_mode: as in `gymnasium.make`.
        kwargs: go to the environment.

    Raises:
        UnknownEnvironmentError: if no environment has this id, with close names.
        ContractError: if the environment breaks the static part of the contract.
        HoldOutError: if no instruction names a phrase that is to be held out, or all do.
        ValueError: if `history` is negative, or `max_steps` not positive.
    """
    if hold_out:
        require_hold_out(env_id, checked_phrases(hold_out), tuple(wrappers), **kwargs)
    if is_mixture(env_id):  # each level by itself: a mixture would draw another level in place of one that does not fit
        env = _make_mixture(env_id, max_steps=max_steps, hold_out=hold_out, render_mode=render_mode, **kwargs)
    else:
        plain = make_plain_env(env_id, render_mode=render_mode, **kwargs)
        # Within the verbalizer, which is then asked whether an episode that was cut succeeded.
        env = speaking(plain if max_steps is None else StepLimit(plain, max_steps))
        require_language_env(env)
        env = WithoutPhrases(env, hold_out) if hold_out else env
    for wrap in wrappers:
        env = wrap(env)
        require_language_env(env)
        env = WithoutPhrases(env, hold_out) if hold_out else env  # it may choose instructions of its own
    # Outermost, so that it remembers what the agent saw, whatever else changes that.
    return History(env, length=history) if history else env


def _make_mixture(
    env_id: str,
    *,
    max_steps: int | None = None,
    hold_out: Sequence[str] = (),
    render_mode: str | None = None,
    **kwargs: Any,
) -> gymnasium.Env[Any, Any]:
    """Make a mixture, whose phrases to hold out are checked already."""
    try:
        levels = levels_of(env_id)
    except ValueError as error:
        raise UnknownEnvironmentError(str(error)) from None
    envs = [make_env(level.env_id, max_steps=max_steps, render_mode=render_mode, **kwargs) for level in levels]
    return Mixture([WithoutPhrases(env, hold_out) if hold_out else env for env in envs], levels)


def speaking(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Return `env` as it is if it speaks, else with the verbalizer of its id around it."""
    if speaks_language(env):
        return env
    # The full id, also where the caller wrote `package.module:Id-v0` or left out the version.
    return VerbalizedEnv(verbalizer_for(env, env.unwrapped.spec.id if env.unwrapped.spec else ""))


def make(
    env_id: str,
    *,
    n_envs: int = 1,
    seed: int | None = None,
    first_index: int = 0,
    group_size: int = 1,
    processes: int = 1,
    transport: Transport | None = None,
    curriculum: Curriculum | None = None,
    max_steps: int | None = None,
    step_timeout: float | None = TIMEOUT,
    reset_timeout: float | None = TIMEOUT,
    max_lost: int | None = None,
    hold_out: Sequence[str] = (),
    wrappers: Sequence[MakeWrapper] = (),
    history: int = 0,
    render_mode: str | None = None,
    **kwargs: Any,
) -> VecEnv:
    """Make a vector of language environments, as SB3's algorithms take them.

    Args:
        env_id: as in `make_env`.
        n_envs: how many environments.
        seed: of their episodes; None draws one from the operating system.
        first_index: the index of the first environment, where these are a part of a larger vector: environment i of it
            has the same episodes in whatever part it is.
        group_size: so many episodes begin with the same seed, hence the same level and instruction, as group-relative
            learning needs them; `n_envs` is a multiple of it.
        processes: over how many processes they are spread; 1 keeps them in this one, which is fastest unless
            the environment itself is slow (more than about a millisecond a step).
        transport: how those processes are started and spoken to (`heed.envs.vectorize.Transport`); None for processes
            of this machine.
        curriculum: draw a mixture's levels, or the tasks of `heed.envs.Instructions`, by how they go; None draws by
            their weights.
        max_steps: as in `make_env`.
        step_timeout: seconds that a step may take before its episode is lost; None for any.
        reset_timeout: the same of a reset, or of making an environment.
        max_lost: episodes that environments may lose in a row, without one between them that came to its end, before it
            is an error; None for 10 for each environment, and at least 100.
        hold_out: as in `make_env`.
        wrappers: as in `make_env`; with `processes` importable functions, or partials of such.
        history: as in `make_env`.
        render_mode: as in `gymnasium.make`.
        kwargs: go to the environments.

    Raises:
        UnknownEnvironmentError, HoldOutError: as in `make_env`.
        ContractError: as in `make_env`; or if there is nothing that a curriculum could draw.
        ValueError: if `n_envs` or `processes` is not positive, there is a transport for one process, or `n_envs` or
            `first_index` no multiple of `group_size`; and as in `make_env`.
    """
    if transport is not None and processes == 1:
        raise ValueError("With processes=1 nothing is started that a transport could reach: give processes=2 or more.")
    if n_envs < 1 or processes < 1:
        raise ValueError(f"n_envs and processes must be at least 1, but are {n_envs} and {processes}.")
    if first_index < 0 or first_index % max(group_size, 1):
        raise ValueError(f"first_index is {first_index}, but must be a multiple of the group size {group_size}.")
    factory = functools.partial(
        make_env,
        with_absolute_paths(env_id),  # processes that start later may start in another folder
        max_steps=max_steps,
        hold_out=tuple(hold_out),
        wrappers=tuple(wrappers),
        history=history,
        render_mode=render_mode,
        **kwargs,
    )
    options: dict[str, Any] = {
        "seed": seed,
        "first_index": first_index,
        "group_size": group_size,
        "step_timeout": step_timeout,
        "reset_timeout": reset_timeout,
        "max_lost": max_lost,
    }
    venv: VecEnv
    if processes == 1:
        venv = LanguageVecEnv([factory] * n_envs, **options)
    else:
        venv = ProcessLanguageVecEnv(
            [factory] * n_envs, processes=min(processes, n_envs), transport=transport, **options
        )
    if curriculum is None:
        return venv
    try:
        return CurriculumVecEnv(venv, curriculum)
    except ContractError:
        venv.close()
        raise


@functools.lru_cache(maxsize=64)
def instruction_pool(env_id: str, *, episodes: int = POOL_EPISODES, **kwargs: Any) -> tuple[str, ...]:
    """Return the different instructions that a level gives in its first `episodes` seeds, sorted.

    Args:
        env_id: as in `make_env`.
        episodes: how many to reset.
        kwargs: go to the environment; they must be hashable, since pools are remembered.
    """
    env = make_env(env_id, **kwargs)
    found = {env.reset(seed=seed)[0]["instruction"] for seed in range(episodes)}
    env.close()
    return tuple(sorted(found))


@functools.lru_cache(maxsize=64)
def require_hold_out(
    env_id: str, phrases: tuple[str, ...], wrappers: tuple[MakeWrapper, ...] = (), **kwargs: Any
) -> None:
    """Check that an environment gives instructions with each of the phrases, and others without any.

    Args:
        env_id: as in `make_env`; of a mixture, each level is to give instructions without any of the phrases.
        phrases: that are to be held out.
        wrappers: as in `make_env`; what they say counts as well.
        kwargs: go to the environment; they must be hashable.

    Raises:
        HoldOutError: if no instruction names one of the phrases, or all of a level name some.
    """
    for level in levels_of(env_id):
        pool = instruction_pool(level.env_id, **kwargs)
        if all(names_one_of(phrases, instruction) for instruction in pool):
            raise HoldOutError(
                f"Without {', '.join(phrases)} nothing is left of {level.env_id}: every instruction names one of them, "
                f"such as {pool[0]!r}."
            )
    for phrase in phrases:
        told_by_wrappers = wrappers and names_one_of_all((phrase,), instructions_told(env_id, wrappers, **kwargs))
        if not told_by_wrappers and not gives_instruction_with((phrase,), env_id, **kwargs):
            raise HoldOutError(
                f"There is nothing to hold out: none of the first {MOST_EPISODES} instructions of {env_id} names "
                f"{phrase!r}. Is it written as in {instruction_pool(env_id, **kwargs)[0]!r}?"
            )


@functools.lru_cache(maxsize=64)
def instructions_told(env_id: str, wrappers: tuple[MakeWrapper, ...], **kwargs: Any) -> frozenset[str]:
    """Return the instructions that an environment with wrappers gives, or lists, in its first seeds."""
    env = make_env(env_id, wrappers=wrappers, **kwargs)
    found: set[str] = set()
    for seed in range(POOL_EPISODES):
        observation, info = env.reset(seed=seed)
        found |= {observation["instruction"], str(info.get("instruction", ""))}
        for name in ("possible_instructions", "impossible_instructions"):
            tell = method_of(env, name)
            found |= set(tell() if tell is not None else ())
    env.close()
    return frozenset(found)


def names_one_of_all(phrases: tuple[str, ...], instructions: Iterable[str]) -> bool:
    """Say whether one of some instructions names one of the phrases."""
    return any(names_one_of(phrases, instruction) for instruction in instructions)


@functools.lru_cache(maxsize=256)
def gives_instruction_with(phrases: tuple[str, ...], env_id: str, **kwargs: Any) -> bool:
    """Say whether one of the first instructions of an environment names one of the phrases."""
    if names_one_of_all(phrases, instruction_pool(env_id, **kwargs)):
        return True
    env = make_env(env_id, **kwargs)
    seeds = range(POOL_EPISODES, MOST_EPISODES)
    found = any(names_one_of(phrases, env.reset(seed=seed)[0]["instruction"]) for seed in seeds)
    env.close()
    return found


def _world_of(env_id: str) -> str | None:
    """Return the module that registers the ids of an optional world."""
    return next((module for beginning, module in WORLDS.items() if env_id.startswith(beginning)), None)


def import_world(env_id: str) -> None:
    """Import what registers an id: the module of an optional world, or what a package names in its entry points."""
    module = _world_of(env_id)
    if module is not None:
        importlib.import_module(module)
    elif env_id not in gymnasium.registry:
        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            if fnmatchcase(env_id, entry_point.name):
                entry_point.load()


def _how_to_install(env_id: str) -> str:
    module = _world_of(env_id)
    if module is None:
        return "Is it installed, and is the name spelt right?"
    extra = module.removesuffix(".world").rpartition(".")[2]
    return f"Install it with: pip install 'heed[{extra}]'"


def _unknown(env_id: str) -> str:
    name = env_id.rpartition(":")[2]
    close = difflib.get_close_matches(name, list(gymnasium.registry), n=3, cutoff=0.5)
    if not close:
        return (
            f"There is no environment {env_id!r}. Name one that Gymnasium has registered (such as "
            "BabyAI-GoToLocal-v0), or package.module:Id-v0 or folder/file.py:Id-v0 to import what registers it."
        )
    return f"There is no environment {env_id!r}. Did you mean {' or '.join(close)}?"
