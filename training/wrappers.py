"""What `heed train` puts around its training environments, from its options."""

from __future__ import annotations

import functools
from typing import Any

from heed.training.options import TrainConfig, range_of_steps


def wrapping(config: TrainConfig) -> dict[str, Any]:
    """Return the arguments of `heed.envs.make` for the training's curriculum, limit and wrappers.

    Only the limit belongs to the environment, as its history does: evaluations have it too.
    """
    from heed.envs.wrappers.changing_instruction import ChangingInstruction
    from heed.envs.wrappers.sampling_weights import Curriculum
    from heed.envs.wrappers.sub_instructions import SubInstructionRewards

    wrappers: list[Any] = []
    if config.instruction_changes is not None:
        at = range_of_steps("--instruction-changes", config.instruction_changes)
        wrappers.append(functools.partial(ChangingInstruction, at=at))
    if config.sub_instruction_reward is not None:
        # Around the change: parts of an instruction that is not given yet bring nothing.
        wrappers.append(functools.partial(SubInstructionRewards, reward=config.sub_instruction_reward))
    curriculum = None if config.curriculum is None else Curriculum(scheme=config.curriculum)
    return {"max_steps": config.max_steps, "curriculum": curriculum, "wrappers": tuple(wrappers)}
