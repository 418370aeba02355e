"""Processes of their own for tests, forked from a server that has imported what they need (`tests/conftest.py`)."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path


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
