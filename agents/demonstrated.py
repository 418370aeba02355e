"""Whether an agent can read demonstrations: they hold all that its prompts are made of."""

from __future__ import annotations

from collections.abc import Sequence

from heed.envs.demonstrations import AUXILIARY, Demonstration, DemonstrationError
from heed.policies.layout import Beside


def require_readable(demonstrations: Sequence[Demonstration], beside: Beside) -> None:
    """Refuse demonstrations that lack what an agent reads, before any of them is read.

    Args:
        demonstrations: of any environment.
        beside: what the agent reads beside the words.

    Raises:
        DemonstrationError: in a sentence that says what is missing, and what to do.
    """
    expected: dict[str, tuple[int, ...] | None] = {
        "numbers": (beside.numbers,) if beside.numbers else None,
        "image": beside.image,
    }
    for episode in demonstrations:
        for key in AUXILIARY:
            shape, stored = expected[key], getattr(episode, key)
            if shape is None or (stored is not None and stored.shape[1:] == shape):
                continue
            there = "hold none" if stored is None else f"hold one of the shape {stored.shape[1:]}"
            raise DemonstrationError(
                f"The agent reads `{key}` of the shape {shape} beside the words, but the demonstrations {there}: "
                "record them anew with `heed demos`, or let the agent read the words alone (--words-only; in Python "
                "policy_kwargs={'words_only': True})."
            )
        if not beside.actions:
            continue
        if episode.admissible is None:
            raise DemonstrationError(
                "The agent's actions change from state to state, but the demonstrations do not list those that there "
                "were: record demonstrations of its environment with `heed demos`."
            )
        most = max(map(len, episode.admissible))
        if not 1 <= min(map(len, episode.admissible)) <= most <= beside.actions:
            raise DemonstrationError(
                f"The agent chooses from 1 to {beside.actions} actions, but a demonstration lists "
                f"{most if most > beside.actions else 0} in one state: record demonstrations of its environment with "
                "`heed demos`."
            )
