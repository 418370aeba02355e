"""What `heed train` puts around its environments, from its options, and which of it evaluations have too."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium

from heed.training.errors import ConfigurationError
from heed.training.options import ALL_AUGMENTATIONS, TrainConfig, range_of_steps

if TYPE_CHECKING:
    from heed.envs.demonstrations.demonstrations import Demonstration
    from heed.envs.make import MakeWrapper

LOOKED_AT = 16
"""Episodes from whose instructions it is told which kinds can say them; in some worlds a reset takes a second."""


def wrapping(config: TrainConfig) -> dict[str, Any]:
    """Return the arguments of `heed.envs.make` for the training's curriculum, limit and wrappers.

    Only the limit belongs to the environment, as its history does: evaluations have it too, and of `--augment` the
    action to say that an instruction cannot be done (`wrappers_of_agent`).
    """
    from heed.envs.wrappers.changing_instruction import ChangingInstruction
    from heed.envs.wrappers.sampling_weights import Curriculum
    from heed.envs.wrappers.sub_instructions import SubInstructionRewards

    inner, outer = augmenting(augmentations_for(config.augment, config.env, **config.env_arguments))
    wrappers: list[Any] = [*inner]
    if config.instruction_changes is not None:
        at = range_of_steps("--instruction-changes", config.instruction_changes)
        wrappers.append(functools.partial(ChangingInstruction, at=at))
    if config.sub_instruction_reward is not None:
        # Around the change: parts of an instruction that is not given yet bring nothing.
        wrappers.append(functools.partial(SubInstructionRewards, reward=config.sub_instruction_reward))
    # Outermost: the others read instructions as the environment says them.
    wrappers += outer
    curriculum = None if config.curriculum is None else Curriculum(scheme=config.curriculum)
    return {"max_steps": config.max_steps, "curriculum": curriculum, "wrappers": tuple(wrappers)}


@functools.lru_cache(maxsize=64)
def augmentations_for(augment: tuple[str, ...], env_id: str, **arguments: Any) -> tuple[str, ...]:
    """Return the kinds that an environment has a use for: with "all" just these.

    Args:
        augment: as in the options of a training.
        env_id: as in `heed.envs.make_env`.
        arguments: go to the environment.

    Raises:
        ConfigurationError: if it has no use for one that was named.
        UnknownEnvironmentError, ContractError: if the environment cannot be used.
    """
    if not augment:
        return ()
    from heed.envs.contract import GIVE_TWO_PARTS, ContractError, method_of
    from heed.envs.make import instruction_pool, make_env
    from heed.envs.wording.kinds import IMPOSSIBLE, INJECTED, LONGER, NAMES, WORDINGS
    from heed.envs.wrappers.cannot_be_done import CannotBeDone

    pool = instruction_pool(env_id, episodes=LOOKED_AT, **arguments)
    env = make_env(env_id, **arguments)
    refused: dict[str, str] = {}
    for name, wording in WORDINGS.items():
        if not any(map(wording.applies, pool)):
            refused[name] = f"it cannot say {pool[0]!r}, which is not of BabyAI's grammar"
    if method_of(env, GIVE_TWO_PARTS) is None:
        refused[LONGER] = "the environment has no method `give_two_parts`, as BabyAI's levels have"
    try:
        CannotBeDone(env)
    except ContractError as error:
        refused[IMPOSSIBLE] = str(error)
    env.close()
    assert INJECTED not in refused  # which any environment can have
    names = NAMES if ALL_AUGMENTATIONS in augment else augment
    if ALL_AUGMENTATIONS not in augment:
        for name in names:
            if name in refused:
                raise ConfigurationError(f"--augment {name} is of no use in {env_id}: {refused[name].rstrip('.')}.")
    return tuple(name for name in names if name not in refused)


def augmenting(names: Sequence[str]) -> tuple[tuple[MakeWrapper, ...], tuple[MakeWrapper, ...]]:
    """Return the wrappers of a training for some kinds, those that stand innermost and those that stand outermost.

    Args:
        names: as `augmentations_for` returns them.
    """
    if not names:
        return (), ()
    from heed.envs.wording.augmented import Augmented
    from heed.envs.wording.kinds import IMPOSSIBLE, LONGER
    from heed.envs.wrappers.cannot_be_done import CannotBeDone
    from heed.envs.wrappers.two_parts import TwoParts

    inner: list[MakeWrapper] = [TwoParts] if LONGER in names else []
    # Around the change of an instruction midway: what cannot be done does not change.
    outer: list[MakeWrapper] = [CannotBeDone] if IMPOSSIBLE in names else []
    worded = tuple(name for name in names if name not in (LONGER, IMPOSSIBLE))
    if worded:
        outer.append(functools.partial(Augmented, names=worded))
    return tuple(inner), tuple(outer)


def offers_no_more_than_the_action(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Put the action to say that an instruction cannot be done around an environment, and no such instructions."""
    from heed.envs.wrappers.cannot_be_done import CannotBeDone

    return CannotBeDone(env, share=0)


def wrappers_of_agent(names: Sequence[str]) -> tuple[MakeWrapper, ...]:
    """Return what an agent's environments have in evaluations too: the action that it was trained with.

    Args:
        names: as `augmentations_for` returns them.
    """
    from heed.envs.wording.kinds import IMPOSSIBLE

    return (offers_no_more_than_the_action,) if IMPOSSIBLE in names else ()


def wrappers_to_label_in(names: Sequence[str]) -> tuple[MakeWrapper, ...]:
    """Return what stands around the environments in which an expert says what it would have done.

    These have no instructions that cannot be done: an expert knows that without looking, and would teach to guess.

    Args:
        names: as `augmentations_for` returns them.
    """
    from heed.envs.wording.kinds import IMPOSSIBLE

    inner, outer = augmenting([name for name in names if name != IMPOSSIBLE])
    return (*inner, *wrappers_of_agent(names), *outer)


def wrappers_of_run(trained: Mapping[str, Any]) -> tuple[MakeWrapper, ...]:
    """Return the same of a run, by its `config.json`."""
    return wrappers_of_agent(trained.get("augmentations") or ())  # a run of an earlier version has none


def reworded_demonstrations(names: Sequence[str], episodes: Sequence[Demonstration]) -> list[Demonstration]:
    """Return demonstrations with their instructions as an episode of their seed would say them.

    What else an episode may have is of the world in which it is played: what is recorded has no renamed words, no
    injected texts and no second parts.
    """
    from heed.envs.wording.augmented import EpisodeWording
    from heed.envs.wording.kinds import RENAMED, WORDINGS

    worded = [name for name in WORDINGS if name in names and name != RENAMED]
    found = []
    for episode in episodes:
        wording = EpisodeWording(episode.seed, worded, episode.instruction, episode.observations[0])
        found.append(dataclasses.replace(episode, instruction=wording.say(episode.instruction)))
    return found
