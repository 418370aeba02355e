"""Language environments spread over processes; see `heed.envs.vectorize`."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from heed.envs.contract import UnknownEnvironmentError, as_action
from heed.envs.faults import (
    EPISODE_LOST,
    LostEpisodes,
    LostEpisodeWarning,
    TellsLosses,
    TooManyLostEpisodesError,
)
from heed.envs.vectorize.episode_numbers import EpisodeNumbers, Group, joined_states, part_of_state
from heed.envs.vectorize.in_process import OBSERVATION_UNKNOWN, EnvFactory
from heed.envs.vectorize.inspector import require_alike
from heed.envs.vectorize.reading import LosesUnreadable
from heed.envs.vectorize.requirements import check_timeouts, require_action
from heed.envs.vectorize.seeds import check_group_size, check_state_size, drawn_seed
from heed.envs.vectorize.stacking import Observations, keys_of, observation_at
from heed.envs.vectorize.workers.likeness import WHAT_TO_DO, WorkerDiffersError, likenesses_here, require_as_here
from heed.envs.vectorize.workers.messages import CALL, CLOSE, LOSE, RESET, STEP, Answer, Request, ShareArguments
from heed.envs.vectorize.workers.pipes import PipeTransport
from heed.envs.vectorize.workers.registered import Registered
from heed.envs.vectorize.workers.supervised import SupervisedWorker
from heed.envs.vectorize.workers.transport import Transport
from heed.envs.watchdog import TIMEOUT

MOST_RESTARTS = 10
"""Times that a process may be started again for one answer."""

CLOSING = 5.0
"""Seconds in which processes may end by themselves."""


class ProcessLanguageVecEnv(LosesUnreadable, TellsLosses, VecEnv):
    """Language environments spread over processes, for environments that are slow themselves.

    Every process holds a `LanguageVecEnv` of its share, so a message carries a share, not one environment. All of them
    are told their actions before the first is waited for, so a step takes as long as the slowest share.

    The episodes are those of one `LanguageVecEnv` with the same seed, and so is what becomes of those that an
    environment's faults end. Beyond that, a process that does not answer in time is killed, and one that died is
    started again: the call that was going on there costs its episode, and the other episodes of that process are played
    again from their seeds and actions, and go on where they were. One that comes out differently then is lost too.

    Args:
        factories: make the environments; they are sent to the processes, so they must be importable functions
            (or `functools.partial`s of such). One environment of each different one is made in this process as well, to
            see that the others make the same.
        processes: how many to start; not more than environments, or groups of them.
        seed: as in `LanguageVecEnv`.
        first_index: as in `LanguageVecEnv`.
        group_size: as in `LanguageVecEnv`; a group stays in one process.
        step_timeout: as in `LanguageVecEnv`.
        reset_timeout: as in `LanguageVecEnv`.
        max_lost: as in `LanguageVecEnv`.
        transport: starts the processes and speaks to them; None for processes of this machine.

    Raises:
        ContractError: if an environment breaks the static part of the language contract.
        WorkerDiffersError: if a process makes other environments, or other words, than this one.
        HangError: if the making of an environment takes too long.
        RuntimeError: if a process dies before it has made its environments.
        ValueError: if the environments cannot be parted into groups, or a number cannot be.
    """

    def __init__(
        self,
        factories: Sequence[EnvFactory],
        *,
        processes: int,
        seed: int | None = None,
        first_index: int = 0,
        group_size: int = 1,
        step_timeout: float | None = TIMEOUT,
        reset_timeout: float | None = TIMEOUT,
        max_lost: int | None = None,
        transport: Transport | None = None,
    ):
        check_group_size(len(factories), group_size)
        check_timeouts(step_timeout, reset_timeout)
        self.first_index = first_index
        self.group_size = group_size
        self._log = LostEpisodes(len(factories), max_lost)
        self._tells_fulfilled = False
        self.restarts = 0
        """How often a process was started again."""
        shares = np.array_split(np.arange(len(factories)).reshape(-1, group_size), processes)
        seed = drawn_seed() if seed is None else seed
        self._seed = seed
        here = likenesses_here(factories)  # an unknown id or a broken contract is told here, before processes start
        registered = Registered.here()
        self._transport = PipeTransport() if transport is None else transport
        self._workers: list[SupervisedWorker] = []
        self._pending: set[int] = set()
        for share in shares:
            if len(share):
                indices = share.flatten().tolist()
                arguments = ShareArguments(
                    factories=[factories[index] for index in indices],
                    registered=registered,
                    seed=seed,
                    first_index=first_index + indices[0],
                    group_size=group_size,
                    step_timeout=step_timeout,
                    reset_timeout=reset_timeout,
                    max_lost=self._log.limit,
                )
                self._workers.append(SupervisedWorker(self._transport, arguments, indices))
        self._closed = False
        try:
            made = self._receive()
            require_as_here(here, _joined(likenesses for _, _, likenesses in made))
            (observation_space, action_space), *others = [promised for *promised, _ in made]
            ours = {"observation_space": observation_space, "action_space": action_space}
            for worker, promised in zip(self._workers[1:], others, strict=True):
                theirs = dict(zip(ours, promised, strict=True))
                require_alike(theirs, ours, first_index + worker.indices[0], first_index)
        except UnknownEnvironmentError as error:
            self.close()
            raise WorkerDiffersError(
                f"This process makes {here[0].environment}, but a worker process does not know it. {WHAT_TO_DO}"
            ) from error
        except BaseException:
            self.close()
            raise
        observation_space, action_space, _ = made[0]
        self._keys = keys_of(observation_space)
        self._observations: Observations = {}
        super().__init__(len(factories), observation_space, action_space)

    @property
    def _losses(self) -> LostEpisodes:
        return self._log

    @property
    def running_groups(self) -> list[Group]:
        """The group of each running episode; see `LanguageVecEnv.running_groups`."""
        numbers = EpisodeNumbers(self.num_envs, first_index=self.first_index, group_size=self.group_size)
        numbers.set_state(joined_states([worker.positions for worker in self._workers]))
        return numbers.running_groups

    def draw_by(self, weights: Sequence[float]) -> None:
        """Have the environments draw what coming episodes are about by these weights; see `LanguageVecEnv.draw_by`."""
        self._ask("draw_by", [(tuple(weights),)] * len(self._workers))

    @property
    def observations(self) -> Observations:
        """What the environments gave last."""
        return self._observations

    # -- asking --------------------------------------------------------------------------------------------

    def _ask(self, method: str, arguments: Sequence[tuple[Any, ...]] | None = None) -> list[Any]:
        """Call `method` of the share in every process, with its own arguments, and return the answers."""
        self._send(method, arguments)
        return self._receive()

    def _send(self, method: str, arguments: Sequence[tuple[Any, ...]] | None = None) -> None:
        for worker, given in zip(self._workers, arguments or [()] * len(self._workers), strict=True):
            worker.send(Request(method=method, arguments=given))

    def _receive(self) -> list[Any]:
        """Take one answer from every process, and only then raise the first that is an error."""
        answers: dict[int, Answer] = {}
        while len(answers) < len(self._workers):
            waiting = {worker.connection: n for n, worker in enumerate(self._workers) if n not in answers}
            patience = min(self._workers[number].patience for number in waiting.values())
            for connection in self._transport.wait(list(waiting), patience):
                number = waiting.pop(connection)
                try:
                    answer = self._workers[number].take()
                except (EOFError, OSError):
                    self._start_again(self._workers[number], hangs=False)
                else:
                    if answer is not None:
                        answers[number] = answer
            for number in waiting.values():
                if self._workers[number].hangs:
                    self._start_again(self._workers[number], hangs=True)
        return self._read([answers[number] for number in range(len(self._workers))])

    def _start_again(self, worker: SupervisedWorker, *, hangs: bool) -> None:
        """Start a process again that is dead, or does not answer.

        Raises:
            RuntimeError: if it had not even made its environments.
            TooManyLostEpisodesError: if that has been tried often enough.
        """
        call, reason = worker.end(hangs=hangs)
        if worker.restarts >= MOST_RESTARTS:
            self.close()
            raise TooManyLostEpisodesError(
                f"A process of environments was started again {MOST_RESTARTS} times for one answer, and never gave it. "
                f"What happened last: {reason}."
            )
        if not worker.start_again(call, reason):
            self.close()
            raise RuntimeError(
                f"{reason}, before it had made its environments (out of memory or killed; or a script that starts "
                "processes outside of `if __name__ == '__main__':`, or defines what makes the environments in there?)."
            )
        self.restarts += 1
        if call is None:
            warnings.warn(
                f"{reason}, while no environment was at work. It is started again, and its episodes go on.",
                LostEpisodeWarning,
                stacklevel=5,
            )

    def _read(self, answers: Sequence[Answer]) -> list[Any]:
        """Return the answers' values, after a look for losses and errors."""
        failure: Exception | None = None
        for answer in answers:
            for lost in answer.events:
                try:
                    self._log.note(lost)
                except TooManyLostEpisodesError as too_many:
                    failure = failure or too_many
        for answer in answers:
            if answer.error is not None and failure is None:
                raise answer.error from RuntimeError(f"In the environment's process:\n{answer.told}")
        if failure is not None:
            raise failure
        return [answer.value for answer in answers]

    # -- what a VecEnv does --------------------------------------------------------------------------------

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed that the seeds of all coming episodes are drawn from."""
        seed = drawn_seed() if seed is None else seed
        self._seed = seed
        self._ask("seed", [(seed,)] * len(self._workers))
        return [seed] * self.num_envs

    def tell_fulfilled_instructions(self, told: bool = True) -> None:
        """Have the environments tell what each step fulfilled; see `LanguageVecEnv.tell_fulfilled_instructions`."""
        self._ask("tell_fulfilled_instructions", [(told,)] * len(self._workers))
        self._tells_fulfilled = told

    def reset(self) -> Observations:
        """Begin a new episode in every environment."""
        observations, infos = zip(*self._ask(RESET), strict=True)
        self.reset_infos = _joined(infos)
        return self._readable_beginning(self._join(observations))

    @property
    def episodes(self) -> list[int]:
        """The numbers of the running episodes."""
        return _joined(worker.positions["episodes"] for worker in self._workers)

    def lose_running(self, faults: Mapping[int, Exception], *, pending: bool = False) -> Observations:
        """Lose the running episodes of some environments; see `heed.envs.vectorize.reading`."""
        shares = [
            ({place: faults[index] for place, index in enumerate(worker.indices) if index in faults}, pending)
            for worker in self._workers
        ]
        observations, infos = zip(*self._ask(LOSE, shares), strict=True)
        self.reset_infos = _joined(infos)
        return self._join(observations)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Send the actions; the processes step while the caller may do something else.

        Raises:
            ValueError: if there is no such action.
        """
        taken = [as_action(self.action_space, action) for action in actions]
        self._pending = {index for index, _ in self._untold_reasons()}
        for index, action in enumerate(taken):
            if index not in self._pending:
                require_action(self.action_space, self._observations, index, action)
        self._send(STEP, [([taken[index] for index in worker.indices],) for worker in self._workers])

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for every process's steps."""
        before, episodes, in_a_row = self._observations, self.episodes, self._losses.in_a_row
        answers = self._receive()
        for worker, (_, _, _, infos, _, _) in zip(self._workers, answers, strict=True):
            for index, info in zip(worker.indices, infos, strict=True):
                # A process that was started again may not have come to what was seen before, but here it is known.
                if worker.revived and EPISODE_LOST in info and index not in self._pending:
                    info.pop(OBSERVATION_UNKNOWN, None)
                    info["terminal_observation"] = observation_at(self._observations, index)
        observations, rewards, dones, infos, reset_infos, _ = zip(*answers, strict=True)
        self.reset_infos = _joined(reset_infos)
        result = self._join(observations), np.concatenate(rewards), np.concatenate(dones), _joined(infos)
        return result if self._reader is None else self._readable_step(before, episodes, in_a_row, result)

    def _join(self, parts: Sequence[Observations]) -> Observations:
        for worker, part in zip(self._workers, parts, strict=True):
            worker.observations = part
        self._observations = {key: np.concatenate([part[key] for part in parts]) for key in self._keys}
        return self._observations

    def get_state(self) -> dict[str, Any]:
        """Return what `set_state` needs; the same as of a `LanguageVecEnv`."""
        positions = [worker.positions for worker in self._workers]
        return {
            "seed": positions[0]["seed"],
            **joined_states(positions),
            "actions": [list(actions) for part in positions for actions in part["actions"]],
            "pending": self._untold_reasons(),
            "lost": self._log.get_state(),
        }

    def _untold_reasons(self) -> list[list[Any]]:
        return [[w.indices[index], reason] for w in self._workers for index, reason in w.positions["pending"]]

    def set_state(self, state: dict[str, Any]) -> Observations:
        """Bring the environments to where they were at `get_state`; see `LanguageVecEnv.set_state`."""
        check_state_size(state, self.num_envs)
        self._log.set_state(state["lost"])
        parts = []
        for worker in self._workers:
            actions = [state["actions"][index] for index in worker.indices]
            pending = [
                [worker.indices.index(index), reason] for index, reason in state["pending"] if index in worker.indices
            ]
            numbers = part_of_state(state, worker.indices)
            parts.append(({**numbers, "seed": state["seed"], "actions": actions, "pending": pending},))
        self._seed = state["seed"]
        return self._readable_beginning(self._join(self._ask("set_positions", parts)), pending=True)

    def close(self) -> None:
        """End the processes."""
        if self._closed:
            return
        self._closed = True
        for worker in self._workers:
            with contextlib.suppress(OSError):  # the process is gone already, which is what we want
                worker.connection.send(Request(method=CLOSE))
        until = time.monotonic() + CLOSING
        for worker in self._workers:
            worker.connection.close(until)

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
        shares = [worker.indices for worker in self._workers]
        local = [[index - share[0] for index in share if index in chosen] for share in shares]
        answers = self._ask(CALL, [(method, args, {**kwargs, "indices": part}) for part in local])
        if answers[0] is None:
            return []
        where = [index for index in range(self.num_envs) if index in chosen]
        answer_of = dict(zip(where, _joined(answers), strict=True))
        return [answer_of[index] for index in chosen]


def _joined(shares: Iterable[Iterable[Any]]) -> list[Any]:
    return [entry for share in shares for entry in share]
