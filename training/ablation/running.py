"""The trainings of an ablation, each in a process of its own: what is done is kept, what was begun goes on."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from heed.evaluation.command_line import option_words
from heed.training.ablation.plan import Training
from heed.training.comparison.groups import needs_evaluation
from heed.training.comparison.options import NOT_OF_THE_TRAINING
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder, RunFolderError

State = Literal["done", "begun", "new"]


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
    # As they come out of a file, where a tuple is a list.
    saved, wanted = run.read_config(), json.loads(json.dumps(training.config.resolved().as_json()))
    for name, value in wanted.items():
        if name not in NOT_OF_THE_TRAINING and saved.get(name, value) != value:
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
        pending = {pool.submit(_train, training, jobs): training for training in trainings}
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


def _train(training: Training, jobs: int) -> Failed | None:
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
        ended = subprocess.run(
            [sys.executable, "-m", "heed.scripts.cli", *command_line(training, resume=run.holds_run)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    if ended.returncode == 0:
        return None
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return Failed(training=training, reason=f"{lines[-1] if lines else 'it said nothing'} (see {log})")


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
