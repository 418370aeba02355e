"""Can the reward be reached? By random actions, or by a policy that somebody gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium

from heed.envs.checks.check import Check, passed
from heed.envs.checks.playing import Choose, Episode, play

STEPS = 5_000
"""After so many steps no further episode is begun."""


def check_reward(
    env: gymnasium.Env[Any, Any],
    played: Sequence[Episode],
    seeds: Sequence[int],
    *,
    max_steps: int,
    choose: Choose | None = None,
) -> Check:
    """Tell how often a policy succeeds; note where it never does, or all rewards are the same.

    Random actions are given up where they have succeeded: a rate from a few episodes says no more.

    Args:
        env: a language environment.
        played: episodes with random actions.
        seeds: of the episodes that may be played, `played` among them if `choose` is None.
        max_steps: of an episode.
        choose: the policy; None draws its actions.

    Raises:
        BrokenRuleError: if the environment breaks.
    """
    who = "random actions" if choose is None else "the given policy"
    episodes = list(played) if choose is None else []
    for seed in seeds[len(episodes) :]:
        if choose is None and any(episode.success for episode in episodes):
            break
        if sum(len(episode.rewards) for episode in episodes) >= STEPS:
            break
        episodes.append(play(env, seed, max_steps, choose))
    successes = sum(episode.success for episode in episodes)
    rewards = [reward for episode in episodes for reward in episode.rewards]
    returns = [sum(episode.rewards) for episode in episodes]
    detail = (
        f"{who} succeed{'' if choose is None else 's'} in {successes} of {len(episodes)} episodes; "
        f"rewards {min(rewards):.3g} to {max(rewards):.3g}, returns {min(returns):.3g} to {max(returns):.3g}"
    )
    note = ""
    if min(rewards) == max(rewards) and min(returns) == max(returns):
        note = "Every reward was the same, so there was nothing to learn from."
    elif not successes:
        note = "It never succeeded, so only what it earned on the way can be learned from."
    if note:
        note += " Make the task easier at first, reward the way to it, or begin with demonstrations (`heed demos`)."
    return passed("reward can be reached", detail, note=note)
