"""Playing episodes to record them: an expert acts, or somebody else while the expert says what it would have done.

Every episode has a seed of its own, which also seeds what is drawn in it, so it does not matter how many episodes run
side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from heed.envs.contract import ChangingActions, ExpertError, action_texts_of, expert_of, success_of
from heed.envs.demonstrations.demonstrations import Demonstration, DemonstrationError
from heed.envs.demonstrations.packed_array import PackedArray
from heed.envs.detached import Detached
from heed.envs.faults import FaultError
from heed.envs.vectorize.inspector import Inspector
from heed.envs.watchdog import TIMEOUT as TIMEOUT
from heed.envs.watchdog import Watchdog
from heed.envs.words.auxiliary import as_numbers
from heed.envs.wrappers.history import Transcript

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]
Words = dict[str, list[Any]]
"""A batch of language observations: strings, and auxiliary observations, by their keys."""
Choose = Callable[[Words, Sequence[np.random.Generator]], npt.NDArray[Any]]
"""Chooses an action for each of a batch of language observations; each has the generator of its episode."""
Refused = Callable[[Words], Mapping[int, Exception]]
"""Says which of a batch of language observations cannot be read, by place, and why."""


MOST_STEPS = 5_000
"""Steps after which an episode that is played, not trained in, is given up, where its environment names no limit."""

_ACTIONS = 0xAC710
"""Sets the draws of actions apart from those of the environment."""


def action_generator(seed: int) -> np.random.Generator:
    """Return what draws the actions of the episode with that seed.

    An environment makes its own generator from the very same seed (`env.np_random`). A policy that drew from another
    one of these would draw what the environment has drawn, and might find the goal without looking.
    """
    return np.random.default_rng((seed, _ACTIONS))


def most_steps(env: gymnasium.Env[Any, Any], asked: int | None = None) -> int:
    """Return after how many steps an episode is given up that has not ended: some environments never end one.

    Args:
        env: with a limit of its own (`spec.max_episode_steps`, or MiniGrid's `max_steps`) it is given no fewer.
        asked: how many it is to be in any case; None for `MOST_STEPS`.
    """
    if asked is not None:
        return asked
    declared = (env.spec.max_episode_steps if env.spec is not None else None, getattr(env.unwrapped, "max_steps", None))
    return max([MOST_STEPS, *(limit for limit in declared if isinstance(limit, int))])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one episode."""

    number: int
    """Of its seed among the seeds."""
    demonstration: Demonstration
    """The episode; up to where the expert gave up, if it did."""
    given_up: str | None
    """Why it is not whole: the expert did not know further, what was seen could not be read, or the episode did not
    end; None if it is."""
    ended: bool = True
    """Whether it had an end, be it the expert's; else it was given up after the most steps."""


def demonstrate(
    make_env: MakeEnv,
    seeds: Sequence[int],
    choose: Choose | None = None,
    *,
    expert_share: float | None = None,
    refused: Refused | None = None,
    history: int = 0,
    n_envs: int = 32,
    max_episode_steps: int | None = None,
    step_timeout: float | None = TIMEOUT,
    reset_timeout: float | None = TIMEOUT,
) -> Iterator[Outcome]:
    """Play one episode for each seed, and yield it as soon as it is over.

    Args:
        make_env: makes the language environment, without a history.
        seeds: of the episodes.
        choose: chooses the actions; None for the environment's expert.
        expert_share: with a `choose`, the probability with which the expert acts in its place, in each step anew; the
            expert's actions are recorded as labels. None does not ask the expert at all.
        refused: says which of a batch of observations `choose` cannot read; an episode that comes to one is given up.
        history: as in `heed.envs.make_env`, for what `choose` reads; what is recorded is without it.
        n_envs: how many episodes run side by side.
        max_episode_steps: an episode that has not ended after so many is given up; None as in `most_steps`.
        step_timeout: seconds that a step, or the expert's advice, may take; None for any.
        reset_timeout: the same of a reset.

    Raises:
        ExpertError: if the environment has no expert and one is needed.
        DemonstrationError: if its actions have no texts, or it changes its instruction within an episode.
        HangError: if it, or its expert, takes longer than it may.
    """
    ask = choose is None or expert_share is not None
    waiting = iter(enumerate(seeds))
    limits = _Limits(steps=max_episode_steps, step_seconds=step_timeout, reset_seconds=reset_timeout)
    games = [_Game(make_env(), ask=ask, history=history, limits=limits) for _ in range(min(n_envs, len(seeds)))]
    try:
        running = [game for game in games if game.begin(waiting)]
        while running:
            ready = []
            for game in running:
                while (given_up := game.consult(refused)) is not None:
                    yield game.outcome(given_up)
                    if not game.begin(waiting):
                        break
                else:
                    ready.append(game)
            if choose is None:
                actions = [game.label for game in ready]
            else:
                words: Words = {}
                for game in ready:
                    for key, value in game.read().items():
                        words.setdefault(key, []).append(value)
                chosen = choose(words, [game.generator for game in ready]) if ready else ()
                actions = [game.mix(action, expert_share) for game, action in zip(ready, chosen, strict=True)]
            running = []
            for game, action in zip(ready, actions, strict=True):
                over = game.step(int(action))
                if over or game.steps >= game.most_steps:
                    given_up = None if over else f"not over after {game.most_steps} steps"
                    yield game.outcome(given_up, ended=over)
                    if not game.begin(waiting):
                        continue
                running.append(game)
    finally:
        for game in games:
            game.env.close()


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """Of an episode."""

    steps: int | None
    step_seconds: float | None
    reset_seconds: float | None


class _Game:
    """An environment and the episode that is being played in it."""

    def __init__(self, env: gymnasium.Env[Any, Any], *, ask: bool, history: int, limits: _Limits):
        self.env = Detached(env)
        self.most_steps = most_steps(env, limits.steps)
        self._limits = limits
        self._ask = ask
        self._watchdog = Watchdog()
        self._inspector = Inspector(env)
        self._fault: str | None = None
        """What was wrong with the newest observation."""
        self._expert = expert_of(env)
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        if ask and self._expert is None:
            raise ExpertError(f"{name} has no expert: it has no method `expert_action`.")
        texts = () if isinstance(env.action_space, ChangingActions) else action_texts_of(env)
        if texts is None or not isinstance(env.action_space, spaces.Discrete):
            raise DemonstrationError(f"{name} has no action texts: only actions that have names can be recorded.")
        self._name, self._texts = name, texts
        self._transcript = Transcript(history) if history else None
        self._auxiliary = _auxiliary_of(env.observation_space)

    def begin(self, waiting: Iterator[tuple[int, int]]) -> bool:
        """Begin the next episode that waits; return whether there is one."""
        try:
            self._number, self._seed = next(waiting)
        except StopIteration:
            return False
        self.generator = action_generator(self._seed)
        self._mixing = np.random.default_rng((self._seed, 1))
        with self._watchdog:
            observation, _ = self._watchdog.call("reset", self._limits.reset_seconds, self.env.reset, seed=self._seed)
        self._fault = self._fault_of(observation)
        if self._fault is not None:
            observation = {"instruction": "", "observation": ""}
        self._observation = observation
        self._admissible: list[tuple[str, ...]] = [observation["actions"]] if "actions" in observation else []
        self.instruction: str = observation["instruction"]
        self._observations: list[str] = [observation["observation"]]
        self._actions: list[int] = []
        self._labels: list[int] = []
        self._rewards: list[float] = []
        self._arrays: dict[str, list[npt.NDArray[Any]]] = {key: [] for key in self._auxiliary}
        self._note_auxiliary()
        self._terminated = self._success = False
        self.text = self._transcript.begin(self._observations[0]) if self._transcript else self._observations[0]
        return True

    @property
    def steps(self) -> int:
        """Steps of the running episode so far."""
        return len(self._actions)

    def read(self) -> dict[str, Any]:
        """Return what `choose` reads of the present state."""
        return {**self._observation, "observation": self.text}

    def consult(self, refused: Refused | None) -> str | None:
        """Ask the expert, if it is asked at all; return why it gives up, or why nobody can read what it sees."""
        if self._fault is not None:
            return self._fault
        if self._ask:
            assert self._expert is not None
            try:
                with self._watchdog:
                    self.label = int(self._watchdog.call("expert_action", self._limits.step_seconds, self._expert))
            except ExpertError as error:
                return str(error)
        if refused is not None and (errors := refused({key: [value] for key, value in self.read().items()})):
            return str(errors[0])
        return None

    def mix(self, action: Any, expert_share: float | None) -> int:
        """Return the action, or with the probability `expert_share` the expert's."""
        if expert_share is None:
            return int(action)
        return self.label if self._mixing.random() < expert_share else int(action)

    def step(self, action: int) -> bool:
        """Act; return whether the episode is over."""
        with self._watchdog:
            result = self._watchdog.call("step", self._limits.step_seconds, self.env.step, action)
        observation, reward, terminated, truncated, info = result
        self._fault = self._fault_of(observation)
        if self._fault is not None:
            return False  # given up when it is consulted, with the steps before this one
        if observation["instruction"] != self.instruction:
            raise DemonstrationError(
                f"{self._name} changes its instruction within an episode, from {self.instruction!r} to "
                f"{observation['instruction']!r}: demonstrations hold one instruction for each episode."
            )
        if self._ask:
            self._labels.append(self.label)
        self._actions.append(action)
        self._rewards.append(float(reward))
        words = observation["observation"]
        self._observation = observation
        self._observations.append(words)
        self._note_auxiliary()
        texts = self._admissible[-1] if self._admissible else self._texts
        self.text = self._transcript.add(texts[action], words) if self._transcript else words
        if self._admissible:
            self._admissible.append(observation["actions"])
        if not (terminated or truncated):
            return False
        self._terminated, self._success = bool(terminated), success_of(self.env, info)
        return True

    def _note_auxiliary(self) -> None:
        """Keep copies of the present state's auxiliary observations: the environment may write into its arrays."""
        for key, copied in self._auxiliary.items():
            self._arrays[key].append(copied(self._observation[key]))

    def _fault_of(self, observation: Any) -> str | None:
        """Return what is wrong with an observation, if anything is: bad data costs its episode."""
        try:
            self._inspector.check_observation(observation)
        except FaultError as error:
            return str(error)
        return None

    def outcome(self, given_up: str | None, *, ended: bool = True) -> Outcome:
        """Return the episode as it was played."""
        by_expert = not self._ask or self._labels == self._actions
        demonstration = Demonstration(
            seed=self._seed,
            instruction=self.instruction,
            observations=tuple(self._observations),
            actions=tuple(self._actions),
            rewards=tuple(self._rewards),
            terminated=self._terminated,
            success=self._success,
            admissible=tuple(self._admissible) or None,
            labels=None if by_expert else tuple(self._labels),
            **{key: PackedArray.of(np.stack(arrays)) for key, arrays in self._arrays.items()},
        )
        return Outcome(number=self._number, demonstration=demonstration, given_up=given_up, ended=ended)


def _auxiliary_of(space: spaces.Space[Any]) -> dict[str, Callable[[Any], npt.NDArray[Any]]]:
    """Return the keys of the auxiliary observations that a policy can read, and what copies one of each.

    Others, such as a picture that is not of bytes, are read by `words_only` policies alone, which leave all out.
    """
    assert isinstance(space, spaces.Dict)
    numbers, image = space.spaces.get("numbers"), space.spaces.get("image")
    copies: dict[str, Callable[[Any], npt.NDArray[Any]]] = {}
    if isinstance(numbers, spaces.Box):
        copies["numbers"] = as_numbers
    if isinstance(image, spaces.Box) and image.dtype == np.uint8 and len(image.shape) == 3:
        copies["image"] = _as_bytes
    return copies


def _as_bytes(image: Any) -> npt.NDArray[np.uint8]:
    return np.array(image, dtype=np.uint8)
