"""Processes of their own for tests, forked from a server that has imported what they need (`tests/conftest.py`)."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self


class Program:
    """Stands in for `subprocess.Popen` where it starts `python -m MODULE ARGUMENTS`: the same, and it begins at once.

    Args:
        command: of which MODULE has a `main`, see `start_main`.
        stdout: an open file, to which also goes what is written to standard error.
        env: variables of the environment; those of this process unless given.
    """

    def __init__(
        self, command: Sequence[str], *, stdout: Any = None, env: Mapping[str, str] | None = None, **_: Any
    ) -> None:
        assert command[:2] == [sys.executable, "-m"], command
        out = Path(os.devnull if stdout is None else stdout.name)
        self._process = start_main(command[2], command[3:], variables=os.environ if env is None else env, out=out)
        self.args = command

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def wait(self, timeout: float | None = None) -> int:
        """Return the status."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self._process.exitcode

    def terminate(self) -> None:
        """Tell it to end."""
        self._process.terminate()


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Stand in for `subprocess.run` as `Program` stands in for `subprocess.Popen`."""
    with Program(command, **options) as program:
        return subprocess.CompletedProcess(command, program.wait())


def start_main(
    module: str, arguments: Sequence[str], *, variables: Mapping[str, str], out: Path, error: Path | None = None
) -> BaseProcess:
    """Start what `python -m MODULE ARGUMENTS` starts, without the seconds in which a new interpreter imports torch.

    Args:
        module: has a `main` that takes its arguments from `sys.argv`.
        arguments: of the command line.
        variables: of the environment, all of them.
        out: takes what is written to standard output.
        error: takes what is written to standard error; None for `out`.
    """
    context = multiprocessing.get_context("forkserver")
    places = str(out), None if error is None else str(error)
    process = context.Process(target=_run, args=(module, list(arguments), dict(variables), places))
    process.start()
    return process


def _run(module: str, arguments: list[str], variables: dict[str, str], places: tuple[str, str | None]) -> None:
    import torch

    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(1)
    warnings.simplefilter("error", UserWarning)
    out, error = places
    for name, stream in ((out, sys.stdout), (error or out, sys.stderr)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, stream.fileno())
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()
