"""Episodes with random actions, every answer of the environment looked at."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs.checks.check import BrokenRuleError, failed, short, told
from heed.envs.contract import ChangingActions, ContractError, check_admissible_actions, number_of, sample_action
from heed.envs.faults import FaultError
from heed.envs.vectorize.inspector import Inspector
from heed.envs.words.verbalize import VerbalizedEnv

PLAYING = "reset and step"
"""The check that what is wrong with an answer belongs to."""

ACTIONS = 0xAC7
"""Sets the draws of actions apart from the environment's own."""

_inspectors: WeakKeyDictionary[gymnasium.Env[Any, Any], Inspector] = WeakKeyDictionary()

Choose = Callable[[Mapping[str, Any]], Any]
"""A policy: from an observation to an action."""


@dataclass(kw_only=True)
class Episode:
    """What was said and given in one episode."""

    words: list[tuple[str, str]] = field(default_factory=list)
    """Instruction and observation at the beginning and after each step."""
    actions: list[tuple[str, ...]] = field(default_factory=list)
    """What could be done, where that changes."""
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    """Of the last step."""

    @property
    def ended(self) -> bool:
        """Whether it came to an end before the steps did."""
        return self.terminated or self.truncated

    @property
    def success(self) -> bool:
        """Whether it ended and says that it succeeded."""
        return self.ended and bool(self.info.get("is_success", False))


def play(env: gymnasium.Env[Any, Any], seed: int, max_steps: int, choose: Choose | None = None) -> Episode:
    """Play one episode.

    Args:
        env: a language environment.
        seed: of the episode, and of the random actions.
        max_steps: where to stop it.
        choose: chooses the actions; None draws them.

    Raises:
        BrokenRuleError: if `reset` or `step` raises, or returns what it should not.
    """
    generator = random_actions(env, seed)
    episode = Episode()
    observation, episode.info = reset(env, seed)
    _note(episode, observation)
    for _ in range(max_steps):
        action = sample_action(env.action_space, observation, generator) if choose is None else choose(observation)
        observation, reward, terminated, truncated, info = step(env, action)
        _note(episode, observation)
        episode.rewards.append(reward)
        if terminated or truncated:
            episode.terminated, episode.truncated, episode.info = terminated, truncated, info
            break
    return episode


def random_actions(env: gymnasium.Env[Any, Any], seed: int) -> np.random.Generator:
    """Return what draws an episode's actions, also from a space that draws by itself.

    Not from the seed alone: an environment draws its world from a generator with that very seed, and the first draws of
    the two would be the same. An action would hit the button that the environment has just chosen, each time.
    """
    generator = np.random.default_rng((seed, ACTIONS))
    env.action_space.seed(int(generator.integers(2**31)))
    return generator


def reset(env: gymnasium.Env[Any, Any], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reset an environment and look at what it returns.

    Raises:
        BrokenRuleError: if it raises, or returns what it should not.
    """
    result = _call("reset", env.reset, seed=seed)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise fault(f"reset returned {short(result)}", "Return `observation, info` from reset; info is a dict.")
    return _checked("reset", env, result[0]), result[1]


def step(env: gymnasium.Env[Any, Any], action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
    """Step an environment and look at what it returns.

    Raises:
        BrokenRuleError: if it raises, or returns what it should not.
    """
    result = _call("step", env.step, action)
    if not (isinstance(result, tuple) and len(result) == 5 and isinstance(result[4], dict)):
        raise fault(
            f"step returned {short(result)}",
            "Return `observation, reward, terminated, truncated, info` from step; info is a dict.",
        )
    observation, reward, terminated, truncated, info = result
    try:
        finite = math.isfinite(number := number_of(reward))
    except (TypeError, ValueError):
        finite = False
    if not finite:
        raise fault(f"step returned the reward {reward!r}", "Return a finite number as the reward.")
    if not all(isinstance(end, bool | np.bool_) for end in (terminated, truncated)):
        raise fault(
            f"step returned terminated={terminated!r} and truncated={truncated!r}",
            "Return True or False for both.",
        )
    return _checked("step", env, observation), number, bool(terminated), bool(truncated), info


def _note(episode: Episode, observation: Mapping[str, Any]) -> None:
    episode.words.append((observation["instruction"], observation["observation"]))
    if "actions" in observation:
        episode.actions.append(observation["actions"])


def _call(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        raise fault(f"{name} raised {told(error)}", f"Correct the error in the environment's {name}.") from error


def _checked(method: str, env: gymnasium.Env[Any, Any], observation: Any) -> dict[str, Any]:
    """Return an observation, after a look whether it is as the space says."""
    space = env.observation_space
    assert isinstance(space, spaces.Dict)
    if not isinstance(observation, dict) or not space.spaces.keys() <= observation.keys():
        raise fault(
            f"{method} returned the observation {short(observation)}",
            f"Return a dict with the keys of the observation space: {', '.join(space.spaces)}.",
        )
    if isinstance(env.action_space, ChangingActions):
        try:
            check_admissible_actions(observation["actions"], int(env.action_space.n))
        except ContractError as error:
            fix = "List under `actions` a tuple of different texts, one for each action that can be done now."
            raise fault(f"{method}: {error}", fix) from None
    inspector = _inspectors.get(env)
    if inspector is None:
        inspector = _inspectors[env] = Inspector(env)
    for key, part in space.spaces.items():
        try:  # as a training looks at it
            inspector.check_part(key, observation[key])
        except FaultError as error:
            fix = f"Return what the space holds: {short(part)}."
            if isinstance(part, spaces.Text):
                fix = "Return a string, and use `heed.envs.FreeText()` as the space: it holds any characters."
            detail = f"{method} returned the {key} {short(observation[key])}, not in the space: {error}"
            raise fault(detail, fix) from None
    for key in ("instruction", "observation"):
        if not observation[key].strip():
            raise fault(f"{method} returned an empty {key}", "Say something, if only `nothing`: the agent reads it.")
    return observation


def fault(detail: str, fix: str) -> BrokenRuleError:
    """Return the error of a broken answer."""
    return BrokenRuleError(failed(PLAYING, detail, fix))


@dataclass(kw_only=True)
class Silence:
    """Whether words stand still while the plain environment behind them moves."""

    changes: int = 0
    """Steps in which the plain observation changed."""
    unsaid: int = 0
    """Those of them in which the words stayed the same."""


@contextlib.contextmanager
def listening(env: gymnasium.Env[Any, Any]) -> Iterator[Silence]:
    """Count, while an environment with a verbalizer is played, which changes it puts into words."""
    silence = Silence()
    verbalized: Any = env
    while isinstance(verbalized, gymnasium.Wrapper) and not isinstance(verbalized, VerbalizedEnv):
        verbalized = verbalized.env
    if not isinstance(verbalized, VerbalizedEnv):
        yield silence
        return
    verbalizer: Any = verbalized.verbalizer
    describe = verbalizer.observation
    last: tuple[bytes, str] | None = None

    def observation(plain: Any) -> str:
        nonlocal last
        words: str = describe(plain)
        seen = _fingerprint(plain)
        if last is not None and last[0] != seen:
            silence.changes += 1
            silence.unsaid += last[1] == words
        last = (seen, words)
        return words

    own = vars(verbalizer).get("observation")
    verbalizer.observation = observation
    try:
        yield silence
    finally:
        del verbalizer.observation
        if own is not None:
            verbalizer.observation = own


def _fingerprint(value: Any) -> bytes:
    """Return bytes that differ where two plain observations do."""
    if isinstance(value, Mapping):
        return b"{" + b",".join(repr(key).encode() + _fingerprint(part) for key, part in value.items()) + b"}"
    if isinstance(value, tuple | list):
        return b"(" + b",".join(_fingerprint(part) for part in value) + b")"
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return repr(value).encode()
