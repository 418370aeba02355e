"""How often the part of an observation that is nearest to the instruction names the thing that is meant.

No training: this is what `--model minilm` brings along for its agents to begin with (docs/encoders.md).

    python -m examples.nearest_segments
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from heed.envs.make import make
from heed.evaluation.axes import Rewording, axis
from heed.policies import load_language_model
from heed.policies.models.encoders import read_texts

LEVEL = "BabyAI-GoToLocal-v0"
AXES = ("true", "synonyms", "paraphrase", "unseen-words")
SCENES = 200


def scenes(generator: np.random.Generator) -> list[tuple[str, list[str]]]:
    """Return instructions with the parts of what is seen, of random play, where what is meant is in sight."""
    found: list[tuple[str, list[str]]] = []
    env = make(LEVEL, n_envs=16, seed=0)
    words: Any = env.reset()
    while len(found) < SCENES:
        for instruction, observation in zip(words["instruction"], words["observation"], strict=True):
            parts = observation.split("; ")
            if generator.random() < 0.2 and any(meant(instruction, part) for part in parts):
                found.append((instruction, parts))
        words = env.step(generator.integers(0, 3, 16))[0]
    return found[:SCENES]


def meant(instruction: str, part: str) -> bool:
    """Say whether a part of an observation tells of the thing that an instruction names, colour and kind."""
    return part.split()[:2] == instruction.split()[-2:]


def main() -> None:
    """Print the share of scenes on each axis of wording."""
    generator = np.random.default_rng(0)
    language_model = load_language_model("minilm")
    assert language_model.pooling is not None
    pooling = language_model.pooling

    def vectors(texts: list[str]) -> Tensor:
        tokens = [np.array(language_model.tokenizer.encode(text)) for text in texts]
        with torch.no_grad():
            return torch.nn.functional.normalize(read_texts(language_model.model, pooling, tokens), dim=1)

    played = scenes(generator)
    chance = np.mean([np.mean([meant(told, part) for part in parts]) for told, parts in played])
    print(f"{SCENES} scenes of {LEVEL}; a part drawn at random: {chance:.2f}")
    for name in AXES:
        rewording = axis(name)
        right = 0
        for instruction, parts in played:
            told = rewording.reword(instruction, generator) if isinstance(rewording, Rewording) else instruction
            nearest = int((vectors(parts) @ vectors([told])[0]).argmax())
            right += meant(instruction, parts[nearest])
        print(f"{name:14} {right / SCENES:.2f}")


if __name__ == "__main__":
    main()
