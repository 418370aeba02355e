"""Workers behind a socket, in processes of their own: a `Transport` that shares nothing but messages.

Requests, answers and what the board is told are pickled, each behind its length.
"""

from __future__ import annotations

import math
import multiprocessing
import pickle
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any, cast

from heed.envs.vectorize import Connection, Transport
from heed.envs.vectorize.workers.calls import CallKey
from heed.envs.vectorize.workers.messages import Answer, Request, ShareArguments
from heed.envs.vectorize.workers.worker import serve

LENGTH = struct.Struct("!I")


class Wire:
    """Sends and receives whole messages. It is the worker's end of a connection, and the board in it."""

    def __init__(self, end: socket.socket):
        self.socket = end
        self.board = self

    def send(self, message: Any) -> None:
        sent = pickle.dumps(message)
        self.socket.sendall(LENGTH.pack(len(sent)) + sent)

    def receive(self) -> Any:
        length = self.socket.recv(LENGTH.size, socket.MSG_WAITALL)
        if len(length) < LENGTH.size:
            raise EOFError
        return pickle.loads(self.socket.recv(LENGTH.unpack(length)[0], socket.MSG_WAITALL))  # noqa: S301 - our own

    def begin(self, call: CallKey, limit: float | None) -> None:
        self.send((call, limit))

    def end(self) -> None:
        self.send((None, None))


class SocketConnection(Connection):
    """A process, and this end of its socket."""

    call: CallKey | None = None
    deadline = math.inf

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = multiprocessing.get_context("forkserver").Process(target=_serve, args=(theirs,))
            self.process.start()
        self.wire = Wire(ours)
        self.answers: list[Answer | Exception] = []

    def hear(self) -> None:
        """Take in one message."""
        try:
            message = self.wire.receive()
        except (EOFError, OSError) as error:
            message = error
        if isinstance(message, tuple):
            self.call, limit = message
            self.deadline = math.inf if limit is None else time.monotonic() + limit
        else:
            self.answers.append(message)

    def send(self, request: Request) -> None:
        self.wire.send(request)

    def receive(self) -> Answer:
        if isinstance(self.answers[0], Exception):
            raise self.answers[0]
        return self.answers.pop(0)  # type: ignore[return-value]

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def end(self) -> str:
        self.process.kill()
        self.wire.socket.close()
        self.process.join()
        return f"with status {self.process.exitcode}"

    def close(self, until: float) -> None:
        self.process.join(max(0.0, until - time.monotonic()))
        self.end()


class SocketTransport(Transport):
    """Starts processes that connect to a socket."""

    def start(self, arguments: ShareArguments) -> SocketConnection:
        connection = SocketConnection()
        connection.wire.send(arguments)
        return connection

    def wait(self, connections: Sequence[Connection], timeout: float) -> Sequence[Connection]:
        ours = {cast(SocketConnection, each).wire.socket: cast(SocketConnection, each) for each in connections}
        waiting = [wire for wire, each in ours.items() if not each.answers]
        if len(waiting) == len(ours):
            for ready in select.select(waiting, [], [], timeout)[0]:
                ours[ready].hear()
        return [each for each in ours.values() if each.answers]


def _serve(end: socket.socket) -> None:
    wire = Wire(end)
    serve(wire.receive(), wire)
