"""A run's folder: its configuration, its curve, its checkpoints.

RUN_DIR/
config.json     the resolved configuration
cloning.json    how the cloning of demonstrations went, if there were any
curve.jsonl     one line per logging: steps, success rate, return, losses
times.jsonl     one line per logging and checkpoint: steps, and the seconds of training up to there
memory.json     what memory the training took, and what was estimated, in bytes
tensorboard/    the same and more for TensorBoard
metrics.csv     the same as a table, with --csv
wandb.json      which run of Weights & Biases it is, with --wandb; wandb/ is Weights & Biases' own
lost_episodes.jsonl  one line per episode that an environment lost, if any was: steps, and what is known of it
checkpoints/    step-000012288/ ...: the last few, and the best (`heed.training.run_checkpoints`)
best.json       which checkpoint is the best, and by what
evaluation.json, axes.csv, episodes.csv, report.html, *.gif

What `heed export` writes is one too, as far as an evaluation needs it (`heed.agents.persistence.export`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

from heed.agents.persistence.checkpoint import CheckpointError, as_json_text, flush_to_disk, read_json, replace_file
from heed.agents.persistence.saving import home_of
from heed.evaluation.command_line import told_command
from heed.training.run_checkpoints import Found, RunCheckpoints

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
"""Errors of the system that say that a disk takes no more."""
FORBIDDEN = (errno.EACCES, errno.EPERM)

_PROBE = bytes(4096)
_LEFT_BEHIND = re.compile(r"\.[\w.-]+\.[0-9a-f]{8}\.partial")


class RunFolderError(ValueError):
    """A run folder cannot be used as asked. The message says why and what to do."""


class RunFolder:
    """One training's folder.

    Args:
        path: the folder; need not be there yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self.command = "heed"
        """How Heed is called, where it is said how to go on with the run."""
        home = home_of(path)  # of an agent that was shared, where its own files stand
        self.is_shared = home != path
        """Whether this is what `heed export` wrote: an agent to be evaluated, without a training to go on with."""
        self.config = home / "config.json"
        self.cloning = home / "cloning.json"
        self.curve = home / "curve.jsonl"
        self.times = home / "times.jsonl"
        self.memory = path / "memory.json"
        self.lost_episodes = home / "lost_episodes.jsonl"
        self.csv = path / "metrics.csv"
        self.wandb = path / "wandb.json"
        self.evaluation = path / "evaluation.json"
        self.episodes = path / "episodes.csv"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self.saved = RunCheckpoints(self.checkpoints, path / "best.json")

    @property
    def holds_run(self) -> bool:
        """Whether a training has begun here."""
        return self.config.is_file()

    def require_empty(self) -> None:
        """Refuse a folder that a new run cannot have.

        Raises:
            RunFolderError: if it holds another run, or files that are no run's.
        """
        if self.holds_run:
            raise RunFolderError(
                f"{self.path} holds a run already. Give another --run-dir, or --resume to continue that one."
            )
        if self.path.exists() and (not self.path.is_dir() or any(not _is_left_behind(p) for p in self.path.iterdir())):
            raise RunFolderError(f"{self.path} exists and is not an empty folder. Give another --run-dir.")

    def require_writable(self) -> None:
        """Refuse a folder that the run could not be written into, before anything is computed.

        Raises:
            RunFolderError: if it is read-only, or nothing more fits onto its disk.
        """
        for folder in (self.path, self.checkpoints, self.tensorboard):
            # Where a folder is not there yet, it is the one that it will be made in that counts.
            there = next(parent for parent in (folder, *folder.parents) if _exists(parent))
            try:
                with tempfile.TemporaryFile(dir=there) as probe:
                    probe.write(_PROBE)
                    probe.flush()
                    os.fsync(probe.fileno())
            except OSError as error:
                raise RunFolderError(
                    f"{there} cannot be written into ({error.strerror}), so the run could not be saved: give a "
                    "--run-dir elsewhere, or make room there."
                ) from None

    def require_own_files(self) -> None:
        """Refuse a run folder with links in it, which could lead what is written here to anywhere.

        Raises:
            RunFolderError: naming the link.
        """
        there = [self.path / name for name in sorted(os.listdir(self.path))] if self.path.is_dir() else []
        below = sorted(self.tensorboard.iterdir()) if self.tensorboard.is_dir() else []
        for path in [*there, *below]:
            if path.is_symlink():
                raise RunFolderError(
                    f"{path} is a symbolic link, so what is written there would land elsewhere. Put what it leads to "
                    "in its place."
                )

    def begin(self, config: dict[str, Any]) -> None:
        """Make the folder for a new run and write its configuration.

        Raises:
            RunFolderError: as `require_empty`.
            OSError: if the disk does not take it.
        """
        self.require_empty()
        self.path.mkdir(parents=True, exist_ok=True)
        self.remove_left_behind()
        replace_file(self.config, as_json_text(config))

    def begin_again(self) -> None:
        """Drop what a run has written that never came to its first checkpoint, but its configuration."""
        self.remove_left_behind()
        for path in (self.cloning, self.curve, self.times, self.memory, self.lost_episodes):
            path.unlink(missing_ok=True)
        if self.tensorboard.is_dir():
            shutil.rmtree(self.tensorboard)

    def remove_left_behind(self) -> None:
        """Remove what a crash left half written."""
        self.saved.remove_left_behind()
        for path in list(self.path.iterdir()) if self.path.is_dir() else ():
            if _is_left_behind(path):
                path.unlink()

    def remove(self) -> None:
        """Remove the folder of a run that has just begun, and of which nothing came."""
        shutil.rmtree(self.path)

    def rewrite_config(self, config: dict[str, Any]) -> None:
        """Write the configuration that the run goes on with; until it is written, the old one stays.

        Raises:
            OSError: if the disk does not take it.
        """
        replace_file(self.config, as_json_text(config))

    def read_config(self) -> dict[str, Any]:
        """Return the configuration that the run began with.

        Raises:
            RunFolderError: if no run is here.
            CheckpointError: if its configuration is damaged.
        """
        if not self.holds_run:
            raise RunFolderError(f"{self.path} holds no run: there is no {self.config.name} in it.")
        config: dict[str, Any] = read_json(self.config)
        return config

    def require_training(self) -> None:
        """Refuse to go on with what is no training.

        Raises:
            RunFolderError: if the folder holds an agent that was shared.
        """
        if self.is_shared:
            raise RunFolderError(
                f"{self.path} holds an agent that was shared, without what a training needs to go on: begin another "
                f"run with its language model, {told_command('--model', self.path)}."
            )

    def latest_checkpoint(self) -> Path:
        """Return the newest checkpoint that is whole, or the folder itself where it holds an agent that was shared.

        Raises:
            RunFolderError: if there is none yet.
            CheckpointError: if there are some, but none can be read.
        """
        return self.find_checkpoint().path

    def find_checkpoint(self, which: str = "newest") -> Found:
        """Return a checkpoint that is whole.

        Args:
            which: `newest`, `best` or a number of steps.

        Raises:
            RunFolderError: if there is no such checkpoint.
            CheckpointError: if it is damaged, and no other could take its place; as `RunCheckpoints.newest`.
        """
        if self.is_shared:
            if which != "newest":
                raise RunFolderError(f"{self.path} holds an agent that was shared: there is no checkpoint but itself.")
            return Found(self.path)
        found = {"newest": self.saved.newest, "best": self.saved.best}.get(which, lambda: self._at(which))()
        if found is None:
            raise RunFolderError(f"{self.path} has no checkpoint yet: train it first, with --resume.")
        return found

    def told_checkpoint(self, which: str = "newest") -> Path:
        """Return the same, and say on standard error what was passed over."""
        found = self.find_checkpoint(which)
        for sentence in found.passed_over:
            print(sentence, file=sys.stderr)
        return found.path

    def _at(self, which: str) -> Found | None:
        found = self.saved.at(int(which)) if which.isdecimal() else None
        if found is None:
            there = ", ".join(str(int(path.name.removeprefix("step-"))) for path in self.saved.all()) or "none"
            raise RunFolderError(
                f"{self.path} has no checkpoint {which!r}. Give newest, best, or the steps of one; there are: {there}."
            )
        return found

    def newest_checkpoint_path(self) -> Path:
        """Return where the newest checkpoint stands, without looking into it.

        Raises:
            RunFolderError: if there is none yet.
        """
        if self.is_shared:
            return self.path
        if not self.saved.all():
            raise RunFolderError(f"{self.path} has no checkpoint yet: train it first, with --resume.")
        return self.saved.all()[-1]

    def checkpoint_path(self, steps: int) -> Path:
        """Return where the checkpoint after `steps` steps stands."""
        return self.saved.place(steps)

    @contextlib.contextmanager
    def telling_of_the_disk(self) -> Iterator[None]:
        """Turn the error of a disk that takes no more into one that says what of the run is saved.

        Raises:
            RunFolderError: in its place.
        """
        try:
            yield
        except OSError as error:
            # What must not be read is no matter of this folder's.
            ours = str(error.filename or "").startswith(str(self.path))
            if error.errno not in DISK_ERRORS and not (error.errno in FORBIDDEN and ours):
                raise
            where = f" ({error.filename})" if error.filename else ""
            raise RunFolderError(
                f"The run could not be written on: {error.strerror}{where}. What was saved before is as it was. "
                f"{self.told_last_good()}"
            ) from error

    def told_last_good(self) -> str:
        """Return a sentence on what of the run is saved, and how to go on with it."""
        try:
            found = self.saved.newest()
        except CheckpointError:
            found = None
        last = "It has no checkpoint yet" if found is None else f"Its last good checkpoint is {found.path.name}"
        return f"{last}. {self.told_how_to_continue()}"

    def told_how_to_continue(self) -> str:
        """Return the sentence with the command that goes on with the run."""
        return f"Continue with: {self.command_to_continue()}"

    def command_to_continue(self) -> str:
        """Return the command that goes on with the run."""
        return told_command(*self.command.split(), "train", "--run-dir", self.path, "--resume")

    def read_curve(self) -> list[dict[str, float]]:
        """Return the curve's points, oldest first."""
        return _read_lines(self.curve)

    def read_times(self) -> list[dict[str, float]]:
        """Return the seconds of training up to steps, oldest first; a run of an earlier version has none."""
        return _read_lines(self.times)

    def read_lost_episodes(self) -> list[dict[str, Any]]:
        """Return what is known of the episodes that the training's environments lost, oldest first."""
        return _read_lines(self.lost_episodes)

    def cut_lost_episodes(self, steps: int) -> None:
        """Drop the episodes lost after `steps` steps, as `cut_curve` does with the curve."""
        _cut_lines(self.lost_episodes, steps)

    def flush(self) -> None:
        """Have the system write out what was logged, so that no checkpoint outlives the curve up to it.

        Raises:
            OSError: if the disk does not take it.
        """
        for path in (self.curve, self.times, self.lost_episodes):
            if path.is_file():
                flush_to_disk(path)

    def cut_curve(self, steps: int) -> None:
        """Drop the curve's points after `steps` steps, and a half-written last line: resuming writes them anew."""
        _cut_lines(self.curve, steps)

    def cut_times(self, steps: int) -> None:
        """Drop the times after `steps` steps, as `cut_curve` does with the curve."""
        _cut_lines(self.times, steps)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # a line that a kill left unfinished is no line
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from None


def _cut_lines(path: Path, steps: int) -> None:
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            point = json.loads(line)
        except json.JSONDecodeError:
            break
        if point["steps"] <= steps:
            kept.append(line)
    replace_file(path, "".join(f"{line}\n" for line in kept))


def _is_left_behind(path: Path) -> bool:
    """Say whether a kill in the middle of `replace_file` left this file."""
    return _LEFT_BEHIND.fullmatch(path.name) is not None and path.is_file()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # within a folder that must not be looked into
        return False


class CurveWriter(KVWriter):
    """Appends what SB3 logs to a run's curve, one JSON line per logging.

    Args:
        path: the curve.
        on_point: is told the steps of each point.
    """

    def __init__(self, path: Path, on_point: Callable[[int], None] = lambda steps: None):
        self._file = path.open("a", encoding="utf-8")
        self._on_point = on_point

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Append one point. Times and memory are left out: the same seed gives the same file."""
        point: dict[str, float] = {"steps": step}
        for key, value in sorted(key_values.items()):
            if (
                not key.startswith(("time/", "system/"))
                and isinstance(value, int | float | np.number)
                and np.isfinite(value)
            ):
                point[key] = float(value)
        self._file.write(json.dumps(point) + "\n")
        self._file.flush()
        self._on_point(step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
