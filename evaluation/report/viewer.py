"""The data of the step viewer: episodes as JSON that stands inside the page, small enough to be sent around."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from markupsafe import Markup
from PIL import Image

from heed.evaluation.explanation.episode import verdict
from heed.evaluation.explanation.tracing import Trace, TracedStep, as_png
from heed.policies.prompts.words import PARTS

MAX_BYTES = 2_000_000
"""Of all episodes together, so that a page with charts and GIFs stays below 3 MB."""

SIDES = (256, 192, 128, 96)
"""Pixels of a picture's longer side: where episodes take more than `MAX_BYTES`, the next smaller ones are tried."""

FEWEST_STEPS = 8
"""An episode keeps so many, however large its texts are."""

DIGITS = 4
"""Significant digits of what words did."""

Shrink = Callable[[bytes, int], bytes]
"""Makes a picture's longer side so many pixels, if it has more."""


def viewer_data(traces: Sequence[Trace], *, max_bytes: int = MAX_BYTES) -> Markup | None:
    """Return episodes as JSON that may stand in a script element; None where there are none.

    Where they are too large, their pictures shrink, and then steps in their middle are left out; the page says so.

    Args:
        traces: the episodes.
        max_bytes: of all together.
    """
    if not traces:
        return None
    shrink = functools.cache(_shrunk)  # an episode that is shortened keeps its pictures
    drawn = {one for trace in traces for one in [trace.end_picture, *(step.picture for step in trace.steps)] if one}
    full = sum(map(len, drawn)) * 4 / 3  # as base64
    for side in SIDES:
        # To make pictures smaller takes time, and about how small they get is known before.
        if full * (side / SIDES[0]) ** 2 > 2 * max_bytes and side != SIDES[-1]:
            continue
        text = as_script_text([_as_json(trace, side, shrink) for trace in traces])
        if len(text) <= max_bytes:
            return Markup(text)
    while (most := max(len(trace.steps) for trace in traces)) > FEWEST_STEPS:
        traces = [shortened(trace, max(FEWEST_STEPS, int(most * 0.75))) for trace in traces]
        text = as_script_text([_as_json(trace, SIDES[-1], shrink) for trace in traces])
        if len(text) <= max_bytes:
            break
    return Markup(text)


def shortened(trace: Trace, steps: int) -> Trace:
    """Return an episode with at most so many steps, three quarters of them from its beginning."""
    if len(trace.steps) <= steps:
        return trace
    last = steps // 4
    return dataclasses.replace(trace, steps=(*trace.steps[: steps - last], *trace.steps[len(trace.steps) - last :]))


def as_script_text(data: Any) -> str:
    """Return JSON that nothing in it can end the script element around it, or begin a comment there.

    Instructions and observations come from anybody's environment.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _as_json(trace: Trace, side: int, shrink: Shrink) -> dict[str, Any]:
    pictures = _Pictures(side, shrink)
    steps = [_step_as_json(step, trace, pictures) for step in trace.steps]
    return {
        "title": trace.title,
        "seed": trace.seed,
        "instruction": trace.instruction,
        "trueInstruction": trace.true_instruction,
        "valueName": trace.value_name,
        "explainedName": trace.explained_name,
        "length": trace.length,
        "leftOut": _left_out(trace.steps),
        "steps": steps,
        "end": {
            "picture": pictures.number_of(trace.end_picture),
            "observation": trace.end_observation,
            "success": trace.success,
            "verdict": verdict(success=trace.success, finished=trace.finished),
            "shownSuccess": trace.shown_success,
            "return": _number(trace.episode_return),
        },
        "pictures": pictures.addresses,
    }


def _left_out(steps: Sequence[TracedStep]) -> list[int] | None:
    """Return the first and the last step that is left out, or None."""
    for before, behind in itertools.pairwise(steps):
        if behind.number > before.number + 1:
            return [before.number + 1, behind.number - 1]
    return None


def _step_as_json(step: TracedStep, trace: Trace, pictures: _Pictures) -> dict[str, Any]:
    return {
        "number": step.number,
        "picture": pictures.number_of(step.picture),
        "instruction": step.instruction,
        "observation": step.observation,
        "actions": _actions(step),
        "action": step.action_text,
        "value": _number(step.value),
        "reward": _number(step.reward),
        "words": _words(step),
    }


def _actions(step: TracedStep) -> list[dict[str, Any]]:
    """Return every action with its probability and whether it was taken; nothing where there is no such list."""
    if step.probabilities is None:
        return []
    texts = step.action_texts or tuple(f"action {number}" for number in range(len(step.probabilities)))
    return [
        {"text": text, "probability": _number(probability), "taken": number == int(step.action)}
        for number, (text, probability) in enumerate(zip(texts, step.probabilities, strict=True))
    ]


def _words(step: TracedStep) -> dict[str, Any] | None:
    """Return where the words stand, in Unicode characters, and what each of them did."""
    saliency = step.saliency
    if saliency is None:
        return None
    return {
        "explained": _number(saliency.explained),
        "spans": [[PARTS.index(word.part), word.start, word.end] for word in saliency.words],
        "leave-one-out": _numbers(saliency.leave_one_out),
        "gradient-x-input": _numbers(saliency.gradient_x_input),
        "gradient-norm": _numbers(saliency.gradient_norm),
    }


class _Pictures:
    """Pictures as addresses that hold them, each different one once: who turns round sees the same again."""

    def __init__(self, side: int, shrink: Shrink):
        self.addresses: list[str] = []
        self._side = side
        self._shrink = shrink
        self._numbers: dict[bytes, int] = {}

    def number_of(self, picture: bytes | None) -> int | None:
        """Return a picture's place in `addresses`, or None for none."""
        if picture is None:
            return None
        if picture not in self._numbers:
            self._numbers[picture] = len(self.addresses)
            encoded = base64.b64encode(self._shrink(picture, self._side)).decode()
            self.addresses.append(f"data:image/png;base64,{encoded}")
        return self._numbers[picture]


def _shrunk(picture: bytes, side: int) -> bytes:
    with Image.open(io.BytesIO(picture)) as image:
        scale = side / max(image.size)
        if scale >= 1:
            return picture
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        smaller = as_png(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    assert smaller is not None
    return smaller


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float | None) -> float | None:
    """Return a number with few digits, or None where JSON has none for it."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.{DIGITS}g}")
