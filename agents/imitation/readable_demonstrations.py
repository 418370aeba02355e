"""Which demonstrations an agent can read: they hold all that its prompts are made of, and prompts can be made of it.

What is missing from a file is refused. Single episodes that no prompt can be made of are left out, and told.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from heed.envs.demonstrations.demonstrations import AUXILIARY, Demonstration, DemonstrationError
from heed.policies.modalities.modality import Modality
from heed.policies.prompts.prompt import PromptEncoder


def require_readable(demonstrations: Sequence[Demonstration], modalities: Sequence[Modality]) -> None:
    """Refuse demonstrations that lack what an agent reads besides the text, before any of them is read.

    Args:
        demonstrations: of any environment.
        modalities: what the agent reads besides the text.

    Raises:
        DemonstrationError: in a sentence that says what is missing, and what to do.
    """
    for episode in demonstrations:
        for modality in modalities:
            if modality.choices:
                _require_choices(episode, modality.choices)
                continue
            stored = getattr(episode, modality.key) if modality.key in AUXILIARY else None
            if stored is not None and stored.shape[1:] == modality.shape:
                continue
            there = "hold none" if stored is None else f"hold one of the shape {stored.shape[1:]}"
            raise DemonstrationError(
                f"The agent reads `{modality.key}` of the shape {modality.shape} besides the text, but the "
                f"demonstrations {there}: record them anew with `heed demos`, or let the agent read the words alone "
                "(--words-only; in Python policy_kwargs={'words_only': True})."
            )


def _require_choices(episode: Demonstration, most: int) -> None:
    """Refuse a demonstration that does not list the actions that there were, or more than an agent chooses from."""
    if episode.admissible is None:
        raise DemonstrationError(
            "The agent's actions change from state to state, but the demonstrations do not list those that there "
            "were: record demonstrations of its environment with `heed demos`."
        )
    listed = max(map(len, episode.admissible))
    if not 1 <= min(map(len, episode.admissible)) <= listed <= most:
        raise DemonstrationError(
            f"The agent chooses from 1 to {most} actions, but a demonstration lists {listed if listed > most else 0} "
            "in one state: record demonstrations of its environment with `heed demos`."
        )


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
        DemonstrationError: if there are some, but none that can be read; or as `require_readable`.
    """
    require_readable(demonstrations, encoder.layout.modalities)
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
