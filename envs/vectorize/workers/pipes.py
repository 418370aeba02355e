"""Workers that are processes of this machine, spoken to through pipes.

A new interpreter takes seconds to import Stable-Baselines3 and PyTorch. On Linux one server process imports them once,
and each worker is a fork of it (Python's start method `forkserver`): a worker is there at once, and so is one that is
started again. The server knows nothing of the script either, so all that holds of a new interpreter holds of such a
worker. On macOS system libraries do not survive a fork, so each worker is a new interpreter there.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection as pipes
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, cast

from heed.envs.vectorize.workers.calls import CallKey
from heed.envs.vectorize.workers.messages import Answer, Request, ShareArguments
from heed.envs.vectorize.workers.transport import Connection, Transport
from heed.envs.vectorize.workers.worker import serve

PRELOADED = ("heed.envs.make", "heed.envs.vectorize.workers.pipes")
"""Modules that the server imports."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class PipeTransport(Transport):
    """Starts processes of this machine, each with the environment variables of now and one thread."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._context: BaseContext = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(list(PRELOADED))
        else:
            self._context = multiprocessing.get_context("spawn")

    def start(self, arguments: ShareArguments) -> Connection:
        """Start a process."""
        numbers = self._context.RawArray("d", 4)
        board = SharedCallBoard(numbers)
        ours, theirs = self._context.Pipe()
        process = start_worker(self._context, _serve, (arguments, theirs, numbers))
        theirs.close()
        return PipeConnection(ours, process, board)

    def wait(self, connections: Sequence[Connection], timeout: float) -> Sequence[Connection]:
        """Wait for all of their pipes at once."""
        of_pipe = {cast(PipeConnection, connection).pipe: connection for connection in connections}
        return [of_pipe[pipe] for pipe in pipes.wait(list(of_pipe), timeout=timeout)]  # type: ignore[index]


class PipeConnection(Connection):
    """A process, and this end of its pipe."""

    def __init__(self, pipe: pipes.Connection, process: BaseProcess, board: SharedCallBoard):
        self.pipe, self.process, self._board = pipe, process, board

    def send(self, request: Request) -> None:
        """Send a request."""
        self.pipe.send(request)

    def receive(self) -> Answer:
        """Return the next answer."""
        return self.pipe.recv()  # type: ignore[no-any-return]

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.is_alive()

    @property
    def call(self) -> CallKey | None:
        """The call that is going on."""
        return self._board.call

    @property
    def deadline(self) -> float:
        """When it is to be over."""
        return self._board.deadline

    def end(self) -> str:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # not yet, or no longer, a group of its own
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.pipe.close()
        code = self.process.exitcode
        return f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"with exit status {code}"

    def close(self, until: float) -> None:
        """Wait for the end of the process, and kill it where it does not come."""
        self.process.join(timeout=max(0.0, until - time.monotonic()))
        if self.process.is_alive():
            self.end()
        self.pipe.close()


class _PipeEnd:
    """The worker's end of a pipe."""

    def __init__(self, pipe: pipes.Connection, board: SharedCallBoard):
        self.receive: Callable[[], Request] = pipe.recv
        self.send: Callable[[Answer], None] = pipe.send
        self.board = board


_INDEX, _EPISODE, _STEP, _DEADLINE = range(4)
NOBODY = -1.0


class SharedCallBoard:
    """Tells another process which environment is being called, and until when it may take.

    Args:
        numbers: four doubles in shared memory. The deadline is written last, and taken back first, so whoever reads one
            that is over finds the call that it belongs to.
    """

    def __init__(self, numbers: Any):
        self._numbers = numbers
        self.clear()

    def begin(self, call: CallKey, limit: float | None) -> None:
        """Take in that a call begins, which may take so many seconds."""
        numbers = self._numbers
        numbers[_EPISODE], numbers[_STEP] = call[1], call[2]
        numbers[_INDEX] = call[0]
        # The clock of this kind is the same in all processes of a machine.
        numbers[_DEADLINE] = math.inf if limit is None else time.monotonic() + limit

    def end(self) -> None:
        """Take in that it is over."""
        self._numbers[_DEADLINE] = math.inf
        self._numbers[_INDEX] = NOBODY

    clear = end

    @property
    def call(self) -> CallKey | None:
        """The call that is going on, or was when the process ended."""
        if self._numbers[_INDEX] == NOBODY:
            return None
        return int(self._numbers[_INDEX]), int(self._numbers[_EPISODE]), int(self._numbers[_STEP])

    @property
    def deadline(self) -> float:
        """When the call is to be over, by `time.monotonic`."""
        return float(self._numbers[_DEADLINE])


def _serve(arguments: ShareArguments, pipe: pipes.Connection, numbers: Any) -> None:
    # In a group of its own, it is ended together with what the environments have started, and Ctrl-C, which a terminal
    # sends to a whole group, is left to who asks.
    os.setpgrp()
    serve(arguments, _PipeEnd(pipe, SharedCallBoard(numbers)))


def start_worker(context: BaseContext, target: Callable[..., None], arguments: tuple[Any, ...]) -> BaseProcess:
    """Start a process that ends with this one.

    Args:
        context: of `multiprocessing`.
        target: what runs in it; an importable function.
        arguments: of the function.
    """
    with _one_thread():
        process = context.Process(  # type: ignore[attr-defined]
            target=_run, args=(dict(os.environ), target, arguments), daemon=True
        )
        process.start()
    return process  # type: ignore[no-any-return]


def _run(variables: Mapping[str, str], target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    # The server has the variables of when it was started, which may be long ago.
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)
    target(*arguments)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let a process that is started now have one thread for its arrays: each has its environments, and no core more."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
