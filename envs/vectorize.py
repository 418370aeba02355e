"""Vectorised language environments: SB3 `VecEnv`s that carry words.

SB3's `DummyVecEnv` allocates its observations by shape and type, which a text has not. `LanguageVecEnv` hands
on `{"instruction": array of str, "observation": array of str, ...}`; `heed.policies.PromptVecEnv` turns these
into token ids, once per batch. `ProcessLanguageVecEnv` does the same with its environments spread over processes.

Every episode has a seed of its own, drawn from (seed, environment's index, number of the episode). So an
episode is the same however the environments are spread, and the state of a vectorised environment is small:
those numbers and the actions since. `get_state` and `set_state` use this to resume a training exactly.

With a `group_size` G, each G environments side by side share a row of seeds, in which each seed stands G times;
whichever of them ends its episode takes the next. So G episodes have the same level and instruction, begin close to
each other, and no environment waits for another. `info["episode_group"]` tells, on an episode's last step, which ones
belong together.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from traceback import format_exc
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
    fulfilled_instructions_of,
    require_language_env,
    success_of,
)

EnvFactory = Callable[[], gymnasium.Env[Any, Any]]
Observations = dict[str, npt.NDArray[Any]]
"""A batch of language observations: one array per key, the first axis runs over environments."""


def episode_seed(seed: int, env_index: int, episode: int) -> int:
    """Return the seed of one episode: the same for the same three numbers, unrelated for others."""
    return int(np.random.SeedSequence(seed, spawn_key=(env_index, episode)).generate_state(1)[0])


class LanguageVecEnv(VecEnv):
    """Language environments stepped one after the other in this process.

    Each is wrapped in SB3's `Monitor`, so `info["episode"]` is there as SB3's users know it. Observations at
    an episode's end are in `info["terminal_observation"]`, time limits in `info["TimeLimit.truncated"]`.

    Args:
        factories: make the environments; each must keep the language contract.
        seed: of the episodes; None draws one from the operating system. `VecEnv.seed` sets it anew.
        first_index: the index of the first environment, where these are a part of a larger vector; a multiple of
            `group_size`.
        group_size: episodes that begin with the same seed; the number of environments is a multiple of it.

    Raises:
        ContractError: if an environment breaks the static part of the language contract.
        ValueError: if the environments cannot be parted into groups.
    """

    def __init__(
        self,
        factories: Sequence[EnvFactory],
        *,
        seed: int | None = None,
        first_index: int = 0,
        group_size: int = 1,
    ):
        _check_group_size(len(factories), group_size)
        self.envs = [self._monitored(factory()) for factory in factories]
        first = self.envs[0]
        action_space = first.action_space
        texts = action_texts_of(first)
        if isinstance(action_space, spaces.Discrete) and texts is not None:
            action_space = TextActions(texts)
        super().__init__(len(self.envs), first.observation_space, action_space)
        self._keys = _keys_of(first.observation_space)
        self._discrete = isinstance(action_space, spaces.Discrete)
        self._first_index = first_index
        self.group_size = group_size
        self._episodes = [-1] * len(self.envs)
        self._history: list[list[Any]] = [[] for _ in self.envs]
        self._actions: npt.NDArray[Any] = np.empty(0)
        self._fulfilled: list[Callable[[], Mapping[str, float]]] | None = None
        self.seed(seed)

    @staticmethod
    def _monitored(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        require_language_env(env)
        return Monitor(env)

    def tell_fulfilled_instructions(self, told: bool = True) -> None:
        """Put into `info["fulfilled_instructions"]`, from the next reset on, what each step fulfilled; or stop that.

        Unless this is called, no environment is asked, and nothing is computed.

        Raises:
            ContractError: if an environment does not tell.
        """
        self._fulfilled = [fulfilled_instructions_of(env) for env in self.envs] if told else None

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed that the seeds of all coming episodes are drawn from; their count restarts."""
        self._seed = _drawn_seed() if seed is None else seed
        self._episodes = [-1] * self.num_envs
        return [self._seed] * self.num_envs

    def reset(self) -> Observations:
        """Begin a new episode in every environment; those of a group begin a new seed together."""
        size = self.group_size
        observations = []
        for index in range(self.num_envs):
            following = -(-self._following(index) // size) * size if index % size == 0 else self._following(index)
            observations.append(self._begin_episode(index, following))
        return stack_observations(self._keys, observations)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions for the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step every environment; one whose episode ends begins the next at once."""
        observations, infos = [], []
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        dones = np.zeros(self.num_envs, dtype=bool)
        for index in range(self.num_envs):
            observation, rewards[index], dones[index], info = self._step(index, self._actions[index])
            if dones[index]:
                info["terminal_observation"] = observation
                if self.group_size > 1:
                    info["episode_group"] = self._group_of_episode(index)
                observation = self._begin_episode(index, self._following(index))
            observations.append(observation)
            infos.append(info)
        return stack_observations(self._keys, observations), rewards, dones, infos

    def _following(self, index: int) -> int:
        """Return the number of the next episode in a group's row; the last one that was begun still runs."""
        first = index - index % self.group_size
        return max(self._episodes[first : first + self.group_size]) + 1

    def _group_of_episode(self, index: int) -> tuple[int, int]:
        """Return what the running episode has in common with those of the same seed, and with no others."""
        return (self._first_index + index) // self.group_size, self._episodes[index] // self.group_size

    def _begin_episode(self, index: int, episode: int) -> Any:
        self._episodes[index] = episode
        self._history[index] = []
        seed = episode_seed(self._seed, *self._group_of_episode(index))
        observation, self.reset_infos[index] = self.envs[index].reset(seed=seed)
        if self._fulfilled is not None:
            self._fulfilled[index]()
        return observation

    def _step(self, index: int, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        # The type of the space, so that numbers that went through JSON in a state give the very same step.
        action = int(action) if self._discrete else np.asarray(action, dtype=self.action_space.dtype)
        self._history[index].append(action if self._discrete else action.tolist())
        observation, reward, terminated, truncated, info = self.envs[index].step(action)
        done = bool(terminated or truncated)
        if done:
            # SB3 would pass over an episode that does not say, and count the success rate over the others only.
            success_of(self.envs[index], info)
        info["TimeLimit.truncated"] = bool(truncated and not terminated)
        if self._fulfilled is not None:
            info["fulfilled_instructions"] = dict(self._fulfilled[index]())
        return observation, float(reward), done, info

    def get_state(self) -> dict[str, Any]:
        """Return what `set_state` needs to bring the environments back to where they are (plain JSON)."""
        actions = [list(history) for history in self._history]
        return {"seed": self._seed, "episodes": list(self._episodes), "actions": actions}

    def set_state(self, state: dict[str, Any]) -> Observations:
        """Bring the environments to where they were at `get_state`, by playing the running episodes again.

        Returns:
            The observations at that point.

        Raises:
            ValueError: if the state is of another number of environments.
        """
        _check_state_size(state, self.num_envs)
        self._seed = state["seed"]
        observations = []
        for index, (episode, actions) in enumerate(zip(state["episodes"], state["actions"], strict=True)):
            observation = self._begin_episode(index, episode)
            for action in actions:
                observation, *_ = self._step(index, action)
            observations.append(observation)
        return stack_observations(self._keys, observations)

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()

    def get_images(self) -> Sequence[Any]:
        """Return each environment's picture (None where it draws none)."""
        return [env.render() for env in self.envs]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environments or their wrappers."""
        return [env.get_wrapper_attr(attr_name) for env in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environments or their wrappers."""
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


def stack_observations(keys: Sequence[str], observations: Sequence[Any]) -> Observations:
    """Stack single observations into one array per key; texts, and lists of actions, become arrays of `object`."""
    batch: Observations = {}
    for key in keys:
        values = [observation[key] for observation in observations]
        if isinstance(values[0], str | tuple):
            batch[key] = np.empty(len(values), dtype=object)
            batch[key][:] = values
        else:
            batch[key] = np.stack(values)
    return batch


def _keys_of(space: spaces.Space[Any]) -> list[str]:
    assert isinstance(space, spaces.Dict)  # the contract, which is checked where environments come in
    return list(space.spaces)


def _drawn_seed() -> int:
    """Return a seed from the operating system."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def _check_state_size(state: dict[str, Any], num_envs: int) -> None:
    if len(state["episodes"]) != num_envs:
        raise ValueError(f"The state is of {len(state['episodes'])} environments, but there are {num_envs}.")


def _check_group_size(num_envs: int, group_size: int) -> None:
    if group_size < 1 or num_envs % group_size:
        raise ValueError(f"{num_envs} environments cannot be parted into groups of {group_size}.")


def _is_wrapped(env: gymnasium.Env[Any, Any], wrapper_class: type[Any]) -> bool:
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, wrapper_class):
            return True
        env = env.env
    return False


class ProcessLanguageVecEnv(VecEnv):
    """Language environments spread over processes, for environments that are slow themselves.

    Every process holds a `LanguageVecEnv` of its share, so a message carries a share, not one environment.
    The episodes are those of one `LanguageVecEnv` with the same seed. What an environment raises is raised here
    as it is, with its type and words.

    Args:
        factories: make the environments; they are sent to the processes, so they must be importable functions
            (or `functools.partial`s of such).
        processes: how many to start; not more than environments, or groups of them.
        seed: as in `LanguageVecEnv`.
        group_size: as in `LanguageVecEnv`; a group stays in one process.

    Raises:
        ContractError: if an environment breaks the static part of the language contract.
        RuntimeError: if a process dies.
        ValueError: if the environments cannot be parted into groups.
    """

    def __init__(
        self, factories: Sequence[EnvFactory], *, processes: int, seed: int | None = None, group_size: int = 1
    ):
        _check_group_size(len(factories), group_size)
        self.group_size = group_size
        seed = _drawn_seed() if seed is None else seed
        shares = np.array_split(np.arange(len(factories)).reshape(-1, group_size), processes)
        self._shares: list[list[int]] = [share.flatten().tolist() for share in shares if len(share)]
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for share in self._shares:
            ours, theirs = context.Pipe()
            arguments = (theirs, [factories[index] for index in share], seed, share[0], group_size)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._closed = False
        try:
            observation_space, action_space = self._receive()[0]
        except BaseException:
            self.close()
            raise
        self._keys = _keys_of(observation_space)
        super().__init__(len(factories), observation_space, action_space)

    def _receive(self) -> list[Any]:
        """Take one answer from every process, and only then raise the first that is an error."""
        answers, errors = [], []
        for pipe in self._pipes:
            try:
                answer, told = pipe.recv()
            except (EOFError, ConnectionError):
                self.close()
                raise RuntimeError("An environment's process died (out of memory, or killed?).") from None
            answers.append(answer)
            if told is not None:
                errors.append((answer, told))
        for error, told in errors:
            raise error from RuntimeError(f"In the environment's process:\n{told}")
        return answers

    def _ask(self, method: str, arguments: Sequence[tuple[Any, ...]] | None = None) -> list[Any]:
        """Call `method` of the share in every process, with its own arguments, and return the answers."""
        self._send(method, arguments)
        return self._receive()

    def _send(self, method: str, arguments: Sequence[tuple[Any, ...]] | None = None) -> None:
        for pipe, given in zip(self._pipes, arguments or [()] * len(self._pipes), strict=True):
            with contextlib.suppress(ConnectionError):  # the process is dead, which `_receive` tells
                pipe.send((method, given))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed that the seeds of all coming episodes are drawn from."""
        seed = _drawn_seed() if seed is None else seed
        self._ask("seed", [(seed,)] * len(self._pipes))
        return [seed] * self.num_envs

    def tell_fulfilled_instructions(self, told: bool = True) -> None:
        """Have the environments tell what each step fulfilled; see `LanguageVecEnv.tell_fulfilled_instructions`."""
        self._ask("tell_fulfilled_instructions", [(told,)] * len(self._pipes))

    def reset(self) -> Observations:
        """Begin a new episode in every environment."""
        observations, infos = zip(*self._ask("_reset"), strict=True)
        self.reset_infos = _joined(infos)
        return self._join(observations)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Send the actions; the processes step while the caller may do something else."""
        self._send("step", [(np.asarray(actions)[share],) for share in self._shares])

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for every process's steps."""
        observations, rewards, dones, infos, reset_infos = zip(*self._receive(), strict=True)
        self.reset_infos = _joined(reset_infos)
        return self._join(observations), np.concatenate(rewards), np.concatenate(dones), _joined(infos)

    def _join(self, parts: Sequence[Observations]) -> Observations:
        return {key: np.concatenate([part[key] for part in parts]) for key in self._keys}

    def get_state(self) -> dict[str, Any]:
        """Return what `set_state` needs; the same as of a `LanguageVecEnv`."""
        states = self._ask("get_state")
        return {
            "seed": states[0]["seed"],
            "episodes": [episode for state in states for episode in state["episodes"]],
            "actions": [actions for state in states for actions in state["actions"]],
        }

    def set_state(self, state: dict[str, Any]) -> Observations:
        """Bring the environments to where they were at `get_state`; see `LanguageVecEnv.set_state`."""
        _check_state_size(state, self.num_envs)
        parts = []
        for share in self._shares:
            episodes, actions = ([state[key][index] for index in share] for key in ("episodes", "actions"))
            parts.append(({"seed": state["seed"], "episodes": episodes, "actions": actions},))
        return self._join(self._ask("set_state", parts))

    def close(self) -> None:
        """End the processes."""
        if self._closed:
            return
        self._closed = True
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            with contextlib.suppress(OSError):  # the process is gone already, which is what we want
                pipe.send(("close", ()))
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
            pipe.close()

    def get_images(self) -> Sequence[Any]:
        """Return each environment's picture (None where it draws none)."""
        return _joined(self._ask("get_images"))

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environments or their wrappers."""
        return self._ask_chosen("get_attr", indices, attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environments or their wrappers."""
        self._ask_chosen("set_attr", indices, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the environments or their wrappers."""
        return self._ask_chosen("env_method", indices, method_name, *args, **kwargs)

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        """Say for each environment whether `wrapper_class` is around it."""
        return self._ask_chosen("env_is_wrapped", indices, wrapper_class)

    def _ask_chosen(self, method: str, indices: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """Call a method of `LanguageVecEnv` that takes `indices`; the answers are in the order of these."""
        chosen = list(self._get_indices(indices))
        local = [[index - share[0] for index in share if index in chosen] for share in self._shares]
        answers = self._ask("_call", [(method, args, {**kwargs, "indices": part}) for part in local])
        if answers[0] is None:
            return []
        where = [index for index in range(self.num_envs) if index in chosen]
        answer_of = dict(zip(where, _joined(answers), strict=True))
        return [answer_of[index] for index in chosen]


def _joined(shares: Iterable[Iterable[Any]]) -> list[Any]:
    return [entry for share in shares for entry in share]


def _serve(pipe: Connection, factories: Sequence[EnvFactory], seed: int, first_index: int, group_size: int) -> None:
    """Run one process of a `ProcessLanguageVecEnv`: answer to each (method, arguments).

    An answer is (value, None) or (error, its traceback).
    """
    try:
        share = LanguageVecEnv(factories, seed=seed, first_index=first_index, group_size=group_size)
    except Exception as error:  # the parent raises it, whatever it is
        _send_error(pipe, error)
        return
    pipe.send(((share.observation_space, share.action_space), None))
    # The parent may have gone, and on Ctrl-C it tells the user itself.
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while True:
            method, arguments = pipe.recv()
            try:
                pipe.send((_answer(share, method, arguments), None))
            except Exception as error:  # also where the answer cannot be sent
                _send_error(pipe, error)
            if method == "close":
                return


def _answer(share: LanguageVecEnv, method: str, arguments: tuple[Any, ...]) -> Any:
    """Do what the parent asks for."""
    if method == "step":
        share.step_async(*arguments)
        return *share.step_wait(), share.reset_infos
    if method == "_reset":
        return share.reset(), share.reset_infos
    if method == "_call":
        name, args, kwargs = arguments
        return getattr(share, name)(*args, **kwargs)
    return getattr(share, method)(*arguments)


def _send_error(pipe: Connection, error: Exception) -> None:
    told = format_exc()
    try:
        type(error)(*error.args)  # as the other side will rebuild it, where it would be too late to fail
        pipe.send((error, told))
    except Exception:
        pipe.send((RuntimeError(f"{type(error).__name__}: {error}"), told))
