"""How workers are started and spoken to, apart from what they are asked: a new way to reach workers is one class here.

A worker is some other process, on this machine or another, that runs `heed.envs.vectorize.workers.worker.serve` with a
`ShareArguments` and a `WorkerEnd`. A `Transport` starts it and returns the `Connection` to it. Requests and answers can
be pickled. What they mean, and what becomes of episodes whose worker died or hangs, no transport knows.

`heed.envs.vectorize.workers.pipes` is the transport that is used unless another is given: processes of this machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from heed.envs.vectorize.workers.calls import CallBoard, CallKey
from heed.envs.vectorize.workers.messages import Answer, Request, ShareArguments


class WorkerEnd(Protocol):
    """The worker's end of a connection."""

    @property
    def board(self) -> CallBoard:
        """Is told of each call of an environment; `Connection.call` and `Connection.deadline` show it on the other end.

        A call is told before it is made: it may be the worker's last.
        """

    def receive(self) -> Request:
        """Wait for the next request.

        Raises:
            EOFError, OSError: if the other end is gone.
        """

    def send(self, answer: Answer) -> None:
        """Send an answer.

        Raises:
            EOFError, OSError: if the other end is gone.
            Exception: any other if the answer cannot be sent; then nothing was.
        """


class Connection(ABC):
    """One worker, from its start to its end, as seen by the process that asks it."""

    @abstractmethod
    def send(self, request: Request) -> None:
        """Send a request, without waiting for what comes of it.

        Raises:
            EOFError, OSError: if the worker is gone.
        """

    @abstractmethod
    def receive(self) -> Answer:
        """Return the next answer; `Transport.wait` says that there is one.

        Raises:
            EOFError, OSError: if the worker is gone, and has left no answer.
        """

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether the worker still runs, as far as is known."""

    @property
    @abstractmethod
    def call(self) -> CallKey | None:
        """The call of an environment that is going on in the worker, or was when it ended; None for none."""

    @property
    @abstractmethod
    def deadline(self) -> float:
        """When that call is to be over, by this process's `time.monotonic`; infinite where there is none, or no limit.

        Read before `call`, it is never of a call that was over before: so nobody is killed for a call that returned.
        """

    @abstractmethod
    def end(self) -> str:
        """End the worker at once with all that it has started, if it has not ended by itself.

        Returns:
            How it ended, in words that go on from "the process died,": "killed by SIGKILL".
        """

    @abstractmethod
    def close(self, until: float) -> None:
        """Release the connection to a worker that was asked to close, which may take until a `time.monotonic`."""


class Transport(ABC):
    """Starts workers, and waits for their answers."""

    @abstractmethod
    def start(self, arguments: ShareArguments) -> Connection:
        """Start a worker that ends with this process, and return before it is ready.

        Its first answer, which nobody has asked for, says that it is.
        """

    @abstractmethod
    def wait(self, connections: Sequence[Connection], timeout: float) -> Sequence[Connection]:
        """Return those connections whose `receive` returns or raises at once, as soon as there is one.

        Args:
            connections: that this transport has started.
            timeout: seconds after which none is returned; it may be earlier.
        """
