"""The trainings of an ablation, each in a process of its own: what is done is kept, what was begun goes on."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from heed.evaluation.command_line import option_words
from heed.training.ablation.plan import Training
from heed.training.command_line.named_values import as_compared
from heed.training.comparison.groups import needs_evaluation
from heed.training.comparison.options import NOT_OF_THE_TRAINING
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder, RunFolderError
from heed.training.stopping import SIGNALS, STATUS_OF_SIGNALS

SECONDS_BETWEEN_LOOKS = 1.0
ENDED_BY_SIGNAL = {sign * number + base for number in SIGNALS for sign, base in ((1, STATUS_OF_SIGNALS), (-1, 0))}
"""Statuses of a training that was told to end, or that a signal has ended."""

State = Literal["done", "begun", "new"]


class Interrupted(Exception):  # noqa: N818 - it is no error
    """A training was ended by a signal: it can go on."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A training that came to nothing."""

    training: Training
    reason: str
    """The end of what it wrote."""


def state_of(training: Training) -> State:
    """Say how far a training has come.

    Raises:
        ConfigurationError: if its folder holds a run with other options.
        CheckpointError: if a file of the run is damaged.
    """
    run = RunFolder(training.folder)
    if not run.holds_run:
        return "new"
    saved = run.read_config()
    for name, value in training.config.resolved().as_json().items():
        there = as_compared(name, saved.get(name, value))
        if name not in NOT_OF_THE_TRAINING and there != as_compared(name, value):
            raise ConfigurationError(
                f"{training.folder} holds a run with --{name.replace('_', '-')} {saved[name]}, but the plan says "
                f"{value}: give another --out, or remove the folder."
            )
    try:
        return "begun" if needs_evaluation(training.folder, training.config.eval_episodes) else "done"
    except RunFolderError:  # it has no checkpoint yet
        return "new"


def run_all(
    trainings: Sequence[Training], *, jobs: int, on_end: Callable[[Training, Failed | None], None]
) -> list[Failed]:
    """Train and evaluate what is not done yet; one that fails leaves the others alone.

    Args:
        trainings: begun ones are continued.
        jobs: how many are trained side by side, each on its share of the processor's cores.
        on_end: is told of each that has come to its end.

    Returns:
        What failed.
    """
    failed = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        pending = {pool.submit(train_one, training, jobs): training for training in trainings}
        try:
            for future in concurrent.futures.as_completed(pending):
                failure = future.result()
                on_end(pending[future], failure)
                if failure is not None:
                    failed.append(failure)
        except KeyboardInterrupt:
            pool.shutdown(wait=True, cancel_futures=True)  # the trainings were interrupted as well, and save
            raise
    return failed


def train_one(training: Training, jobs: int, *, unless: Callable[[], bool] | None = None) -> Failed | None:
    """Train in a process of its own; what was begun goes on.

    Args:
        training: what to train.
        jobs: how many such processes share the processor's cores.
        unless: is asked each second, and ends the training, which saves, once it says so.

    Returns:
        What failed, or None; also where `unless` has ended it.

    Raises:
        Interrupted: with `unless`, if a signal from elsewhere has ended it.
    """
    run = RunFolder(training.folder)
    if run.holds_run and state_of(training) == "new":
        shutil.rmtree(training.folder)  # it was stopped before its first checkpoint: there is nothing to lose
    training.folder.parent.mkdir(parents=True, exist_ok=True)
    log = training.folder.parent / f"{training.folder.name}.log"
    environment = {**os.environ}
    if jobs > 1:  # else each might take all cores, and wait for the others
        from heed.agents.distributed.threads import available_cores

        environment["OMP_NUM_THREADS"] = str(max(1, available_cores() // jobs))
    with log.open("a", encoding="utf-8") as file:
        command = [sys.executable, "-m", "heed.scripts.cli", *command_line(training, resume=run.holds_run)]
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
        options["env"] = environment
        if unless is None:
            status = subprocess.run(command, check=False, **options).returncode
        else:
            status = _watched(command, options, unless)
    if status == 0:
        return None
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return Failed(training=training, reason=f"{lines[-1] if lines else 'it said nothing'} (see {log})")


def _watched(command: list[str], options: dict[str, Any], unless: Callable[[], bool]) -> int:
    """Run a command until it ends, or `unless` ends it; return its status, 0 in the latter case.

    Raises:
        Interrupted: if a signal from elsewhere has ended it.
    """
    with subprocess.Popen(command, **options) as process:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(SECONDS_BETWEEN_LOOKS)
                break
            if unless():
                process.terminate()
                process.wait()
                return 0
    if status in ENDED_BY_SIGNAL:
        raise Interrupted
    return status


def command_line(training: Training, *, resume: bool) -> list[str]:
    """Return the arguments of `heed` for a training."""
    if resume:
        return ["train", "--run-dir", str(training.folder), "--resume"]
    words = ["train"]
    defaults = TrainConfig().as_json()
    for name, value in training.config.as_json().items():
        if value == defaults[name] and name not in ("env", "seed", "run_dir"):
            continue
        words += option_words(name, value)
    return words
