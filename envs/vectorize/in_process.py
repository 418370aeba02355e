"""Language environments stepped one after the other in one process; see `heed.envs.vectorize`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from heed.envs.contract import (
    TextActions,
    action_texts_of,
    as_action,
    fulfilled_instructions_of,
    require_language_env,
    success_of,
)
from heed.envs.detached import Detached
from heed.envs.faults import EPISODE_LOST, CalledOffError, FaultError, LostEpisode, LostEpisodes, TellsLosses
from heed.envs.seeds import episode_seed
from heed.envs.vectorize.episode_numbers import EpisodeNumbers, Group
from heed.envs.vectorize.inspector import Inspector, require_alike
from heed.envs.vectorize.reading import LosesUnreadable
from heed.envs.vectorize.requirements import check_timeouts, require_action, require_words
from heed.envs.vectorize.seeds import check_group_size, check_state_size, drawn_seed
from heed.envs.vectorize.stacking import Observations, keys_of, observation_at, stack_observations
from heed.envs.vectorize.workers.calls import CallBoard, CallKey, LossLog
from heed.envs.watchdog import TIMEOUT, Watchdog

EnvFactory = Callable[[], gymnasium.Env[Any, Any]]

OBSERVATION_UNKNOWN = "observation_unknown"
"""The key of a lost episode's `info` which says that its last observation could not be brought back either."""

ENVIRONMENT_REWARD = "environment_reward"
"""The key of an `info` that holds the reward as the environment gave it, whatever wrappers around make of it."""

CLOSE = "close"


class LanguageVecEnv(LosesUnreadable, TellsLosses, VecEnv):
    """Language environments stepped one after the other in this process.

    Each is wrapped in SB3's `Monitor`, so `info["episode"]` is there as SB3's users know it. Observations at
    an episode's end are in `info["terminal_observation"]`, time limits in `info["TimeLimit.truncated"]`.

    What an environment does wrong in `reset` or `step` costs its episode. The lost step is the episode's last, with the
    reward 0; `info["episode_lost"]` names the reason, and there is neither `info["episode"]` nor `info["is_success"]`.
    It counts as truncated, and `info["terminal_observation"]` is the observation before it. The environment is closed
    and made anew from its factory, and begins its next episode. A reset that fails is one lost episode more.

    Args:
        factories: make the environments; each must keep the language contract.
        seed: of the episodes; None draws one from the operating system. `VecEnv.seed` sets it anew.
        first_index: the index of the first environment, where these are a part of a larger vector; a multiple of
            `group_size`.
        group_size: episodes that begin with the same seed; the number of environments is a multiple of it.
        step_timeout: seconds that a step may take (`heed.envs.watchdog` says what can be interrupted); None for any.
        reset_timeout: seconds that a reset may take, or the making of an environment; None for any.
        max_lost: episodes that may be lost in a row, without one between them that came to its end; None for 10 for
            each environment, and at least 100. With 0 the first one ends the training.

    Raises:
        ContractError: if an environment breaks the static part of the language contract, or differs from the others in
            its spaces or action texts.
        HangError: if the making of an environment takes too long.
        ValueError: if the environments cannot be parted into groups, or a number cannot be.
    """

    def __init__(
        self,
        factories: Sequence[EnvFactory],
        *,
        seed: int | None = None,
        first_index: int = 0,
        group_size: int = 1,
        step_timeout: float | None = TIMEOUT,
        reset_timeout: float | None = TIMEOUT,
        max_lost: int | None = None,
    ):
        check_group_size(len(factories), group_size)
        check_timeouts(step_timeout, reset_timeout)
        self._log: LossLog = LostEpisodes(len(factories), max_lost)
        self._factories = list(factories)
        self._step_timeout, self._reset_timeout = step_timeout, reset_timeout
        self._watchdog = Watchdog()
        self.board: CallBoard | None = None
        """Is told of every call of an environment."""
        self.called_off: dict[CallKey, str] = {}
        """Calls that are not made, since they brought a process down before, each with the reason."""
        with self._watchdog:
            self.envs = [
                self._watchdog.call("making an environment", reset_timeout, self._monitored, factory)
                for factory in factories
            ]
        self._inspectors = [Inspector(env) for env in self.envs]
        for index, inspector in enumerate(self._inspectors):
            require_alike(inspector.promised, self._inspectors[0].promised, first_index + index, first_index)
        first = self.envs[0]
        action_space = first.action_space
        texts = action_texts_of(first)
        if isinstance(action_space, spaces.Discrete) and texts is not None:
            action_space = TextActions(texts)
        super().__init__(len(self.envs), first.observation_space, action_space)
        self._keys = keys_of(first.observation_space)
        self.first_index = first_index
        self.group_size = group_size
        self._numbers = EpisodeNumbers(len(self.envs), first_index=first_index, group_size=group_size)
        self._history: list[list[Any]] = [[] for _ in self.envs]
        self._actions: npt.NDArray[Any] = np.empty(0)
        self._observations: Observations = {}
        """Given last."""
        self._pending: dict[int, str] = {}
        """Environments whose running episode could not be brought back, with the reason: the next step tells."""
        self._broken: set[int] = set()
        """Environments that are to be made anew."""
        self._tells_fulfilled = False
        self._fulfilled: dict[int, Callable[[], Mapping[str, float]]] = {}
        self.seed(seed)

    @staticmethod
    def _monitored(factory: EnvFactory) -> gymnasium.Env[Any, Any]:
        env = factory()
        require_language_env(env)
        return Monitor(Detached(env))

    @property
    def _losses(self) -> LostEpisodes:
        assert isinstance(self._log, LostEpisodes)
        return self._log

    @property
    def episodes(self) -> list[int]:
        """The numbers of the running episodes."""
        return list(self._numbers.running)

    @property
    def running_groups(self) -> list[Group]:
        """The group of each running episode; no other group that has begun is still to have an episode."""
        return self._numbers.running_groups

    def draw_by(self, weights: Sequence[float]) -> None:
        """Have the environments draw what coming episodes are about by these weights (`set_weights`).

        All episodes of a seed are drawn alike: where one has begun, by the weights that it was drawn by.
        """
        self._numbers.weights = tuple(weights)

    @property
    def observations(self) -> Observations:
        """What the environments gave last."""
        return self._observations

    def log_losses_to(self, log: LossLog) -> None:
        """Have another log take in the losses from now on."""
        self._log = log

    def tell_fulfilled_instructions(self, told: bool = True) -> None:
        """Put into `info["fulfilled_instructions"]`, from the next reset on, what each step fulfilled; or stop that.

        Beside it, `info["environment_reward"]` is the reward, without what wrappers of the vector make of it.
        Unless this is called, no environment is asked, and nothing is computed.

        Raises:
            ContractError: if an environment does not tell.
        """
        self._tells_fulfilled = told
        self._fulfilled = {i: fulfilled_instructions_of(env) for i, env in enumerate(self.envs)} if told else {}

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed that the seeds of all coming episodes are drawn from; their count restarts."""
        self._seed = drawn_seed() if seed is None else seed
        self._numbers.restart()
        return [self._seed] * self.num_envs

    def reset(self) -> Observations:
        """Begin a new episode in every environment; those of a group begin a new seed together."""
        observations = []
        self._pending = {}
        with self._watchdog:
            for index in range(self.num_envs):
                observations.append(self._begin_episode(index, self._numbers.following_in_a_reset(index)))
        self._observations = stack_observations(self._keys, observations)
        return self._readable_beginning(self._observations)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions for the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step every environment; one whose episode ends begins the next at once.

        Raises:
            ContractError: if an environment ends an episode without `info["is_success"]`.
            TooManyLostEpisodesError: if it loses one episode after the other.
            ValueError: if there is no such action.
        """
        before, episodes = self._observations, self.episodes
        in_a_row = 0 if self._reader is None else self._losses.in_a_row
        observations, infos = [], []
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        dones = np.zeros(self.num_envs, dtype=bool)
        actions = [as_action(self.action_space, action) for action in self._actions]
        for index, action in enumerate(actions):
            if index not in self._pending:
                require_action(self.action_space, self._observations, index, action)
        with self._watchdog:
            for index, action in enumerate(actions):
                observation, rewards[index], dones[index], info = self._step(index, action)
                observations.append(observation)
                infos.append(info)
                if self._tells_fulfilled:
                    info[ENVIRONMENT_REWARD] = float(rewards[index])
        self._observations = stack_observations(self._keys, observations)
        result = self._observations, rewards, dones, infos
        return result if self._reader is None else self._readable_step(before, episodes, in_a_row, result)

    def _step(self, index: int, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        """Step one environment; at the episode's end, the observation is the next one's first."""
        if index in self._pending:  # the episode that is told of is over, and the next one has begun
            info = {OBSERVATION_UNKNOWN: True, **self._lost_info(index, self._pending.pop(index))}
            return observation_at(self._observations, index), 0.0, True, info
        try:
            observation, reward, terminated, truncated, info = self._act(index, action)
        except Exception as error:
            info = self._lost_info(index, self._lose(index, error))
            self._add_group(index, info)
            return self._begin_episode(index, self._numbers.following(index)), 0.0, True, info
        if not (terminated or truncated):
            return observation, reward, False, info
        # SB3 would pass over an episode that does not say, and count the success rate over the others only.
        success_of(self.envs[index], info)
        info["terminal_observation"] = observation
        self._add_group(index, info)
        self._log.note(None)
        return self._begin_episode(index, self._numbers.following(index)), reward, True, info

    def lose_running(self, faults: Mapping[int, Exception], *, pending: bool = False) -> Observations:
        """Lose the running episodes of some environments; see `heed.envs.vectorize.reading`."""
        observations = dict(self._observations)
        for key in self._keys if faults else ():
            observations[key] = observations[key].copy()
        with self._watchdog:
            for index, fault in faults.items():
                reason = self._lose(index, fault)
                if pending:
                    self._pending.setdefault(index, reason)
                begun = stack_observations(self._keys, [self._begin_episode(index, self._numbers.following(index))])
                for key in self._keys:
                    observations[key][index] = begun[key][0]
        self._observations = observations
        return observations

    def _lost_info(self, index: int, reason: str) -> dict[str, Any]:
        """Return what the learner is told of a lost episode, whose newest observation is its last."""
        info: dict[str, Any] = {
            EPISODE_LOST: reason,
            "TimeLimit.truncated": True,
            "terminal_observation": observation_at(self._observations, index),
        }
        return {**info, "fulfilled_instructions": {}} if self._tells_fulfilled else info

    def _add_group(self, index: int, info: dict[str, Any]) -> None:
        if self.group_size > 1:
            info["episode_group"] = self._numbers.group(index)

    def _seed_of_episode(self, index: int) -> int:
        return episode_seed(self._seed, *self._numbers.group(index))

    def _begin_episode(self, index: int, episode: int) -> Any:
        """Begin an episode, or the first one after it whose reset does not fail."""
        while True:
            try:
                return self._reset(index, episode)
            except Exception as error:
                self._lose(index, error)
                episode = self._numbers.following(index)

    def _reset(self, index: int, episode: int) -> Any:
        """Begin this very episode.

        Raises:
            Exception: whatever the environment raises, or `FaultError` for what it should not have returned.
        """
        weights = self._numbers.begin(index, episode)
        self._history[index] = []
        if index in self._broken:
            self._make_anew(index)
        if weights is not None:  # each time: one that was made anew knows nothing of them
            self.envs[index].get_wrapper_attr("set_weights")(weights)
        seed = self._seed_of_episode(index)
        result = self._call(index, "reset", self._reset_timeout, self.envs[index].reset, seed=seed)
        observation, self.reset_infos[index] = self._inspectors[index].check_reset(result)
        if self._tells_fulfilled:
            self._call(index, "fulfilled_instructions", self._step_timeout, self._fulfilled[index])
        return observation

    def _make_anew(self, index: int) -> None:
        made = self._call(index, "making an environment", self._reset_timeout, self._monitored, self._factories[index])
        try:
            inspector = Inspector(made)
            inspector.require_same(self._inspectors[index])
        except Exception:
            self._give_up(index, made)
            raise
        self.envs[index], self._inspectors[index] = made, inspector
        if self._tells_fulfilled:
            self._fulfilled[index] = fulfilled_instructions_of(made)
        self._broken.remove(index)

    def _act(self, index: int, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step one environment.

        Raises:
            Exception: whatever the environment raises, or `FaultError` for what it should not have returned.
        """
        self._history[index].append(action.tolist() if isinstance(action, np.ndarray) else action)
        result = self._call(index, "step", self._step_timeout, self.envs[index].step, action)
        observation, reward, terminated, truncated, info = self._inspectors[index].check_step(result)
        info["TimeLimit.truncated"] = truncated and not terminated
        if self._tells_fulfilled:
            fulfilled = self._call(index, "fulfilled_instructions", self._step_timeout, self._fulfilled[index])
            info["fulfilled_instructions"] = dict(fulfilled)
        return observation, reward, terminated, truncated, info

    def _call(
        self, index: int, what: str, limit: float | None, function: Callable[..., Any], *arguments: Any, **named: Any
    ) -> Any:
        """Call an environment, with a limit on the time."""
        if self.board is None:
            return self._watchdog.call(what, limit, function, *arguments, **named)
        call = index, self._numbers.running[index], len(self._history[index])
        if call in self.called_off and what != CLOSE:
            raise CalledOffError(self.called_off[call])
        self.board.begin(call, limit)
        try:
            return self._watchdog.call(what, limit, function, *arguments, **named)
        finally:
            self.board.end()

    def _lose(self, index: int, error: Exception) -> str:
        """Note that the running episode is lost, and give its environment up; return the reason."""
        lost = LostEpisode.of(
            error,
            env=self.first_index + index,
            seed=self._seed_of_episode(index),
            step=len(self._history[index]),
        )
        if index not in self._broken:
            self._broken.add(index)
            self._give_up(index, self.envs[index])
        self._log.note(lost, error)
        return lost.reason

    def _give_up(self, index: int, env: gymnasium.Env[Any, Any]) -> None:
        with contextlib.suppress(Exception):  # of an environment that is broken anyway
            self._call(index, CLOSE, self._reset_timeout, env.close)

    def get_state(self) -> dict[str, Any]:
        """Return what `set_state` needs to bring the environments back to where they are (plain JSON)."""
        return {**self.get_positions(), "lost": self._losses.get_state()}

    def get_positions(self) -> dict[str, Any]:
        """Return the same without the counts of lost episodes."""
        return {**self.get_numbers(), "seed": self._seed, "actions": [list(history) for history in self._history]}

    def get_numbers(self) -> dict[str, Any]:
        """Return only what follows from no seed and no action: the episodes' numbers, and what they are drawn by."""
        pending = [[index, reason] for index, reason in sorted(self._pending.items())]
        return {**self._numbers.get_state(), "pending": pending}

    def set_state(self, state: dict[str, Any]) -> Observations:
        """Bring the environments to where they were at `get_state`, by playing the running episodes again.

        An episode in which that fails is lost: its environment begins the next one, and the next step, whose action has
        no effect there, tells of the loss.

        Returns:
            The observations at that point.

        Raises:
            ValueError: if the state is of another number of environments.
        """
        check_state_size(state, self.num_envs)
        self._losses.set_state(state["lost"])
        return self._readable_beginning(self.set_positions(state), pending=True)

    def set_positions(self, state: dict[str, Any], expected: Observations | None = None) -> Observations:
        """Do the same with a state of `get_positions`.

        Args:
            state: of as many environments.
            expected: the observations that there were; an episode whose words come out differently is lost.
        """
        self.set_numbers(state)  # all at once: what is not begun again yet counts where the next number is sought
        observations = []
        with self._watchdog:
            for index, (episode, actions) in enumerate(zip(state["episodes"], state["actions"], strict=True)):
                try:
                    observation = self._play_again(index, episode, actions)
                    if expected is not None:
                        require_words(observation, expected, index)
                except Exception as error:
                    self._pending.setdefault(index, self._lose(index, error))
                    observation = self._begin_episode(index, self._numbers.following(index))
                observations.append(observation)
        self._observations = stack_observations(self._keys, observations)
        return self._observations

    def set_numbers(self, state: Mapping[str, Any]) -> None:
        """Take only the episodes' numbers from a state of `get_positions`, and what is still to be told."""
        self._seed = state["seed"]
        self._numbers.set_state(state)
        self._pending = dict(state["pending"])

    def _play_again(self, index: int, episode: int, actions: Sequence[Any]) -> Any:
        observation = self._reset(index, episode)
        for action in actions:
            # The type of the space, so that numbers that went through JSON in a state give the very same step.
            observation, _, terminated, truncated, _ = self._act(index, as_action(self.action_space, action))
            if terminated or truncated:
                raise FaultError("played again, the episode ended earlier: it does not follow from its seed")
        return observation

    def close(self) -> None:
        """Close every environment."""
        for index, env in enumerate(self.envs):
            if index not in self._broken:
                env.close()

    def get_images(self) -> Sequence[Any]:
        """Return each environment's picture (None where it draws none)."""
        return [env.render() for env in self.envs]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environments or their wrappers."""
        return [env.get_wrapper_attr(attr_name) for env in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environments or their wrappers; one that is made anew does not have it."""
        for env in self._chosen(indices):
            env.set_wrapper_attr(attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the environments or their wrappers."""
        return [env.get_wrapper_attr(method_name)(*args, **kwargs) for env in self._chosen(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        """Say for each environment whether `wrapper_class` is around it."""
        return [_is_wrapped(env, wrapper_class) for env in self._chosen(indices)]

    def _chosen(self, indices: Any) -> Iterable[gymnasium.Env[Any, Any]]:
        return (self.envs[index] for index in self._get_indices(indices))


def _is_wrapped(env: gymnasium.Env[Any, Any], wrapper_class: type[Any]) -> bool:
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, wrapper_class):
            return True
        env = env.env
    return False
