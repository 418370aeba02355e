"""`evaluate(agent, suite)`: held-out episodes over the axes of a suite, as plain data."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium

from heed.agents.acting import Policy, expert_policy, policies_of, random_policy
from heed.agents.agent import LanguageAgent
from heed.envs.contract import ContractError, UnknownEnvironmentError, action_texts_of, expert_of, require_language_env
from heed.envs.make import MakeWrapper
from heed.envs.watchdog import TIMEOUT, Watchdog
from heed.evaluation.axes import Axis, AxisDoesNotApplyError, axis
from heed.evaluation.names import EXPERT, RANDOM, TRUE
from heed.evaluation.playing.baselines import baseline_policy
from heed.evaluation.playing.batch import MAKING_FACTOR, Cell, MakesEnv, play
from heed.evaluation.playing.episode import Episode, Missing, held_out_seeds
from heed.evaluation.suites import Suite

if TYPE_CHECKING:
    import pandas


class OtherActionsError(ValueError):
    """An environment has other actions than the agent. The message names both."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Episodes, and what is missing of those that were to be played."""

    suite: str
    seed: int
    """Of the episodes."""
    episodes: tuple[Episode, ...]
    missing: tuple[Missing, ...]

    def records(self) -> list[dict[str, Any]]:
        """Return a plain dictionary for each episode."""
        return [episode.as_record() for episode in self.episodes]

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table with a row for each episode, and the names of `Episode` and `template` as columns.

        Raises:
            ModuleNotFoundError: if pandas is not installed, with what to install.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("Tables need pandas: pip install 'heed[pandas]'.", name=error.name) from None
        names = [*(part.name for part in dataclasses.fields(Episode)), "template"]
        return pandas.DataFrame(self.records(), columns=names)

    def __add__(self, other: Evaluation) -> Evaluation:
        """Put the episodes of two evaluations together, of several runs for instance."""
        return Evaluation(
            suite=self.suite,
            seed=self.seed,
            episodes=self.episodes + other.episodes,
            missing=self.missing + other.missing,
        )


def evaluate(
    agent: Any,
    suite: Suite,
    *,
    baselines: Mapping[str, Any] | None = None,
    references: bool = True,
    history: int = 0,
    max_steps: int | None = None,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    wrappers: Sequence[MakeWrapper] = (),
    max_episode_steps: int | None = None,
    timeout: float | None = TIMEOUT,
    n_envs: int = 64,
    run: str = "",
    on_plan: Callable[[int], None] = lambda episodes: None,
    on_episode: Callable[[Cell], None] = lambda cell: None,
) -> Evaluation:
    """Let an agent play the held-out episodes of a suite.

    Args:
        agent: an agent of `heed.agents`, which acts sampled and greedily; or anything that `baselines` may hold, which
            plays under the name "agent".
        suite: environments, axes and number of episodes.
        baselines: other policies to evaluate, by name: an object with SB3's `predict`, a function from one language
            observation to an action or an action's text, or a text-generation pipeline of `transformers`.
        references: let chance and the environments' experts play too, wherever the world is another one.
        history: as in `heed.envs.make_env`: the one that the agent was trained with.
        max_steps: as there.
        arguments: of environments' constructors, by the environment's id; an axis that makes a world with other
            arguments goes before them.
        wrappers: around every environment, as in `heed.envs.make_env`: what the agent's actions need, such as
            `heed.envs.CannotBeDone` with `share=0`.
        max_episode_steps: an episode that has not ended after so many steps is given up and has failed
            (`Episode.finished`); None for 5,000, or the environment's own limit where that is more.
        timeout: seconds that a reset or a step may take before the episode is lost; None for any.
        n_envs: episodes side by side; agents of `heed.agents` play the same episodes whatever it is.
        run: the name of the run that the agent comes from, where there are several.
        on_plan: is told how many episodes there are going to be.
        on_episode: is told of each that is over.

    Raises:
        TypeError: if something is to play that cannot.
    """
    seeds = held_out_seeds(suite.seed, suite.episodes)
    cells: list[Cell] = []
    missing: list[Missing] = []
    for env_id, members in itertools.groupby(suite.cells(), key=lambda cell: cell[0]):
        own = (arguments or {}).get(env_id, {})
        limited = functools.partial(_Limited, max_steps=max_steps, arguments=own, wrappers=tuple(wrappers))
        env, refused = _made(limited(axis(TRUE)), env_id)
        if env is not None:
            try:
                policies = _policies(agent, baselines or {}, env)
                has_expert = expert_of(env) is not None
            except OtherActionsError as error:
                refused = str(error)
        if env is None or refused:
            missing += [_nothing(env_id, one.label, len(seeds), refused, run) for _, one in members]
            continue
        referees = [random_policy(env.action_space)] if references else []
        if references and has_expert:
            referees.append(expert_policy(env.action_space))
        for _, one in members:
            changed, refused = _made(limited(one), env_id)
            if changed is not None and not _has_actions_of(env, changed):
                refused = (
                    f"The axis {one.label} changes the actions of {env_id}, from {_actions_of(env)} to "
                    f"{_actions_of(changed)}: the agent has the former."
                )
            if refused:
                missing.append(_nothing(env_id, one.label, len(seeds), refused, run))
                continue
            also = referees if one.label == TRUE or not one.same_world else []
            if references and not has_expert and also:
                missing.append(_no_expert(env_id, one.label, len(seeds), run))
            cells += [Cell(env=env_id, axis=limited(one), policy=policy) for policy in [*policies, *also]]
    on_plan(len(cells) * len(seeds))
    played = play(
        cells,
        seeds,
        history=history,
        n_envs=n_envs,
        run=run,
        max_episode_steps=max_episode_steps,
        timeout=timeout,
        on_episode=on_episode,
    )
    return Evaluation(
        suite=suite.name,
        seed=suite.seed,
        episodes=tuple(played.episodes),
        missing=(*missing, *played.missing),
    )


@dataclass(frozen=True)
class _Limited:
    """Makes the environments of an axis with arguments, wrappers, and a limit to their steps, if there are any."""

    axis: Axis
    max_steps: int | None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[MakeWrapper, ...] = ()

    @property
    def label(self) -> str:
        return self.axis.label

    def make_env(self, env_id: str) -> gymnasium.Env[Any, Any]:
        also: dict[str, Any] = {"max_steps": self.max_steps, "wrappers": self.wrappers}
        given = {name: value for name, value in also.items() if value}
        return self.axis.make_env(env_id, **given, **self.arguments)


def _policies(agent: Any, baselines: Mapping[str, Any], env: gymnasium.Env[Any, Any]) -> list[Policy]:
    """Return who plays an environment.

    Raises:
        OtherActionsError: if it has other actions than the agent.
        TypeError: if something cannot play.
    """
    own = isinstance(agent, LanguageAgent)
    if own:
        require_same_actions(agent, env)
    policies = list(policies_of(agent)) if own else [baseline_policy("agent", agent, env)]
    policies += [baseline_policy(name, baseline, env) for name, baseline in baselines.items()]
    names = [policy.name for policy in policies]
    for name in {*names, RANDOM, EXPERT}:
        if (*names, RANDOM, EXPERT).count(name) > 1:
            raise TypeError(f"Two policies are called {name!r}: give the baseline another name.")
    return policies


def require_same_actions(agent: LanguageAgent, env: gymnasium.Env[Any, Any]) -> None:
    """Refuse an environment that has other actions than the agent.

    Raises:
        OtherActionsError: in a sentence that names both.
    """
    theirs, ours = action_texts_of(env), getattr(agent.action_space, "texts", None)
    if theirs == ours if ours is not None else env.action_space == agent.action_space:
        return
    name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    raise OtherActionsError(
        f"The agent's actions are {list(ours) if ours else agent.action_space}, but those of {name} are "
        f"{_actions_of(env)}: evaluate it where it has the actions that it was trained with."
    )


def _has_actions_of(env: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any]) -> bool:
    return action_texts_of(env) == action_texts_of(other) and env.action_space == other.action_space


def _actions_of(env: gymnasium.Env[Any, Any]) -> Any:
    texts = action_texts_of(env)
    return list(texts) if texts else env.action_space


def _made(one: MakesEnv, env_id: str) -> tuple[gymnasium.Env[Any, Any] | None, str]:
    """Return an environment, closed, to see what it has; or None with the reason why it cannot be made.

    Whatever an axis raises, or an environment that it makes with its arguments, costs what was to be played of it.
    """
    watchdog = Watchdog()
    try:
        with watchdog:
            env = watchdog.call("making the environment", MAKING_FACTOR * TIMEOUT, one.make_env, env_id)
            require_language_env(env)
    except (AxisDoesNotApplyError, UnknownEnvironmentError, ContractError) as error:
        return None, str(error)
    except Exception as error:  # whatever somebody's axis or environment raises
        return None, f"It could not be made, with {type(error).__name__}: {error}"
    with contextlib.suppress(Exception), watchdog:
        watchdog.call("close", TIMEOUT, env.close)
    return env, ""


def _nothing(env_id: str, name: str, episodes: int, reason: str, run: str) -> Missing:
    return Missing(env=env_id, axis=name, policy="", episodes=episodes, reason=reason, run=run)


def _no_expert(env_id: str, name: str, episodes: int, run: str) -> Missing:
    reason = "The environment has no expert (no method `expert_action`): there is no ceiling to compare with."
    return Missing(env=env_id, axis=name, policy=EXPERT, episodes=episodes, reason=reason, run=run)
