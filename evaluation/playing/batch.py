"""Plays the episodes of an evaluation, many side by side: of all environments, axes and policies in one batch.

Every episode has a seed of its own, which also seeds the draws of its actions, so it does not matter how many run side
by side. What an environment or somebody else's agent raises costs the episode, and after a number of those the rest
of its kind, but never the evaluation. An environment that hangs, or returns what it must not, has lost its episode too.

No more environments are open than episodes run side by side: one whose episode is over plays the next of its kind, and
is closed where there is none.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
import numpy as np

from heed.agents.acting import Policy
from heed.envs.contract import (
    SAID_CANNOT_BE_DONE,
    ExpertError,
    as_action,
    expert_of,
    require_language_env,
    success_of,
)
from heed.envs.demonstrations.demonstrate import Choose, MakeEnv, action_generator, most_steps
from heed.envs.detached import Detached
from heed.envs.vectorize.inspector import Inspector
from heed.envs.watchdog import TIMEOUT, Watchdog
from heed.envs.wrappers.history import History
from heed.evaluation.playing.episode import Episode, Missing

MAKING_FACTOR = 10
"""So many times as long may the making of an environment take, in which an axis looks at a level's first episodes."""

MOST_LOST = 10
"""Episodes of a cell that an environment may lose before the cell is given up."""


class MakesEnv(Protocol):
    """What an axis is to a cell: it makes the environments under a label of its own."""

    @property
    def label(self) -> str:
        """What the episodes call the axis."""

    def make_env(self, env_id: str) -> gymnasium.Env[Any, Any]:
        """Make a language environment."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Episodes of one kind: who plays what."""

    env: str
    axis: MakesEnv
    policy: Policy


@dataclass
class Played:
    """What was played, and what could not be."""

    episodes: list[Episode] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


def play(
    cells: Sequence[Cell],
    seeds: Sequence[int],
    *,
    history: int = 0,
    n_envs: int = 64,
    run: str = "",
    strict: bool = False,
    timeout: float | None = TIMEOUT,
    max_episode_steps: int | None = None,
    on_episode: Callable[[Cell], None] = lambda cell: None,
) -> Played:
    """Play one episode of each cell for each seed.

    Args:
        cells: the environments have the policies' actions.
        seeds: of the episodes.
        history: as in `heed.envs.make_env`, for what the policies read.
        n_envs: how many episodes run side by side; nothing depends on it but the time.
        run: the episodes' `run`.
        strict: raise what an environment or a policy raises, instead of going on without the episode.
        timeout: seconds that a reset or a step of an environment may take, as `heed.envs.watchdog` can tell; None for
            any.
        max_episode_steps: an episode that has not ended after so many is given up, and has failed; None as in
            `heed.envs.demonstrations.demonstrate.most_steps`.
        on_episode: is told of each episode that is over, or lost.

    Returns:
        The episodes in the order of cells and seeds, and what is missing of them.
    """
    stage = _Stage(
        cells,
        seeds,
        history=history,
        strict=strict,
        timeout=timeout,
        max_episode_steps=max_episode_steps,
        on_episode=on_episode,
    )
    waiting = stage.jobs()
    running = [game for game in (stage.begin_next(waiting) for _ in range(n_envs)) if game is not None]
    try:
        while running:
            actions = _choose(running)
            still_running = []
            for game, action in zip(running, actions, strict=True):
                if not stage.step(game, action):
                    still_running.append(game)
                    continue
                following = stage.begin_next(waiting)
                if following is not None:
                    still_running.append(following)
            running = still_running
    finally:
        stage.close(running)
    return stage.played(run)


def run_episodes(
    make_env: MakeEnv,
    choose: Choose,
    seeds: Sequence[int],
    *,
    n_envs: int = 32,
    max_episode_steps: int | None = None,
) -> list[Episode]:
    """Play one episode for each seed in one environment.

    Args:
        make_env: makes the language environment.
        choose: chooses the actions.
        seeds: of the episodes.
        n_envs: how many episodes run side by side.
        max_episode_steps: as in `play`.

    Returns:
        The episodes, in the order of `seeds`.

    Raises:
        Exception: whatever the environment or `choose` raises.
    """
    cell = Cell(env="", axis=_Made(make_env), policy=Policy(name="", choose=choose))
    return play([cell], seeds, n_envs=n_envs, strict=True, max_episode_steps=max_episode_steps).episodes


def success_rate(episodes: Sequence[Episode]) -> float:
    """Return the share of the episodes that succeeded."""
    return sum(episode.success for episode in episodes) / len(episodes)


@dataclass(frozen=True)
class _Made:
    """Makes one environment, whatever is asked for."""

    make: MakeEnv
    label: str = "true"

    def make_env(self, env_id: str) -> gymnasium.Env[Any, Any]:
        return self.make()


def _choose(running: Sequence[_Game]) -> list[Any]:
    """Return an action for each game, or what its policy raised; each policy is called once, for all of its games."""
    actions: list[Any] = [None] * len(running)
    members: dict[int, list[int]] = defaultdict(list)
    for index, game in enumerate(running):
        members[id(game.cell.policy)].append(index)
    for indices in members.values():
        games = [running[index] for index in indices]
        policy = games[0].cell.policy
        words = {key: [game.observation[key] for game in games] for key in games[0].observation}
        refused = policy.refused(words)
        if refused:
            for place, error in refused.items():
                actions[indices[place]] = error
            readable = [place for place in range(len(games)) if place not in refused]
            if not readable:
                continue
            indices, games = [indices[place] for place in readable], [games[place] for place in readable]
            words = {key: [values[place] for place in readable] for key, values in words.items()}
        try:
            chosen = policy.choose(words, [game.generator for game in games])
        except Exception as error:  # whatever somebody's agent raises
            if policy.own:
                raise
            chosen = np.array([error] * len(games), dtype=object)
        for index, game, action in zip(indices, games, chosen, strict=True):
            advice: Any = None
            try:
                advice = game.advice() if policy.asks_expert else None
            except Exception as error:  # whatever somebody's expert raises
                advice = error
            actions[index] = action if advice is None else advice
    return actions


class _Stage:
    """Begins and ends games, keeps environments to be used again, and notes what came of each."""

    def __init__(
        self,
        cells: Sequence[Cell],
        seeds: Sequence[int],
        *,
        history: int,
        strict: bool,
        timeout: float | None,
        max_episode_steps: int | None,
        on_episode: Callable[[Cell], None],
    ):
        self._max_episode_steps = max_episode_steps
        self._timeout, self._watchdog = timeout, Watchdog()
        self._cells, self._seeds, self._history = cells, seeds, history
        self._strict, self._on_episode = strict, on_episode
        self._episodes: dict[tuple[int, int], Episode] = {}
        self._lost: dict[int, Counter[str]] = defaultdict(Counter)
        self._kind: tuple[str, str] | None = None
        """Environment and axis of the episodes that are begun now."""
        self._idle: list[_Watched] = []
        """Environments of this kind that wait for the next episode."""

    def jobs(self) -> Iterator[tuple[int, int]]:
        """Yield (cell, seed) by their numbers, leaving out what is given up in the meantime."""
        for number, cell in enumerate(self._cells):
            if _kind_of(cell) != self._kind:
                self._close_idle()
                self._kind = _kind_of(cell)
            for place in range(len(self._seeds)):
                if self._lost[number].total() < MOST_LOST:
                    yield number, place
        self._close_idle()
        self._kind = None

    def begin_next(self, waiting: Iterator[tuple[int, int]]) -> _Game | None:
        """Begin the next episode that can be begun, if there is one."""
        for number, place in waiting:
            cell, seed = self._cells[number], self._seeds[place]
            env: _Watched | None = None
            try:
                env = self._idle.pop() if self._idle else self._make(cell)
                with self._watchdog:
                    return self._watchdog.call("reset", self._timeout, _Game.begin, env, cell, number, place, seed)
            except Exception as error:  # whatever somebody's environment raises
                self._lose(number, env, error)
        return None

    def _make(self, cell: Cell) -> _Watched:
        limit = None if self._timeout is None else MAKING_FACTOR * self._timeout
        with self._watchdog:
            made = self._watchdog.call("making an environment", limit, cell.axis.make_env, cell.env)
        try:
            return _Watched(made, self._history, self._max_episode_steps)
        except Exception:
            self._close(made)
            raise

    def step(self, game: _Game, action: Any) -> bool:
        """Act in a game; return whether it is over."""
        try:
            if isinstance(action, Exception):
                raise action
            with self._watchdog:
                episode = self._watchdog.call("step", self._timeout, game.step, action)
        except Exception as error:  # whatever somebody's environment raises
            self._lose(game.number, game.env, error)
            return True
        if episode is None:
            return False
        self._episodes[game.number, game.place] = episode
        if _kind_of(game.cell) == self._kind:
            self._idle.append(game.env)
        else:
            self._close(game.env)
        self._on_episode(game.cell)
        return True

    def _lose(self, number: int, env: _Watched | None, error: Exception) -> None:
        if self._strict:
            raise error
        self._lost[number][f"{type(error).__name__}: {error}"] += 1
        if env is not None:
            self._close(env)  # it may be broken: the next episode gets another
        self._on_episode(self._cells[number])

    def _close_idle(self) -> None:
        while self._idle:
            self._close(self._idle.pop())

    def _close(self, env: gymnasium.Env[Any, Any]) -> None:
        with contextlib.suppress(Exception), self._watchdog:  # what it raises matters to no episode
            self._watchdog.call("close", self._timeout, env.close)

    def close(self, running: Sequence[_Game]) -> None:
        """Close every environment."""
        for game in running:
            self._close(game.env)
        self._close_idle()

    def played(self, run: str) -> Played:
        """Return what came of it."""
        played = Played()
        for _, episode in sorted(self._episodes.items(), key=lambda item: item[0]):
            played.episodes.append(dataclasses.replace(episode, run=run) if run else episode)
        counts = Counter(number for number, _ in self._episodes)
        for number, cell in enumerate(self._cells):
            there = counts[number]
            if there < len(self._seeds):
                played.missing.append(
                    Missing(
                        env=cell.env,
                        axis=cell.axis.label,
                        policy=cell.policy.name,
                        episodes=len(self._seeds) - there,
                        reason=_reason(self._lost[number]),
                        run=run,
                    )
                )
        return played


def _reason(lost: Counter[str]) -> str:
    told = [f"{count} times {text}" if count > 1 else text for text, count in lost.most_common(3)]
    given_up = f" The rest was given up after {MOST_LOST} lost episodes." if lost.total() >= MOST_LOST else ""
    return f"Its episodes raised {'; '.join(told)}.{given_up}"


def _kind_of(cell: Cell) -> tuple[str, str]:
    return cell.env, cell.axis.label


class _Watched(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The environment as the policies read it, with an eye on whether what is seen changes."""

    def __init__(self, env: gymnasium.Env[Any, Any], history: int, max_episode_steps: int | None):
        require_language_env(env)
        self.most_steps = most_steps(env, max_episode_steps)
        self._seen = _Seen(Detached(env))
        super().__init__(History(self._seen, length=history) if history else self._seen)
        self.expert = expert_of(env)

    @property
    def changes(self) -> int:
        """Steps of the episode after which something else was seen."""
        return self._seen.changes


class _Seen(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Looks at what the environment gives: an observation or a reward that cannot be costs the episode."""

    changes = 0
    _newest = ""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self._inspector = Inspector(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self._inspector.check_reset(self.env.reset(seed=seed, options=options))
        self.changes, self._newest = 0, observation["observation"]
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        result = self._inspector.check_step(self.env.step(action))
        observation, reward, terminated, truncated, info = result
        self.changes += observation["observation"] != self._newest
        self._newest = observation["observation"]
        return observation, reward, terminated, truncated, info


@dataclass
class _Game:
    """An episode that is being played."""

    env: _Watched
    cell: Cell
    number: int
    place: int
    seed: int
    observation: Any
    instruction: str
    shown: str
    generator: np.random.Generator
    level: str = ""
    episode_return: float = 0.0
    length: int = 0
    lost_expert: bool = False

    @classmethod
    def begin(cls, env: _Watched, cell: Cell, number: int, place: int, seed: int) -> _Game:
        """Begin an episode."""
        observation, info = env.reset(seed=seed)
        return cls(
            env,
            cell,
            number,
            place,
            seed,
            observation,
            instruction=info.get("instruction", observation["instruction"]),
            shown=info.get("shown", observation["instruction"]),
            generator=action_generator(seed),
        )

    def advice(self) -> int | None:
        """Return the expert's action; None where it does not know, or has not been told what to do.

        Raises:
            ExpertError: if the environment has no expert.
        """
        if self.env.expert is None:
            raise ExpertError(f"{self.cell.env} has no expert: it has no method `expert_action`.")
        if self.lost_expert or self.observation["instruction"] != self.instruction:
            return None
        try:
            return int(self.env.expert())
        except ExpertError:
            self.lost_expert = True  # and acts at random from here on
            return None

    def step(self, action: Any) -> Episode | None:
        """Act; return the episode once it is over."""
        action = as_action(self.env.action_space, action)
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        self.episode_return += float(reward)
        self.length += 1
        finished = bool(terminated or truncated)
        if not finished and self.length < self.env.most_steps:
            return None
        return Episode(
            env=self.cell.env,
            axis=self.cell.axis.label,
            policy=self.cell.policy.name,
            seed=self.seed,
            instruction=self.instruction,
            shown=self.shown,
            success=finished and success_of(self.env, info),
            shown_success=info.get("shown_success"),
            episode_return=self.episode_return,
            length=self.length,
            activity=self.env.changes / self.length,
            level=info.get("level", ""),
            finished=finished,
            said_impossible=info.get(SAID_CANNOT_BE_DONE),
        )
