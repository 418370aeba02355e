"""One episode as an animated GIF, and in words: what the agent is told, what it sees, how likely it finds each action.

The picture stands under the instruction; beside it the action probabilities, the action that is taken
highlighted. The last frame says success or failure. An environment that draws no picture gets its observation's
words in that place, an agent without action probabilities the action that it takes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from heed.agents.agent import LanguageAgent
from heed.envs.make import make_env
from heed.evaluation.explanation.episode import (
    PICTURE,
    NextStep,
    Play,
    newest_words,
    picture_of,
    verdict,
)

logger = logging.getLogger(__name__)

_CANNOT_DRAW: set[str] = set()
"""Packages whose environments could not draw in this process. They are not asked again: without OpenGL, MuJoCo raises
an error the first time, and ends the process the second time."""

MAX_BYTES = 300_000
"""A GIF larger than this loses every second frame, until it is not: two of them go into a report."""

MAX_FRAMES = 96
"""Longer episodes show every second step, or every fourth, ...; the last frame is always there."""

MAX_CHARACTERS = 500
"""Of an observation in the transcript; what is longer, as a web page, is cut."""

STEP_MILLISECONDS = 250
END_MILLISECONDS = 2500

PANEL = 216  # width of the action probabilities
MARGIN = 14
GAP = 16
WIDTH = MARGIN + PICTURE + GAP + PANEL + MARGIN
LINE = 24  # height of a line of the instruction
ROW = 31  # height of an action: its text and its bar
MAX_INSTRUCTION_LINES = 3
MAX_ROWS = 8  # actions shown; where there are more, the most probable ones
COLOURS = 64

# Dark, so that it looks like a screen on a light page and does not glare on a dark one.
BACKGROUND = (24, 28, 34)
INK = (236, 239, 243)
FAINT_INK = (150, 160, 172)
BAR = (84, 95, 108)
TRACK = (40, 46, 54)
TAKEN = (90, 169, 255)
SUCCESS = (63, 185, 110)
FAILURE = (235, 96, 88)
_OWN_COLOURS = (BACKGROUND, INK, FAINT_INK, BAR, TRACK, TAKEN, SUCCESS, FAILURE)

_FrameImage = Image.Image


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One episode, recorded."""

    gif: bytes
    instruction: str
    """As the agent was told it at the beginning."""
    success: bool
    steps: int
    episode_return: float
    seed: int
    transcript: str = ""
    """The same in words, step by step."""
    finished: bool = True
    """Whether the episode came to its end; else it was given up after these steps."""

    @property
    def caption(self) -> str:
        """What happens in it, in a line."""
        told = f"“{self.instruction}”" if self.instruction else "no instruction"
        how = verdict(success=self.success, finished=self.finished)
        return f"{how}: {told}, {_count(self.steps, 'step')}"

    def write(self, path: Path) -> Path:
        """Write the GIF to `path` and return it."""
        path.write_bytes(self.gif)
        return path


def make_recordable_env(
    env_id: str, *, history: int = 0, make: Callable[..., gymnasium.Env[Any, Any]] = make_env
) -> gymnasium.Env[Any, Any]:
    """Make a language environment that draws pictures, or if it cannot, one that does not.

    Many draw by a library of the operating system's, which a machine without a screen may lack: that is told, and costs
    the pictures only.

    Args:
        env_id: as in `heed.envs.make.make_env`.
        history: as in `heed.envs.make.make_env`.
        make: `heed.envs.make.make_env`, or what takes the same arguments: an axis's `make_env`.

    Raises:
        UnknownEnvironmentError, ContractError: as in `heed.envs.make.make_env`.
    """
    env = make(env_id, history=history)
    if "rgb_array" not in (env.metadata.get("render_modes") or ()):
        return env
    package = ".".join(type(env.unwrapped).__module__.split(".")[:2])
    if package in _CANNOT_DRAW:
        return env
    drawing = make(env_id, history=history, render_mode="rgb_array")
    try:
        drawing.reset(seed=0)
        drawing.render()
    except Exception as error:  # whatever its library raises
        logger.warning("%s cannot draw here, so it is shown in words: %s: %s", env_id, type(error).__name__, error)
        _CANNOT_DRAW.add(package)
        with contextlib.suppress(Exception):
            drawing.close()
        return env
    env.close()
    return drawing


def record_episode(
    agent: LanguageAgent,
    env: gymnasium.Env[Any, Any],
    *,
    seed: int,
    generator: np.random.Generator,
    max_episode_steps: int | None = None,
) -> Recording:
    """Play one episode with sampled actions and record it.

    With `generator = heed.envs.demonstrations.demonstrate.action_generator(seed)` it is the episode that the
    evaluation plays for that seed with sampled actions.

    Args:
        agent: chooses the actions.
        env: a language environment; its `render` is used where its `render_mode` is "rgb_array".
        seed: of the episode.
        generator: draws the actions.
        max_episode_steps: as in `Play`.

    Returns:
        The recording: one frame for each step (fewer where the episode is long) and one that shows the end.
    """
    play = Play(agent, env, seed=seed, generator=generator, max_episode_steps=max_episode_steps)
    stage = _Stage(play.instruction)
    film = _Film()
    lines: list[str] = []
    for moment in play:
        lines += _in_words(newest_words(env, moment.observation), moment)
        if film.wants_next():
            film.frames.append(stage.step(_view(env, moment.observation), moment))
    end = stage.end(_view(env, play.observation), play)
    return Recording(
        gif=encode_gif(film.frames, end),
        instruction=play.instruction,
        success=play.success,
        steps=play.steps,
        episode_return=play.episode_return,
        seed=seed,
        finished=play.finished,
        transcript="\n".join([f"Instruction: {play.instruction or '(none)'}", *lines, _ending(play)]),
    )


def _in_words(seen: str, moment: NextStep) -> Iterator[str]:
    """Yield the lines of a transcript for one step."""
    yield f"{moment.number}. sees: {seen[:MAX_CHARACTERS]}{'…' if len(seen) > MAX_CHARACTERS else ''}"
    likely = ""
    if moment.probabilities is not None:
        likely = f" ({100 * moment.probabilities[int(moment.action)]:.0f} %)"
    yield f"   does: {moment.describe(moment.action)}{likely}"


def _ending(play: Play) -> str:
    return f"{play.verdict} after {_count(play.steps, 'step')}, return {play.episode_return:.2f}."


def encode_gif(frames: Sequence[_FrameImage], end: _FrameImage) -> bytes:
    """Encode `frames` and the frame at the `end` as a GIF with one palette, thinned until it is small enough."""
    frames = list(frames)
    palette = _shared_palette([frames[0], frames[len(frames) // 2], end])
    images = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in [*frames, end]]
    while True:
        gif = _encode(images)
        if len(gif) <= MAX_BYTES or len(images) <= 8:
            return gif
        images = [*images[:-1:2], images[-1]]


def _encode(images: Sequence[_FrameImage]) -> bytes:
    file = io.BytesIO()
    durations = [STEP_MILLISECONDS] * (len(images) - 1) + [END_MILLISECONDS]
    images[0].save(
        file, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False
    )
    return file.getvalue()


def _shared_palette(samples: Sequence[_FrameImage]) -> _FrameImage:
    """Return an image whose palette suits `samples` and holds the colours of bars and text."""
    width, height = samples[0].size
    stripe = height // len(_OWN_COLOURS)
    montage = Image.new("RGB", (width, height * (len(samples) + 1)), BACKGROUND)
    for index, sample in enumerate(samples):
        montage.paste(sample, (0, index * height))
    # Stripes of our own colours: the quantiser would otherwise give up a colour that covers few pixels.
    for index, colour in enumerate(_OWN_COLOURS):
        montage.paste(
            colour, (0, len(samples) * height + index * stripe, width, len(samples) * height + (index + 1) * stripe)
        )
    return montage.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


class _Film:
    """Frames, of which it keeps every second, every fourth, ... once there are too many."""

    def __init__(self) -> None:
        self.frames: list[_FrameImage] = []
        self._stride = 1
        self._seen = 0

    def wants_next(self) -> bool:
        """Whether the next frame is to be drawn; to be asked once for each."""
        wanted = self._seen % self._stride == 0
        if wanted and len(self.frames) == MAX_FRAMES:
            self.frames = self.frames[::2]
            self._stride *= 2
            wanted = self._seen % self._stride == 0
        self._seen += 1
        return wanted


class _Stage:
    """Draws the frames of one episode, all of the same size."""

    def __init__(self, instruction: str):
        self._instruction_lines = len(_wrap(instruction, WIDTH - 2 * MARGIN, 18, MAX_INSTRUCTION_LINES))
        self._top = MARGIN + self._instruction_lines * LINE + 8
        self._size = (WIDTH, self._top + PICTURE + MARGIN)

    def step(self, view: _FrameImage, moment: NextStep) -> _FrameImage:
        """Draw what the agent sees, and the action that it takes then."""
        frame, draw = self._begin(view, moment.observation["instruction"])
        probabilities, action = moment.probabilities, moment.action
        left = MARGIN + PICTURE + GAP
        draw.text((left, self._top), f"step {moment.number}", fill=FAINT_INK, font=_font(14))
        top = self._top + 26
        if probabilities is None:
            for line in _wrap(moment.describe(action), PANEL, 16, 8):
                draw.text((left, top), line, fill=TAKEN, font=_font(16))
                top += LINE
            return frame
        for index in _shown_actions(probabilities, int(action)):
            text = moment.describe(index)
            _draw_bar(draw, (left, top), text, float(probabilities[index]), taken=index == int(action))
            top += ROW
        hidden = len(probabilities) - MAX_ROWS
        if hidden > 0:
            draw.text((left, top - 2), f"and {_count(hidden, 'other action')}", fill=FAINT_INK, font=_font(12))
        return frame

    def end(self, view: _FrameImage, play: Play) -> _FrameImage:
        """Draw how the episode ended."""
        frame, draw = self._begin(view, play.observation["instruction"])
        colour = SUCCESS if play.success else FAILURE
        corner = (MARGIN, self._top, MARGIN + PICTURE - 1, self._top + PICTURE - 1)
        draw.rectangle(corner, outline=colour, width=6)
        left, top = MARGIN + PICTURE + GAP, self._top + PICTURE // 2 - 56
        draw.rounded_rectangle((left, top, left + PANEL, top + 56), radius=10, fill=colour)
        draw.text(
            (left + PANEL / 2, top + 28),
            play.verdict,
            fill=BACKGROUND,
            font=_font(28),
            anchor="mm",
        )
        draw.text((left, top + 72), f"after {_count(play.steps, 'step')}", fill=INK, font=_font(16))
        draw.text((left, top + 96), f"return {play.episode_return:.2f}", fill=FAINT_INK, font=_font(16))
        return frame

    def _begin(self, view: _FrameImage, instruction: str) -> tuple[_FrameImage, ImageDraw.ImageDraw]:
        frame = Image.new("RGB", self._size, BACKGROUND)
        draw = ImageDraw.Draw(frame)
        lines = _wrap(instruction or "(no instruction)", WIDTH - 2 * MARGIN, 18, self._instruction_lines)
        for number, line in enumerate(lines):
            draw.text((MARGIN, MARGIN + number * LINE), line, fill=INK, font=_font(18))
        frame.paste(view, (MARGIN + (PICTURE - view.width) // 2, self._top + (PICTURE - view.height) // 2))
        return frame, draw


def _view(env: gymnasium.Env[Any, Any], observation: Any) -> _FrameImage:
    # Of a history only its end, as a picture shows only what is there now; the past stands in the frames before.
    return picture_of(env) or _words_as_picture(newest_words(env, observation))


def _words_as_picture(words: str) -> _FrameImage:
    picture = Image.new("RGB", (PICTURE, PICTURE), TRACK)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(_wrap(words, PICTURE - 24, 15, 13)):
        draw.text((12, 12 + number * 20), line, fill=INK, font=_font(15))
    return picture


def _draw_bar(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, probability: float, *, taken: bool
) -> None:
    left, top = corner
    percent = f"{100 * probability:.0f} %"
    room = int(PANEL - _font(14).getlength(percent) - 12)
    ink = TAKEN if taken else FAINT_INK
    draw.text((left, top), _wrap(text, room, 14, 1)[0], fill=ink, font=_font(14))
    draw.text((left + PANEL, top), percent, fill=ink, font=_font(14), anchor="ra")
    draw.rounded_rectangle((left, top + 18, left + PANEL, top + 24), radius=3, fill=TRACK)
    length = round(PANEL * min(max(probability, 0.0), 1.0))
    if length >= 2:
        draw.rounded_rectangle(
            (left, top + 18, left + length, top + 24), radius=min(3, length // 2), fill=TAKEN if taken else BAR
        )


def _shown_actions(probabilities: npt.NDArray[Any], action: int) -> list[int]:
    """Return all actions in their order, or where there are too many the most probable and the one taken."""
    if len(probabilities) <= MAX_ROWS:
        return list(range(len(probabilities)))
    likely = [int(index) for index in np.argsort(-probabilities, kind="stable")]
    shown = likely[:MAX_ROWS]
    return shown if action in shown else [*shown[:-1], action]


def _wrap(text: str, width: int, size: int, max_lines: int) -> list[str]:
    """Break `text` into at least one and at most `max_lines` lines of `width` pixels; what is cut ends in "…"."""
    font = _font(size)
    lines, rest = [""], text.split()
    while rest:
        word = rest.pop(0)
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        elif lines[-1] and len(lines) < max_lines:
            lines.append("")
            rest.insert(0, word)
        else:
            while longer and font.getlength(longer + "…") > width:
                longer = longer[:-1]
            lines[-1] = longer + "…"
            break
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@functools.lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font, so that no font file is needed."""
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow gives a bitmap font only where it lacks FreeType
    return font
