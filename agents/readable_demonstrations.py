"""Demonstrations of which an agent can read every step: the others are left out, and told."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from heed.envs.demonstrations import Demonstration, DemonstrationError
from heed.policies.prompt import PromptEncoder


def readable(
    demonstrations: Sequence[Demonstration], encoder: PromptEncoder, *, history: int, texts: Sequence[str]
) -> list[Demonstration]:
    """Return the demonstrations whose words prompts can be made of, with a warning where that is not all.

    Args:
        demonstrations: that are to be learned from.
        encoder: of the agent.
        history: of the agent's observations.
        texts: of its actions, where they are always the same.

    Raises:
        DemonstrationError: if there are some, but none that can be read.
    """
    kept: list[Demonstration] = []
    reason = ""
    for demonstration in demonstrations:
        refused = encoder.refused(demonstration.read(history, texts))
        if refused:
            reason = reason or str(next(iter(refused.values())))
        else:
            kept.append(demonstration)
    if demonstrations and not kept:
        raise DemonstrationError(f"None of the {len(demonstrations)} demonstrations can be read: {reason}")
    if len(kept) < len(demonstrations):
        left_out = len(demonstrations) - len(kept)
        warnings.warn(
            f"{left_out} of {len(demonstrations)} demonstrations cannot be read, and are left out: {reason}",
            stacklevel=4,
        )
    return kept
