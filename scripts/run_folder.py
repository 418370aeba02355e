"""A run's folder: its configuration, its curve, its checkpoints.

RUN_DIR/
config.json     the resolved configuration
cloning.json    how the cloning of demonstrations went, if there were any
curve.jsonl     one line per logging: steps, success rate, return, losses
times.jsonl     one line per logging and checkpoint: steps, and the seconds of training up to there
tensorboard/    the same and more for TensorBoard
metrics.csv     the same as a table, with --csv
wandb.json      which run of Weights & Biases it is, with --wandb; wandb/ is Weights & Biases' own
lost_episodes.jsonl  one line per episode that an environment lost, if any was: steps, and what is known of it
checkpoints/    step-000012288/ ...: the last few
evaluation.json, axes.csv, episodes.csv, report.html, *.gif

What `heed export` writes is one too, as far as an evaluation needs it (`heed.agents.shared`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

from heed.agents.checkpoint import MANIFEST, CheckpointError, read_json, write_json
from heed.agents.shared import home_of


class RunFolderError(ValueError):
    """A run folder cannot be used as asked. The message says why and what to do."""


class RunFolder:
    """One training's folder.

    Args:
        path: the folder; need not be there yet.
    """

    def __init__(self, path: Path):
        self.path = path
        home = home_of(path)  # of an agent that was shared, where its own files stand
        self.is_shared = home != path
        """Whether this is what `heed export` wrote: an agent to be evaluated, without a training to go on with."""
        self.config = home / "config.json"
        self.cloning = home / "cloning.json"
        self.curve = home / "curve.jsonl"
        self.times = home / "times.jsonl"
        self.lost_episodes = home / "lost_episodes.jsonl"
        self.csv = path / "metrics.csv"
        self.wandb = path / "wandb.json"
        self.evaluation = path / "evaluation.json"
        self.episodes = path / "episodes.csv"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"

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
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunFolderError(f"{self.path} exists and is not an empty folder. Give another --run-dir.")

    def begin(self, config: dict[str, Any]) -> None:
        """Make the folder for a new run and write its configuration.

        Raises:
            RunFolderError: as `require_empty`.
        """
        self.require_empty()
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config, config)

    def remove(self) -> None:
        """Remove the folder of a run that has just begun, and of which nothing came."""
        shutil.rmtree(self.path)

    def rewrite_config(self, config: dict[str, Any]) -> None:
        """Write the configuration that the run goes on with."""
        write_json(self.config, config)

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
                f"run with its language model, --model {self.path}."
            )

    def latest_checkpoint(self) -> Path:
        """Return the newest checkpoint, or the folder itself where it holds an agent that was shared.

        Raises:
            RunFolderError: if there is none yet.
        """
        if self.is_shared:
            return self.path
        checkpoints = self._whole_checkpoints()
        if not checkpoints:
            raise RunFolderError(f"{self.path} has no checkpoint yet: start it again without --resume, elsewhere.")
        return checkpoints[-1]

    def checkpoint_path(self, steps: int) -> Path:
        """Return where the checkpoint after `steps` steps stands."""
        return self.checkpoints / f"step-{steps:012d}"

    def remove_old_checkpoints(self, keep: int) -> None:
        """Remove all but the newest `keep` checkpoints, and what a crash left half written."""
        for path in self._whole_checkpoints()[:-keep]:
            shutil.rmtree(path)
        for path in self.checkpoints.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)

    def _whole_checkpoints(self) -> list[Path]:
        # A checkpoint takes its name only when it is whole, and its manifest is written last.
        return sorted(path.parent for path in self.checkpoints.glob(f"step-*/{MANIFEST}"))

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

    def cut_curve(self, steps: int) -> None:
        """Drop the curve's points after `steps` steps, and a half-written last line: resuming writes them anew."""
        _cut_lines(self.curve, steps)

    def cut_times(self, steps: int) -> None:
        """Drop the times after `steps` steps, as `cut_curve` does with the curve."""
        _cut_lines(self.times, steps)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
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
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


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
