"""Scenes that ask for more than binding: what heed-words does not understand, measured.

    python -m tools.binding.limits --wordnet /usr/share/wordnet

prints how often the pretrained model's best action is right, beside chance. Nothing here was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from heed.policies.models.loading import load_language_model
from heed.policies.words.building import SceneBuilder
from heed.policies.words.model import WordsModel
from heed.policies.words.vectors import WordVectors
from tools.binding.lexicon import load_lexicon
from tools.binding.phrases import ORDINALS, TRAIN
from tools.binding.pretrain import Binding, accuracies
from tools.binding.scenes import Drawer, Scene

COLOR_NAMES = {
    "red": ("crimson", "scarlet", "ruby"),
    "green": ("emerald", "olive", "jade"),
    "blue": ("azure", "navy", "cobalt"),
    "yellow": ("golden", "amber", "lemon"),
    "purple": ("violet", "mauve", "lilac"),
}
OPPOSITES = (("hot", "cold"), ("wet", "dry"), ("heavy", "light"), ("empty", "full"), ("old", "new"), ("loud", "quiet"))
NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def other_names_of_colors(d: Drawer) -> Scene:
    """A colour is called by a name that means it: "take the crimson thing"."""
    noun, colors = d.noun(), list(d.generator.permutation(list(COLOR_NAMES)))
    goal = d.number(0, len(colors) - 1)
    things = [f"{color} {noun}" for color in colors]
    instruction = f"{d.verb()} the {d.one(COLOR_NAMES[colors[goal]])} {noun}"
    return d.scene(instruction, things, "; ", d.choose(things), goal)


def opposites(d: Drawer) -> Scene:
    """A thing is named by what it is not like: "take what is the opposite of hot"."""
    pairs = [OPPOSITES[index] for index in d.generator.permutation(len(OPPOSITES))[:3]]
    asked, answer = pairs[0] if d.chance(0.5) else pairs[0][::-1]
    nouns = d.nouns(4)
    things = [
        f"{word} {noun}"
        for word, noun in zip((answer, asked, *(d.one(pair) for pair in pairs[1:])), nouns, strict=True)
    ]
    order = d.generator.permutation(4)
    seen = [things[index] for index in order]
    instruction = f"{d.verb()} the thing that is the opposite of {asked}"
    return d.scene(instruction, seen, "; ", d.choose(seen), seen.index(things[0]))


def counting(d: Drawer) -> Scene:
    """A kind is named by how often it is seen: "take what there are two of"."""
    nouns = d.nouns(3)
    count = d.number(2, 3)
    seen = [nouns[0]] * count + nouns[1:]
    segments = [f"a {seen[index]}" for index in d.generator.permutation(len(seen))]
    return d.scene(f"{d.verb()} what there are {NUMBER_WORDS[count - 1]} of", segments, ", ", d.choose(nouns), 0)


def comparing(d: Drawer) -> Scene:
    """A thing is named by having the most of something: "take the thing with the largest number"."""
    nouns = d.nouns(4)
    numbers = [int(number) for number in d.generator.choice(np.arange(1, 30), 4, replace=False)]
    word, goal = ("largest", int(np.argmax(numbers))) if d.chance(0.5) else ("smallest", int(np.argmin(numbers)))
    segments = [f"{noun} {number}" for noun, number in zip(nouns, numbers, strict=True)]
    return d.scene(f"{d.verb()} the thing with the {word} number", segments, "; ", d.choose(nouns), goal)


def number_words(d: Drawer) -> Scene:
    """A number stands as a word in the instruction and as a digit in what is seen: "open slot three", "slot 3"."""
    count = d.number(3, 8)
    goal, noun = d.number(0, count - 1), d.noun()
    labels = [f"{noun} {index + 1}" for index in range(count)]
    spoken = f"{noun} {NUMBER_WORDS[goal]}" if d.chance(0.5) else f"the {ORDINALS[goal]} {noun}"
    return d.scene(f"{d.verb()} {spoken}", labels, "; ", d.choose(labels), goal)


def pronouns(d: Drawer) -> Scene:
    """A thing is named by a pronoun for what was said before: "look at the lamp. now take it"."""
    things = d.things(4)
    goal = d.number(0, 3)
    other = (goal + d.number(1, 3)) % 4
    instruction = f"leave the {things[other]} and look at the {things[goal]}; take the second of them, not the first"
    return d.scene(instruction, list(map(str, things)), "; ", d.choose(things), goal)


LIMITS: tuple[Callable[[Drawer], Scene], ...] = (
    other_names_of_colors,
    opposites,
    counting,
    comparing,
    number_words,
    pronouns,
)


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """Measure what heed-words does not understand."""

    wordnet: Path
    """Folder of WordNet's files."""
    model: str = "heed-words"
    """The model, or a folder."""
    scenes: int = 500
    """Of each kind."""
    seed: int = 0
    """Of the scenes."""


def main(config: LimitsConfig) -> None:
    """Print a row for each kind of scene, with an example."""
    model = load_language_model(config.model).model
    assert isinstance(model, WordsModel)
    binding = Binding(model, SceneBuilder(WordVectors(model.mean.numpy())))
    lexicon = load_lexicon(config.wordnet, "train")
    for kind in LIMITS:
        drawer = Drawer(lexicon, TRAIN, config.seed)
        scenes = [kind(drawer) for _ in range(config.scenes)]
        right, _, chance = accuracies(binding, scenes)
        name = kind.__name__.replace("_", " ")
        example = f"{scenes[0].instruction!r} in {scenes[0].observation!r}"
        print(f"{name}: {right:.2f} (chance {chance:.2f}); {example}")


if __name__ == "__main__":
    main(tyro.cli(LimitsConfig))
