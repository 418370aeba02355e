"""How worker processes are started: quickly, each with the environment variables of now and one thread.

A new interpreter takes seconds to import Stable-Baselines3 and PyTorch. On Linux one server process imports them once,
and each worker is a fork of it (Python's start method `forkserver`): a worker is there at once, and so is one that is
started again. The server knows nothing of the script either, so all that holds of a new interpreter holds of such a
worker. On macOS system libraries do not survive a fork, so each worker is a new interpreter there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

PRELOADED = ("heed.envs.make", "heed.envs.vectorize.workers.worker")
"""Modules that the server imports."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def worker_context() -> BaseContext:
    """Return what makes processes, and the pipes and memory that they share."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def start_worker(context: BaseContext, target: Callable[..., None], arguments: tuple[Any, ...]) -> BaseProcess:
    """Start a process that ends with this one.

    Args:
        context: of `worker_context`.
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
