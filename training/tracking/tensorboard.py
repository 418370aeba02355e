"""TensorBoard: scalars as SB3 writes them, sample episodes as text and as moving pictures."""

from __future__ import annotations

import struct
import textwrap
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import TensorBoardOutputFormat
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from heed.training.tracking.tracking import EpisodeWriter, SampleEpisode


class TensorBoardWriter(TensorBoardOutputFormat, EpisodeWriter):
    """Writes for TensorBoard.

    Args:
        folder: where its files are; a training that goes on adds another.
        steps: where the training begins or goes on: what a stopped one wrote beyond is hidden, so that its curve goes
            on.
    """

    def __init__(self, folder: Path, *, steps: int):
        # As the parent's constructor, which knows of no steps before.
        self.writer = SummaryWriter(log_dir=str(folder), purge_step=steps + 1 if steps else None)
        self._is_closed = False

    def write_episode(self, episode: SampleEpisode, step: int) -> None:
        """Write an episode's text, its GIF among the images, and its metrics among the scalars."""
        # Four spaces are code in Markdown: nothing in the text is taken for markup.
        text = f"{episode.caption}\n\n{textwrap.indent(episode.text, '    ', lambda line: True)}"
        self.writer.add_text("sample/episode", text, step)
        for name, value in episode.metrics.items():
            self.writer.add_scalar(f"sample/{name}", value, step)
        # The images of its dashboard may be GIFs, and move; `add_video` makes such ones too, but wants moviepy to.
        width, height = size_of_gif(episode.gif)
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=episode.gif)
        events: Any = self.writer.file_writer
        events.add_summary(Summary(value=[Summary.Value(tag="sample/episode", image=image)]), step)
        self.writer.flush()


def size_of_gif(gif: bytes) -> tuple[int, int]:
    """Return a GIF's width and height: two little-endian numbers behind its six letters."""
    width, height = struct.unpack_from("<HH", gif, 6)
    return width, height
