"""A run's checkpoints: the newest few and the best, which of them is whole, and what becomes of one that is not.

RUN_DIR/
best.json                 which one is the best, and by what
checkpoints/
step-000012288/           a checkpoint; it has its name only when it is whole
damaged-step-000010240/   set aside by `--resume`, since it could not be read any more

The best is the one behind which the last episodes succeeded most often, and among equals returned most: the same
statistics as in the curve, over `heed.scripts.train.STATS_WINDOW` episodes, that a checkpoint holds itself. One with
fewer than `FEWEST_EPISODES` behind it is no candidate.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heed.agents.persistence.checkpoint import (
    MANIFEST,
    CheckpointError,
    CheckpointFormatError,
    as_json_text,
    read_json,
    replace_file,
    verify_checkpoint,
)

FEWEST_EPISODES = 100
"""Behind a checkpoint that may be the best: the success rate of a few episodes is mostly chance."""

_NAME = re.compile(r"step-(\d{12})")
_LEFT_BEHIND = re.compile(r"\.step-\d{12}\.([0-9a-f]{8}\.(partial|old)|removed)")


@dataclass(frozen=True)
class Worth:
    """How good the episodes before a checkpoint were."""

    steps: int
    """Of the training, at the checkpoint."""
    success_rate: float
    """Over the episodes."""
    mean_return: float
    """Likewise."""
    episodes: int
    """How many there were."""

    @classmethod
    def of(cls, agent: Any) -> Worth | None:
        """Return that of an agent, by its own statistics; None if it has too few episodes to be judged."""
        successes, infos = agent.ep_success_buffer or (), agent.ep_info_buffer or ()
        if len(successes) < FEWEST_EPISODES or not infos:
            return None
        returns = [float(info["r"]) for info in infos]
        return cls(int(agent.num_timesteps), float(np.mean(successes)), float(np.mean(returns)), len(successes))

    def beats(self, other: Worth | None) -> bool:
        """Say whether it is better; of equals the earlier one stays."""
        return other is None or (self.success_rate, self.mean_return) > (other.success_rate, other.mean_return)


@dataclass(frozen=True)
class Found:
    """A checkpoint that is whole."""

    path: Path
    passed_over: tuple[str, ...] = ()
    """Why others, that would have come first, are not it: a sentence for each."""
    damaged: tuple[Path, ...] = ()
    """These others."""


class RunCheckpoints:
    """The checkpoints of one run.

    Args:
        path: the folder that they stand in; need not be there yet.
        best: the file that says which is the best.
    """

    def __init__(self, path: Path, best: Path):
        self.path = path
        self._best = best

    def place(self, steps: int) -> Path:
        """Return where the checkpoint after `steps` steps stands."""
        return self.path / f"step-{steps:012d}"

    def all(self) -> list[Path]:
        """Return all checkpoints, oldest first, whole or not."""
        # A checkpoint takes its name only when it is whole. What is in it may have been damaged later.
        there = self.path.iterdir() if self.path.is_dir() else ()
        return sorted(path for path in there if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink())

    def newest(self) -> Found | None:
        """Return the newest that is whole; None if there are none at all.

        Raises:
            CheckpointFormatError: if the newest is of a format that this version does not read.
            CheckpointError: if there are some, but none is whole.
        """
        return _first_whole(list(reversed(self.all())))

    def best(self) -> Found | None:
        """Return the best that is noted and whole, and where none is, the newest.

        Raises:
            CheckpointFormatError, CheckpointError: as `newest`.
        """
        worth = self.worth_of_best()
        if worth is None:
            return self.newest()
        first = self.place(worth.steps)
        others = [path for path in reversed(self.all()) if path != first]
        return _first_whole([first, *others])

    def at(self, steps: int) -> Found | None:
        """Return the checkpoint after `steps` steps; None if there is none.

        Raises:
            CheckpointError: if it is damaged.
        """
        path = self.place(steps)
        if path not in self.all():
            return None
        verify_checkpoint(path)
        return Found(path)

    def worth_of_best(self) -> Worth | None:
        """Return what is noted of the best; None if nothing is, or nothing that can be read."""
        try:
            saved = read_json(self._best)
            worth = Worth(**saved)
            return worth if self.place(int(worth.steps)) in self.all() else None
        except (CheckpointError, TypeError, ValueError):  # it is noted anew with the next checkpoint that is better
            return None

    def note(self, worth: Worth | None) -> None:
        """Take notice of what the newest checkpoint is worth: it may be the best.

        Raises:
            OSError: if the disk does not take it.
        """
        if worth is not None and worth.beats(self.worth_of_best()):
            replace_file(self._best, as_json_text(asdict(worth)))

    def remove_old(self, keep: int) -> None:
        """Remove all but the newest `keep` and the best, and what a crash left half written or half removed."""
        best = self.worth_of_best()
        kept = None if best is None else self.place(best.steps)
        for path in self.all()[:-keep]:
            if path != kept:
                # By another name first, so that nothing half removed looks like a checkpoint.
                path.rename(path.with_name(f".{path.name}.removed"))
        self.remove_left_behind()

    def remove_left_behind(self) -> None:
        """Remove what a crash left half written or half removed, and nothing else."""
        for path in list(self.path.iterdir()) if self.path.is_dir() else ():
            if _LEFT_BEHIND.fullmatch(path.name) and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)

    def set_aside(self, damaged: Sequence[Path]) -> Iterator[str]:
        """Give damaged checkpoints other names, since the training comes to their steps again; yield what is done."""
        for path in damaged:
            aside = path.with_name(f"damaged-{path.name}")
            number = 1
            while aside.exists():
                number += 1
                aside = path.with_name(f"damaged-{path.name}-{number}")
            path.rename(aside)
            yield f"The damaged checkpoint is set aside as {aside}."


def _first_whole(candidates: Sequence[Path]) -> Found | None:
    """Return the first checkpoint that is whole, and why those before it are not."""
    passed_over: list[str] = []
    for number, path in enumerate(candidates):
        try:
            if not (path / MANIFEST).is_file():
                raise CheckpointError(f"{path / MANIFEST} is missing: the checkpoint is not whole.")
            verify_checkpoint(path)
        except CheckpointFormatError:
            raise  # another version's is no damage: to go on from an older one would throw work away
        except CheckpointError as error:
            passed_over.append(str(error))
            continue
        told = tuple(f"{reason} The last good checkpoint is used: {path.name}." for reason in passed_over)
        return Found(path, told, tuple(candidates[:number]))
    if not passed_over:
        return None
    raise CheckpointError(" ".join([*passed_over, "There is no other checkpoint that is whole."]))
