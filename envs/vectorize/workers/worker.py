"""What runs in each worker of a `ProcessLanguageVecEnv`: a `LanguageVecEnv` that answers requests.

Its episodes are lost and begun there; the process that asks keeps the counts, from the events that come with each
answer. And it is told which call of which environment is going on, so it knows whose fault it is when an answer does
not come.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from traceback import format_exc
from typing import Any

from heed.envs.faults import LostEpisode, TooManyLostEpisodesError
from heed.envs.vectorize.in_process import LanguageVecEnv
from heed.envs.vectorize.workers.likeness import Likeness
from heed.envs.vectorize.workers.messages import CALL, CLOSE, LOSE, RESET, STAY, STEP, Answer, Request, ShareArguments
from heed.envs.vectorize.workers.transport import WorkerEnd


class Events:
    """Notes losses and ends of episodes until they are sent.

    Args:
        limit: episodes that may be lost here in a row, so that no reset is tried for ever.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._in_a_row = 0
        self._noted: list[LostEpisode | None] = []

    def note(self, lost: LostEpisode | None, cause: BaseException | None = None) -> None:
        """Take in an episode that was lost, or with None one that came to its end.

        Raises:
            TooManyLostEpisodesError: if that is one too many; who asks finds its own words for it.
        """
        self._noted.append(lost)
        self._in_a_row = 0 if lost is None else self._in_a_row + 1
        if self._in_a_row > self._limit:
            told = "" if lost is None else f": environment {lost.env}, seed {lost.seed}, {lost.reason}"
            raise TooManyLostEpisodesError(f"A process lost {self._in_a_row} episodes in a row{told}.") from cause

    def taken(self) -> list[LostEpisode | None]:
        """Return what was noted since."""
        noted, self._noted = self._noted, []
        return noted


def serve(arguments: ShareArguments, end: WorkerEnd) -> None:
    """Run one worker: answer each request, until there is nobody to ask."""
    arguments.registered.register()
    try:
        share = LanguageVecEnv(
            arguments.factories,
            seed=arguments.seed,
            first_index=arguments.first_index,
            group_size=arguments.group_size,
            step_timeout=arguments.step_timeout,
            reset_timeout=arguments.reset_timeout,
            max_lost=arguments.max_lost,
        )
    except Exception as error:  # who asks raises it, whatever it is
        _send(end, _failed(error))
        return
    events = Events(arguments.max_lost)
    share.log_losses_to(events)
    share.board = end.board
    made = [Likeness.of(env.env.env) for env in share.envs]  # type: ignore[attr-defined] # within Monitor and Detached
    end.send(Answer(value=(share.observation_space, share.action_space, made), positions=share.get_positions()))
    # Who asks may have gone.
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            request = end.receive()
            try:
                value = _answer(share, request)
                positions = None if request.method == STEP else share.get_positions()
                answer = Answer(value=value, events=events.taken(), positions=positions)
            except Exception as error:
                answer = _failed(error, events=events.taken(), positions=share.get_positions())
            _send(end, dataclasses.replace(answer, number=request.number))
            if request.method == CLOSE:
                return


def _answer(share: LanguageVecEnv, request: Request) -> Any:
    """Do what is asked for."""
    share.called_off = dict(request.called_off)
    if request.positions is not None:
        if request.tells_fulfilled:
            share.tell_fulfilled_instructions()
        share.set_numbers(request.positions)
        if not request.numbers_only:
            share.set_positions(request.positions, request.expected)
    if request.method == STAY:
        return None
    if request.method == STEP:
        share.step_async(*request.arguments)
        return *share.step_wait(), share.reset_infos, share.get_numbers()
    if request.method == RESET:
        return share.reset(), share.reset_infos
    if request.method == LOSE:
        faults, pending = request.arguments
        return share.lose_running(faults, pending=pending), share.reset_infos
    if request.method == CALL:
        name, args, kwargs = request.arguments
        return getattr(share, name)(*args, **kwargs)
    return getattr(share, request.method)(*request.arguments)


def _failed(
    error: Exception, events: Sequence[LostEpisode | None] = (), positions: dict[str, Any] | None = None
) -> Answer:
    """Return an answer that says what was raised, as the other side will be able to rebuild it."""
    told = format_exc()
    try:
        type(error)(*error.args)
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return Answer(error=error, told=told, events=events, positions=positions)


def _send(end: WorkerEnd, answer: Answer) -> None:
    try:
        end.send(answer)
    except (EOFError, OSError):
        raise
    except Exception as error:  # the answer, or its error, cannot be sent
        unsent = answer.error or error
        told = RuntimeError(f"{type(unsent).__name__}: {unsent}")
        end.send(dataclasses.replace(answer, value=None, error=told, told=answer.told or format_exc()))
