"""An evaluation and an episode for the tests of the report, with what a hostile environment would say."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from heed.evaluation.explanation.recording import Recording
from heed.evaluation.explanation.saliency import Saliency
from heed.evaluation.report import Trace, TracedStep
from heed.policies.prompts.words import PARTS, Word

HOSTILE = "go to </script><script>alert('x')</script><!-- the \"red\" & <img src=x onerror=alert(1)> ball"
ACTIONS = ("turn left", "<b>go forward</b>", "pick up")


def figure(value: float, spread: float = 0.05) -> dict[str, Any]:
    return {"value": value, "ci95": [max(0.0, value - spread), min(1.0, value + spread)]}


def cell(value: float, shown: float | None = None, **figures: float) -> dict[str, Any]:
    others = {name: {"value": number, "ci95": [number - 1, number + 1]} for name, number in figures.items()}
    return {
        "episodes": 512,
        "success": figure(value),
        **({} if shown is None else {"shown_success": figure(shown)}),
        **others,
    }


def evaluation() -> dict[str, Any]:
    """As `heed evaluate` writes it, with all that there can be."""
    axes = [
        {
            "axis": "true",
            "description": "Nothing is changed.",
            "policies": {
                "sampled": cell(0.9, episode_return=0.75, length=12.0),
                "greedy": cell(0.8),
                "random": cell(0.25),
                "expert": cell(1.0),
                "zero-shot": cell(0.375),
            },
        },
        {"axis": "blank", "policies": {"sampled": cell(0.3)}},
        {"axis": "swapped", "policies": {"sampled": cell(0.2, 0.85)}},
        {
            "axis": "french",
            "policies": {"sampled": cell(0.4)},
            "example": {"instruction": HOSTILE, "shown": "va à la balle rouge"},
        },
        {"axis": "more-distractors(count=9)", "policies": {"sampled": cell(0.88), "random": cell(0.125)}},
    ]
    return {
        "suite": "babyai-test",
        "episodes": 512,
        "seed": 0,
        "environments": [
            {
                "env": "World-v0",
                "axes": axes,
                "following": {
                    "score": {"value": 0.857, "ci95": [0.79, 0.91]},
                    "reason": None,
                    "blank": figure(0.3),
                    "expert": figure(1.0),
                },
                "templates": [
                    {"template": "pick up", "axes": {"true": {"episodes": 12, "success": figure(0.5)}}},
                    {
                        "template": HOSTILE,
                        "axes": {"true": {"episodes": 500, "success": figure(0.91)}, "french": cell(0.41)},
                    },
                ],
                "levels": [
                    {"level": name, "axes": {"true": {"sampled": cell(0.625), "random": cell(0.125)}}}
                    for name in ("A", "B")
                ],
            }
        ],
        "missing": [
            {"env": "World-v0", "axis": "larger-rooms", "policy": "", "episodes": 512, "reason": f"No size: {HOSTILE}."}
        ],
        "command": "heed evaluate runs/x --suite babyai-test",
    }


CURVE = [{"steps": 1000.0 * n, "rollout/success_rate": n / 10, "train/loss": 1 / n} for n in range(1, 10)]


def recording() -> Recording:
    return Recording(gif=b"GIF89a...", instruction=HOSTILE, success=True, steps=3, episode_return=1.0, seed=1)


def picture(seed: int = 0, side: int = 256) -> bytes:
    """A PNG of noise, which nothing makes small."""
    generator = np.random.default_rng(seed)
    image = Image.fromarray(generator.integers(0, 64, (side, side), dtype=np.uint8)).convert("P")
    image.putpalette(generator.integers(0, 256, 3 * 256, dtype=np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def traced_step(number: int, *, instruction: str, observation: str, png: bytes | None) -> TracedStep:
    words = tuple(
        Word(part=part, start=text.index(word), end=text.index(word) + len(word), text=word, tokens=(0,))
        for part, text, word in (
            (PARTS[0], instruction, instruction.split()[0]),
            (PARTS[1], observation, observation.split()[0]),
            (PARTS[1], observation, observation.split()[-1]),
        )
    )
    numbers = np.array([0.5, -2.0 * number, 0.125])
    return TracedStep(
        number=number,
        picture=png,
        instruction=instruction,
        observation=observation,
        action=1,
        action_text=ACTIONS[1],
        action_texts=ACTIONS,
        probabilities=np.array([0.25, 0.7496, 0.0004]),
        value=0.5 + number,
        reward=0.0,
        saliency=Saliency(
            action=np.array(1),
            explained=-0.29,
            words=words,
            leave_one_out=numbers,
            gradient_x_input=numbers[::-1].copy(),
            gradient_norm=np.abs(numbers),
        ),
    )


def trace(
    *,
    steps: int = 3,
    length: int | None = None,
    instruction: str = HOSTILE,
    observation: str = "🔴 red ball 2 left",
    different_pictures: bool = False,
    title: str = "",
) -> Trace:
    numbers = list(range(1, steps + 1))
    if length is not None:
        numbers[-1] = length
    same = picture(side=32)
    return Trace(
        title=title,
        seed=7,
        instruction=instruction,
        true_instruction=instruction,
        value_name="value of what is seen",
        explained_name="log-probability",
        steps=tuple(
            traced_step(
                number,
                instruction=instruction,
                observation=f"{observation} {number}",
                png=picture(number) if different_pictures else same,
            )
            for number in numbers
        ),
        length=length or steps,
        end_picture=same,
        end_observation="nothing",
        success=True,
        shown_success=None,
        episode_return=1.0,
    )
