"""Does an environment keep the language contract? Checks that play it and say in words how to mend it.

`check_env` never raises for a broken environment: what goes wrong inside it becomes a failed check. Checks that
need what an earlier one found broken are left out.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

from heed.envs.contract import action_texts_of, require_action_texts, speaks_language
from heed.envs.make import UnknownEnvironmentError, make_plain_env, speaking
from heed.envs.verbalize import VerbalizedEnv

MAX_STEPS = 20_000
"""An episode that is longer counts as one that never ends."""

REPLAYED_STEPS = 1_000
"""So much of an episode is played again, to see whether the same seed gives the same."""

ACTION_SPACES = (spaces.Discrete, spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)
"""What SB3's algorithms can act in."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One rule, and whether the environment keeps it."""

    name: str
    passed: bool
    detail: str
    """What was seen."""
    mend: str = ""
    """How to mend it; empty where there is nothing to mend."""


@dataclass(kw_only=True)
class _Episode:
    """What was said and given in one episode."""

    words: list[tuple[str, str]]
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated


class _EpisodeError(Exception):
    """A failed check found in the midst of an episode."""

    def __init__(self, check: Check):
        super().__init__(check.detail)
        self.check = check


def check_env(
    env: str | Callable[[], gymnasium.Env[Any, Any]],
    *,
    episodes: int = 5,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
) -> list[Check]:
    """Play an environment with random actions and check the language contract.

    Args:
        env: an id (as for `heed.envs.make_env`), or a function that makes the environment.
        episodes: how many to play, each with a seed of its own; at least 2.
        seed: of the first episode; the others follow.
        max_steps: an episode that is longer counts as one that never ends.

    Returns:
        The checks in the order in which they were made. The environment keeps the contract if all passed.

    Raises:
        UnknownEnvironmentError: if no environment has this id.
        ValueError: if there are fewer than 2 episodes.
    """
    if episodes < 2:
        raise ValueError(f"episodes must be at least 2, to compare them, but is {episodes}.")
    make_plain = functools.partial(make_plain_env, env) if isinstance(env, str) else env
    # Some environments talk while they generate a level (BabyAI does).
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            plain = make_plain()
            if not isinstance(plain, gymnasium.Env):
                raise TypeError(f"it is no gymnasium.Env, but of the type {type(plain).__name__}")
            # A factory gives what it is asked to check; an id may stand for an environment without words.
            language_env = speaking(plain) if isinstance(env, str) else plain
            _ = language_env.observation_space, language_env.action_space  # Gymnasium gives no default
        except UnknownEnvironmentError:
            raise
        except Exception as error:
            return [_broken("can be made", error)]
        try:
            return list(_checks(language_env, make_plain, range(seed, seed + episodes), max_steps))
        finally:
            with contextlib.suppress(Exception):
                language_env.close()


def _checks(
    env: gymnasium.Env[Any, Any],
    make_plain: Callable[[], gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    max_steps: int,
) -> Iterator[Check]:
    words = f"in the words of {type(env.verbalizer).__name__}" if isinstance(env, VerbalizedEnv) else "as it is"
    yield Check(name="can be made", passed=True, detail=f"{type(env.unwrapped).__name__}, {words}")
    yield _check_gymnasium(make_plain)
    yield _check_observation_space(env)
    yield _check_actions(env)
    if not speaks_language(env) or not isinstance(env.action_space, ACTION_SPACES):
        return

    played: list[_Episode] = []
    try:
        for seed in seeds:
            played.append(_play(env, seed, max_steps))
            if not played[-1].ended:
                break
        again = _play(env, seeds[0], min(len(played[0].rewards), REPLAYED_STEPS))
    except _EpisodeError as fault:
        yield fault.check
        return
    steps = sum(len(episode.rewards) for episode in played)
    yield Check(name="reset and step", passed=True, detail=f"{len(played)} episodes, {steps} steps")
    yield _check_same_seed(played[0], again)
    yield _check_changing_words(played)
    yield _check_other_seeds(played)
    yield _check_ends(played, max_steps)
    if played[-1].ended:
        yield _check_one_end(played, env.spec.max_episode_steps if env.spec is not None else None)
        yield _check_success(played)


def _check_gymnasium(make_plain: Callable[[], gymnasium.Env[Any, Any]]) -> Check:
    """Let Gymnasium check a second instance without what is around it."""
    name = "Gymnasium's own check"
    try:
        plain = make_plain().unwrapped
        with contextlib.closing(plain):
            gymnasium_check_env(plain, skip_render_check=True, skip_close_check=True)
    except Exception as error:
        detail = str(error) if isinstance(error, AssertionError) else _told(error)
        return Check(
            name=name,
            passed=False,
            detail=detail,
            mend="Follow Gymnasium's interface: https://gymnasium.farama.org/api/env/",
        )
    return Check(name=name, passed=True, detail="nothing to complain of")


def _check_observation_space(env: gymnasium.Env[Any, Any]) -> Check:
    space = env.observation_space
    if not speaks_language(env):
        return Check(
            name="observation space",
            passed=False,
            detail=f"no Dict with the Text spaces `instruction` and `observation`, but {_short(space)}",
            mend="Set `self.observation_space = heed.envs.language_space()`, or put a `heed.envs.Verbalizer` "
            "around the environment: `VerbalizedEnv(MyVerbalizer(env))`.",
        )
    assert isinstance(space, spaces.Dict)
    return Check(name="observation space", passed=True, detail=", ".join(space.spaces))


def _check_actions(env: gymnasium.Env[Any, Any]) -> Check:
    name = "actions"
    space = env.action_space
    if not isinstance(space, ACTION_SPACES):
        names = ", ".join(kind.__name__ for kind in ACTION_SPACES)
        return Check(
            name=name,
            passed=False,
            detail=f"an action space that SB3 cannot act in: {_short(space)}",
            mend=f"Use one of {names}.",
        )
    if not isinstance(space, spaces.Discrete):
        return Check(name=name, passed=True, detail=f"{_short(space)}: needs no action texts")
    try:
        require_action_texts(env, space)
        texts = action_texts_of(env)
    except Exception as error:
        return Check(
            name=name,
            passed=False,
            detail=str(error),
            mend=f"Give it an attribute `action_texts`: a tuple of {space.n} different texts, one an action.",
        )
    return Check(name=name, passed=True, detail=", ".join(texts or ()))


def _play(env: gymnasium.Env[Any, Any], seed: int, max_steps: int) -> _Episode:
    """Play one episode with random actions.

    Raises:
        _EpisodeError: if `reset` or `step` raises, or returns what it should not.
    """
    env.action_space.seed(seed)
    result = _call("reset", env.reset, seed=seed)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise _fault(f"reset returned {_short(result)}", "Return `observation, info` from reset; info is a dict.")
    episode = _Episode(words=[_words("reset", env, result[0])], info=result[1])
    for _ in range(max_steps):
        result = _call("step", env.step, env.action_space.sample())
        if not (isinstance(result, tuple) and len(result) == 5 and isinstance(result[4], dict)):
            raise _fault(
                f"step returned {_short(result)}",
                "Return `observation, reward, terminated, truncated, info` from step; info is a dict.",
            )
        observation, reward, terminated, truncated, info = result
        if not (isinstance(reward, Real | np.number) and math.isfinite(float(reward))):
            raise _fault(f"step returned the reward {reward!r}", "Return a finite number as the reward.")
        if not all(isinstance(end, bool | np.bool_) for end in (terminated, truncated)):
            raise _fault(
                f"step returned terminated={terminated!r} and truncated={truncated!r}",
                "Return True or False for both.",
            )
        episode.words.append(_words("step", env, observation))
        episode.rewards.append(float(reward))
        if terminated or truncated:
            episode.terminated, episode.truncated = bool(terminated), bool(truncated)
            episode.info = info
            break
    return episode


def _call(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        raise _fault(f"{name} raised {_told(error)}", f"Correct the error in the environment's {name}.") from error


def _words(method: str, env: gymnasium.Env[Any, Any], observation: Any) -> tuple[str, str]:
    """Return the instruction and the observation, after a look whether they are as the space says."""
    space = env.observation_space
    assert isinstance(space, spaces.Dict)
    if not isinstance(observation, dict) or observation.keys() != space.spaces.keys():
        raise _fault(
            f"{method} returned the observation {_short(observation)}",
            f"Return a dict with the keys of the observation space: {', '.join(space.spaces)}.",
        )
    for key, part in space.spaces.items():
        if not part.contains(observation[key]):
            mend = f"Return what the space holds: {_short(part)}."
            if isinstance(part, spaces.Text):
                mend = "Return a string, and use `heed.envs.FreeText()` as the space: it holds any characters."
            raise _fault(f"{method} returned the {key} {_short(observation[key])}, not in the space", mend)
    instruction, words = observation["instruction"], observation["observation"]
    for key, text in (("instruction", instruction), ("observation", words)):
        if not text.strip():
            raise _fault(f"{method} returned an empty {key}", "Say something, if only `nothing`: the agent reads it.")
    return instruction, words


def _check_same_seed(first: _Episode, again: _Episode) -> Check:
    name = "same seed, same episode"
    steps = len(again.rewards)
    ends_differ = steps == len(first.rewards) and (first.terminated, first.truncated) != (
        again.terminated,
        again.truncated,
    )
    if (
        again.words == first.words[: steps + 1]
        and again.rewards == first.rewards[:steps]
        and steps == min(len(first.rewards), REPLAYED_STEPS)
        and not ends_differ
    ):
        return Check(name=name, passed=True, detail=f"{steps} steps, twice")
    differing = [index for index, (a, b) in enumerate(zip(first.words, again.words, strict=False)) if a != b]
    what = "the rewards or the ends differ"
    if differing:
        step = differing[0]
        what = f"at step {step}: {_short(' | '.join(first.words[step]))} and {_short(' | '.join(again.words[step]))}"
    return Check(
        name=name,
        passed=False,
        detail=f"the same seed and actions gave two episodes; {what}",
        mend="Call `super().reset(seed=seed)` first in reset, and draw all chance from `self.np_random`.",
    )


def _check_changing_words(played: Sequence[_Episode]) -> Check:
    name = "words follow the actions"
    seen = {words for episode in played for _, words in episode.words}
    if all(len({words for _, words in episode.words}) == 1 for episode in played):
        if all(len(episode.rewards) == 1 for episode in played):
            return Check(name=name, passed=True, detail="episodes of one step: nothing to follow")
        return Check(
            name=name,
            passed=False,
            detail=f"the observation stayed {_short(played[0].words[0][1])} through whole episodes",
            mend="Return what the agent perceives now, after its action.",
        )
    return Check(name=name, passed=True, detail=f"{len(seen)} different observations")


def _check_other_seeds(played: Sequence[_Episode]) -> Check:
    """Only tell: a level without chance is rare, but no fault."""
    beginnings = len({episode.words[0] for episode in played})
    instructions = len({episode.words[0][0] for episode in played})
    detail = f"{instructions} instructions and {beginnings} beginnings in {len(played)} episodes"
    if beginnings == 1 and len(played) > 1:
        detail += ": is chance missing, or drawn elsewhere than from `self.np_random`?"
    return Check(name="other seeds, other episodes", passed=True, detail=detail)


def _check_ends(played: Sequence[_Episode], max_steps: int) -> Check:
    name = "episodes end"
    if not played[-1].ended:
        return Check(
            name=name,
            passed=False,
            detail=f"an episode went on for more than {max_steps} steps",
            mend="Set `max_episode_steps` where the environment is registered, or end it in step.",
        )
    lengths = [len(episode.rewards) for episode in played]
    return Check(name=name, passed=True, detail=f"after {min(lengths)} to {max(lengths)} steps")


def _check_one_end(played: Sequence[_Episode], limit: int | None) -> Check:
    name = "one kind of end"
    both = [len(episode.rewards) for episode in played if episode.terminated and episode.truncated]
    # Gymnasium's own TimeLimit says so on the last allowed step, which no environment can help.
    if any(length != limit for length in both):
        return Check(
            name=name,
            passed=False,
            detail="terminated and truncated were both True on a last step",
            mend="Return truncated=True only where a limit cuts off an episode that could have gone on.",
        )
    terminated = sum(episode.terminated for episode in played)
    return Check(
        name=name,
        passed=True,
        detail=f"{terminated} terminated, {len(played) - terminated} truncated",
    )


def _check_success(played: Sequence[_Episode]) -> Check:
    name = "success is told"
    mend = (
        "Set `info['is_success']` to True or False on the last step, or simply on every step: a time limit "
        "(`max_episode_steps`) ends episodes that the environment itself would let go on."
    )
    for episode in played:
        if "is_success" not in episode.info:
            return Check(name=name, passed=False, detail="the last step's info had no `is_success`", mend=mend)
        if not isinstance(episode.info["is_success"], bool | np.bool_):
            detail = f"info['is_success'] was {_short(episode.info['is_success'])}"
            return Check(name=name, passed=False, detail=detail, mend=mend)
    successes = sum(bool(episode.info["is_success"]) for episode in played)
    return Check(name=name, passed=True, detail=f"random actions succeed in {successes} of {len(played)} episodes")


def _fault(detail: str, mend: str) -> _EpisodeError:
    return _EpisodeError(Check(name="reset and step", passed=False, detail=detail, mend=mend))


def _broken(name: str, error: Exception) -> Check:
    return Check(name=name, passed=False, detail=_told(error), mend="Correct this error in the environment's code.")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return textwrap.shorten(repr(text) if isinstance(value, str) else text, width=160, placeholder=" ...")
