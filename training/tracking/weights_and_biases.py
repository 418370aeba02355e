"""Weights & Biases: the same metrics and episodes in a run of theirs, online or offline (`WANDB_MODE=offline`).

Which run, where it goes and under whose name follow wandb's own environment variables (`WANDB_PROJECT`, `WANDB_ENTITY`,
`WANDB_MODE`, ...). The run's number stands in the run folder, so that a training that is resumed goes on in it.
"""

from __future__ import annotations

import html
import io
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from heed.agents.persistence.checkpoint import read_json, write_json
from heed.training.errors import ConfigurationError
from heed.training.tracking.tracking import EpisodeWriter, SampleEpisode, numbers_of

PROJECT = "heed"
"""Unless WANDB_PROJECT says another."""

WITHOUT_NETWORK = ("offline", "disabled", "dryrun")
"""Modes in which nobody needs to be logged in."""


def require_wandb() -> None:
    """Refuse what could not be tracked, before anything is trained.

    Raises:
        ConfigurationError: if wandb is not installed, or it knows no account and is not to work offline.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigurationError(
            f"--wandb needs Weights & Biases ({error}). Install it with: pip install 'heed[wandb]'"
        ) from None
    if _mode(wandb) in WITHOUT_NETWORK:
        return
    try:
        logged_in = wandb.login()
    except wandb.Error as error:
        raise ConfigurationError(_no_account(error)) from None
    if not logged_in:
        raise ConfigurationError(_no_account("nobody is logged in"))


def _mode(wandb: Any) -> str:
    """Return wandb's mode, which WANDB_MODE sets, or `wandb offline` for a folder."""
    return str(os.environ.get("WANDB_MODE") or wandb.setup().settings.mode)


def _no_account(reason: object) -> str:
    return f"Weights & Biases cannot be used ({reason}): run `wandb login`, or set WANDB_MODE=offline."


class WandbWriter(EpisodeWriter):
    """Writes to Weights & Biases.

    Points that the run has already are left out: a training that goes on from a checkpoint plays what came after it
    once more, to the same numbers.

    Args:
        folder: the run folder; wandb keeps its files in `wandb/` there.
        state: the file that says which run it is, and how far it has come.
        config: of the training, shown beside the run.

    Raises:
        ConfigurationError: if the run cannot be begun.
    """

    def __init__(self, folder: Path, state: Path, config: dict[str, Any]):
        import wandb

        self._wandb: Any = wandb
        self._state = state
        saved: dict[str, Any] = read_json(state) if state.is_file() else {"id": uuid.uuid4().hex[:8], "steps": -1}
        self._id: str = saved["id"]
        self._written: int = saved["steps"]
        self._known_up_to = self._written
        try:
            self._run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=os.environ.get("WANDB_NAME", folder.resolve().name),
                id=self._id,
                # Offline there is no server to resume from: parts bear the same number, and `wandb sync` joins them.
                resume=None if _mode(wandb) in WITHOUT_NETWORK else "allow",
                dir=str(folder),
                config=config,
                # Else it would copy what is drawn on the terminal, a progress bar above all, into its log.
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise ConfigurationError(_no_account(error)) from error
        self._remember(self._written)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Write one point."""
        self._log(numbers_of(key_values), step)

    def write_episode(self, episode: SampleEpisode, step: int) -> None:
        """Write an episode's text, its GIF and its metrics."""
        text = f"<p>{html.escape(episode.caption)}</p><pre>{html.escape(episode.text)}</pre>"
        self._log(
            {
                "sample/episode": self._wandb.Video(io.BytesIO(episode.gif), caption=episode.caption, format="gif"),
                "sample/text": self._wandb.Html(text, data_is_not_path=True),
                **{f"sample/{name}": value for name, value in episode.metrics.items()},
            },
            step,
        )

    def close(self) -> None:
        """End this part of the run, after an error as one that crashed; it may be resumed."""
        if isinstance(sys.exc_info()[1], Exception):
            self._run.finish(exit_code=1)
        else:
            self._run.finish()

    def _log(self, values: dict[str, Any], step: int) -> None:
        if step <= self._known_up_to:
            return
        self._run.log(values, step=step)
        if step > self._written:
            self._remember(step)

    def _remember(self, step: int) -> None:
        self._written = step
        write_json(self._state, {"id": self._id, "steps": step})
