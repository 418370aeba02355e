"""Checks of episodes that were played with random actions: chance, words, ends, success."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from heed.envs.checks.check import Check, failed, passed, short
from heed.envs.checks.playing import Episode, Silence, reset
from heed.envs.contract import ChangingActions

FEW_STEPS = 20
"""In fewer steps at random an agent may have changed nothing."""


def nothing_happened(played: Sequence[Episode]) -> bool:
    """Say whether so few steps were taken, none of them with a consequence, that more should be played."""
    lengths = [len(episode.rewards) for episode in played]
    return max(lengths) > 1 and sum(lengths) < FEW_STEPS and not any(_words_changed(episode) for episode in played)


def _words_changed(episode: Episode) -> bool:
    return len({words for _, words in episode.words}) > 1


def check_same_seed(first: Episode, again: Episode, replayed_steps: int) -> Check:
    """Hold an episode against one that was played again with its seed, for at most `replayed_steps` steps."""
    name = "same seed, same episode"
    steps = len(again.rewards)
    ends_differ = steps == len(first.rewards) and (first.terminated, first.truncated) != (
        again.terminated,
        again.truncated,
    )
    same_words = again.words == first.words[: steps + 1] and again.actions == first.actions[: steps + 1]
    same_rewards = again.rewards == first.rewards[:steps]
    if same_words and same_rewards and steps == min(len(first.rewards), replayed_steps) and not ends_differ:
        return passed(name, f"{steps} steps, twice")
    what = "the rewards or the ends differ"
    for one, other in ((first.words, again.words), (first.actions, again.actions)):
        differing = [index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
        if differing:
            step = differing[0]
            what = f"at step {step}: {short(' | '.join(one[step]))} and {short(' | '.join(other[step]))}"
            break
    return failed(
        name,
        f"the same seed and actions gave two episodes; {what}",
        "Call `super().reset(seed=seed)` first in reset, and draw all chance from `self.np_random`.",
    )


def check_admissible(env: gymnasium.Env[Any, Any], played: Sequence[Episode], seed: int) -> Check:
    """Tell how many actions there were, and look whether one that is not listed is refused."""
    name = "actions change"
    assert isinstance(env.action_space, ChangingActions)
    most = int(env.action_space.n)
    lists = {actions for episode in played for actions in episode.actions}
    counts = sorted({len(actions) for actions in lists})
    listed = len(reset(env, seed)[0]["actions"])
    if listed < most:
        try:
            env.step(listed)
        except Exception:
            pass
        else:
            return failed(
                name,
                f"step({listed}) was taken, but the observation listed only {listed} actions, 0 to {listed - 1}",
                "Raise a ValueError in step for an action that the last observation does not list.",
            )
    detail = f"{len(lists)} different lists, of {counts[0]} to {counts[-1]} actions"
    note = ""
    if len(lists) == 1:
        note = "There was only one list: an environment with the same actions everywhere can name them `action_texts`."
    elif counts[-1] < most:
        note = f"No list had as many actions as `ChangingActions({most})` promises: are there states that have?"
    return passed(name, detail, note=note)


def check_changing_words(played: Sequence[Episode], silence: Silence) -> Check:
    """Look whether the words change when the agent acts."""
    name = "words follow the actions"
    seen = {words for episode in played for _, words in episode.words}
    if not any(map(_words_changed, played)):
        if all(len(episode.rewards) == 1 for episode in played):
            return passed(name, "episodes of one step: nothing to follow")
        stayed = f"the observation stayed {short(played[0].words[0][1])} through whole episodes"
        fix = "Return what the agent perceives now, after its action."
        steps = sum(len(episode.rewards) for episode in played)
        if steps < FEW_STEPS:
            note = f"Those were {steps} steps in all, in which nothing need have happened. {fix}"
            return passed(name, stayed, note=note)
        return failed(name, stayed, fix)
    note = ""
    if silence.unsaid * 2 > silence.changes:
        note = (
            f"In {silence.unsaid} of {silence.changes} steps that changed the environment's own observation, the words "
            "stayed as they were: does the verbalizer leave out, or round away, what an agent needs?"
        )
    return passed(name, f"{len(seen)} different observations", note=note)


def check_other_seeds(played: Sequence[Episode]) -> Check:
    """Only note where nothing differs: a level without chance is rare, but no fault."""
    beginnings = len({episode.words[0] for episode in played})
    note = ""
    if beginnings == 1 and len(played) > 1:
        note = "All episodes began alike: is chance missing, or drawn elsewhere than from `self.np_random`?"
    return passed("other seeds, other episodes", f"{beginnings} beginnings in {len(played)} episodes", note=note)


def check_instructions(played: Sequence[Episode]) -> Check:
    """Only note where the instruction never changes: an agent need not read it."""
    instructions = sorted({episode.words[0][0] for episode in played})
    note = ""
    if len(instructions) == 1:
        note = (
            "The instruction is always the same, so an agent learns to do without it. Give each episode its own to "
            "train an agent that follows instructions."
        )
    examples = ", ".join(short(instruction) for instruction in instructions[:2])
    return passed("instructions vary", f"{len(instructions)} in {len(played)} episodes: {examples}", note=note)


def check_ends(played: Sequence[Episode], max_steps: int) -> Check:
    """Look whether episodes come to an end."""
    name = "episodes end"
    if not played[-1].ended:
        return failed(
            name,
            f"an episode went on for more than {max_steps} steps",
            "Set `max_episode_steps` where the environment is registered, or end it in step.",
        )
    lengths = [len(episode.rewards) for episode in played]
    return passed(name, f"after {min(lengths)} to {max(lengths)} steps")


def check_one_end(played: Sequence[Episode], limit: int | None) -> Check:
    """Look whether `terminated` and `truncated` are used as Gymnasium means them."""
    name = "one kind of end"
    both = [len(episode.rewards) for episode in played if episode.terminated and episode.truncated]
    # Gymnasium's own TimeLimit says so on the last allowed step, which no environment can help.
    if any(length != limit for length in both):
        return failed(
            name,
            "terminated and truncated were both True on a last step",
            "Return truncated=True only where a limit cuts off an episode that could have gone on.",
        )
    terminated = sum(episode.terminated for episode in played)
    return passed(
        name, f"{terminated} terminated, {len(played) - terminated} truncated", note=_looks_like_a_limit(played)
    )


def _looks_like_a_limit(played: Sequence[Episode]) -> str:
    """Return a note where all failures end by the environment's rules, but after the same number of steps."""
    failures = Counter(len(episode.rewards) for episode in played if not episode.success)
    if len(failures) != 1 or not all(episode.terminated for episode in played if not episode.success):
        return ""
    ((length, count),) = failures.items()
    longest = max(len(episode.rewards) for episode in played)
    if count < 3 or length < 5 or length < longest:
        return ""
    return (
        f"All {count} failures ended as terminated after exactly {length} steps. If that is a time limit, end them as "
        "truncated (or leave it to `max_episode_steps`): learners then know that they could have gone on."
    )


def check_success(played: Sequence[Episode]) -> Check:
    """Look whether every episode says at its end whether it succeeded."""
    name = "success is told"
    fix = (
        "Set `info['is_success']` to True or False on the last step, or simply on every step: a time limit "
        "(`max_episode_steps`) ends episodes that the environment itself would let go on."
    )
    for episode in played:
        if "is_success" not in episode.info:
            return failed(name, "the last step's info had no `is_success`", fix)
        if not isinstance(episode.info["is_success"], bool | np.bool_):
            return failed(name, f"info['is_success'] was {short(episode.info['is_success'])}", fix)
    return passed(name, f"at the end of {len(played)} episodes")
