"""`check_env`: all the checks in their order.

It never raises for a broken environment: what goes wrong inside it becomes a failed check. Checks that need what an
earlier one found broken are left out.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium
from gymnasium import spaces

from heed.envs.checks.check import BrokenRuleError, Check, failed, passed, told
from heed.envs.checks.declared import check_actions, check_gymnasium, check_observation_space
from heed.envs.checks.hooks import check_hooks
from heed.envs.checks.played import (
    check_admissible,
    check_changing_words,
    check_ends,
    check_instructions,
    check_one_end,
    check_other_seeds,
    check_same_seed,
    check_success,
    nothing_happened,
)
from heed.envs.checks.playing import PLAYING, Choose, Episode, listening, play
from heed.envs.checks.reading import Reader, check_keys, check_tokens
from heed.envs.checks.reward import check_reward
from heed.envs.contract import ACTION_SPACES, ChangingActions, UnknownEnvironmentError, action_texts_of, speaks_language
from heed.envs.detached import Detached
from heed.envs.make import make_plain_env, speaking
from heed.envs.words.verbalize import VerbalizedEnv

MAX_STEPS = 20_000
"""An episode that is longer counts as one that never ends."""

REPLAYED_STEPS = 1_000
"""So much of an episode is played again, to see whether the same seed gives the same."""

MORE_EPISODES = 40
"""Up to so many are played where those before were short, and nothing happened in them."""

REWARD_EPISODES = 20
"""So many are played at most to see whether the reward can be reached."""


def check_env(
    env: str | Callable[[], gymnasium.Env[Any, Any]],
    *,
    episodes: int = 5,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
    reward_episodes: int = REWARD_EPISODES,
    policy: Choose | None = None,
    reader: Reader | None = None,
) -> list[Check]:
    """Play an environment with random actions and check the language contract.

    Args:
        env: an id (as for `heed.envs.make_env`), or a function that makes the environment.
        episodes: how many to play, each with a seed of its own; at least 2.
        seed: of the first episode; the others follow.
        max_steps: an episode that is longer counts as one that never ends.
        reward_episodes: play up to so many, to see whether the reward can be reached.
        policy: chooses the actions of these, from an observation; None draws them.
        reader: how a language model reads: then tokens are checked too.

    Returns:
        The checks in the order in which they were made. The environment keeps the contract if all passed; a check
        that passed may hold a note.

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
            return [failed("can be made", told(error), "Correct this error in the environment's code.")]
        seeds = range(seed, seed + max(episodes, reward_episodes, MORE_EPISODES))
        checks: list[Check] = []
        try:
            checks += _declared(language_env, make_plain)
            if speaks_language(language_env) and isinstance(language_env.action_space, ACTION_SPACES):
                for check in _played(
                    Detached(language_env), seeds, episodes, reward_episodes, max_steps, policy, reader
                ):
                    checks.append(check)
        except BrokenRuleError as fault:
            checks.append(fault.check)
        finally:
            with contextlib.suppress(Exception):
                language_env.close()
        return checks


def _declared(env: gymnasium.Env[Any, Any], make_plain: Callable[[], gymnasium.Env[Any, Any]]) -> Iterator[Check]:
    words = f"in the words of {type(env.verbalizer).__name__}" if isinstance(env, VerbalizedEnv) else "as it is"
    yield passed("can be made", f"{type(env.unwrapped).__name__}, {words}")
    yield check_gymnasium(make_plain)
    yield check_observation_space(env)
    yield check_actions(env)


def _played(
    env: gymnasium.Env[Any, Any],
    seeds: Sequence[int],
    episodes: int,
    reward_episodes: int,
    max_steps: int,
    policy: Choose | None,
    reader: Reader | None,
) -> Iterator[Check]:
    """Yield the checks of played episodes.

    Raises:
        BrokenRuleError: if the environment breaks: then there are no more.
    """
    if isinstance(env.action_space, ChangingActions) != ("actions" in env.observation_space.spaces):  # type: ignore[attr-defined]
        return  # told already, and which of the two is meant nobody knows
    played: list[Episode] = []
    with listening(env) as silence:
        for seed in seeds:
            if len(played) >= episodes and not nothing_happened(played):
                break
            played.append(play(env, seed, max_steps))
            if not played[-1].ended:
                break
    again = play(env, seeds[0], min(len(played[0].rewards), REPLAYED_STEPS))
    steps = sum(len(episode.rewards) for episode in played)
    yield passed(PLAYING, f"{len(played)} episodes, {steps} steps")
    yield check_same_seed(played[0], again, REPLAYED_STEPS)
    if isinstance(env.action_space, ChangingActions):
        yield check_admissible(env, played, seeds[0])
    yield check_changing_words(played, silence)
    yield check_other_seeds(played)
    yield check_instructions(played)
    if reader is not None:
        assert isinstance(env.observation_space, spaces.Dict)
        yield check_keys(reader, env.observation_space)
        yield from check_tokens(reader, action_texts_of(env), played)
    yield check_ends(played, max_steps)
    if played[-1].ended:
        yield check_one_end(played, env.spec.max_episode_steps if env.spec is not None else None)
        success = check_success(played)
        yield success
        if success.passed:
            yield check_reward(env, played, seeds[:reward_episodes], max_steps=max_steps, choose=policy)
        yield from check_hooks(env, seeds[:episodes], max_steps)
