"""The text that `heed-tiny` is pretrained on: the environments' own language, and questions about it.

A document holds what an agent sees and some questions with their answers, in the form of heed-tiny's prompts:

    red ball 2 left 3 ahead; wall 4 ahead
    where is the red ball
    2 left 3 ahead
    go to a blue key
    nowhere

The answer follows an instruction as an action does in training. So the model learns to find the thing that an
instruction names among the things that it sees, but nothing of what to do about it: no action of an expert, or of
anybody, is in the corpus.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from heed.envs.make import make_env

LEVELS = (
    "BabyAI-GoToLocal-v0",
    "BabyAI-PutNextLocal-v0",
    "BabyAI-PickupLoc-v0",
    "BabyAI-GoTo-v0",
    "BabyAI-GoToObjS6-v1",
    "BabyAI-SynthLoc-v0",
    "BabyAI-UnblockPickup-v0",
    "BabyAI-GoToRedBall-v0",
    "BabyAI-OpenDoorsOrderN4-v0",
)
"""Levels whose observations and instructions make up the corpus."""

COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
KINDS = ("ball", "box", "key", "door")
QUESTIONS = ("go to {}", "pick up {}", "where is {}", "find {}", "open {}", "look at {}", "put {} next to {}")
ABSENT = "nowhere"
"""The answer where the thing is not in sight."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about an observation: the words, what they name, and where the nearest such thing is."""

    text: str
    thing: str
    place: str


def collect_observations(*, per_level: int, seed: int, levels: Sequence[str] = LEVELS) -> list[str]:
    """Play the levels at random and return the different observations, sorted.

    Args:
        per_level: how many different observations to collect from each level, at the most.
        seed: of episodes and actions.
        levels: environment ids.
    """
    found: set[str] = set()
    for level in levels:
        generator = np.random.default_rng(seed)
        env = make_env(level)
        here: set[str] = set()
        for episode in range(per_level):
            observation, _ = env.reset(seed=seed + episode)
            for _ in range(24):
                # Where the instruction speaks of the start, so does the observation; it is no thing to ask for.
                here.add(observation["observation"].split("; start ")[0])
                # Going forward more often than the rest sees more of a level.
                action = int(generator.choice([0, 1, 2, 2, 2, 3, 4, 5]))
                observation, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    break
            if len(here) >= per_level:
                break
        env.close()
        found |= here
    return sorted(found)


def things_in(observation: str) -> dict[str, str]:
    """Return where each thing that an observation names is: {"red ball": "2 left 3 ahead"}, the nearest first."""
    places: dict[str, str] = {}
    for phrase in observation.split("; "):
        words = phrase.split()
        kinds = [index for index, word in enumerate(words) if word in KINDS]
        if not kinds or words[0] == "carrying":
            continue
        end = kinds[0] + 1
        # A door's "closed" and "open" belong to its state: an instruction names its colour.
        places.setdefault(" ".join(words[end - 2 : end]), " ".join(words[end:]))
    return places


def ask(observation: str, generator: random.Random) -> Question:
    """Make up a question about an observation: three in four about something that is there.

    Most name colour and kind ("a red ball"), some only one of them ("a ball", "the red object"), as BabyAI does.
    """
    places = things_in(observation)
    thing = generator.choice(list(places)) if places and generator.random() < 0.75 else _any_thing(generator)
    color, kind = thing.split()
    form = generator.random()
    if form < 0.1:
        thing, same = kind, [name for name in places if name.endswith(f" {kind}")]
    elif form < 0.15:
        thing, same = f"{color} object", [name for name in places if name.startswith(f"{color} ")]
    else:
        same = [name for name in places if name == thing]
    text = generator.choice(QUESTIONS).format(
        f"{generator.choice(['the', 'a'])} {thing}", f"{generator.choice(['the', 'a'])} {_any_thing(generator)}"
    )
    return Question(text=text, thing=thing, place=places[same[0]] if same else ABSENT)


def answer(place: str, generator: random.Random) -> str:
    """Say a place in either order, "2 left 3 ahead" or "3 ahead 2 left".

    What comes next may so be any part of the place, and a model that is to foresee it must know all of it.
    """
    words = place.split()
    parts = [" ".join(words[index : index + 2]) for index in range(0, len(words), 2)]
    if generator.random() < 0.5:
        parts.reverse()
    return " ".join(parts)


def documents(observations: Sequence[str], *, questions: int, generator: random.Random) -> Iterator[str]:
    """Yield documents about randomly chosen observations without end, each with that many questions."""
    while True:
        observation = generator.choice(observations)
        lines = [observation]
        for _ in range(questions):
            question = ask(observation, generator)
            lines += [question.text, answer(question.place, generator)]
        yield "".join(f" {line}\n" for line in lines)


def _any_thing(generator: random.Random) -> str:
    return f"{generator.choice(COLORS)} {generator.choice(KINDS)}"
