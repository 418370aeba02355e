"""The kinds of wording that train, by name: how each says an instruction, and of which it can.

To add one: a class with `applies` and `say`, and a line in `WORDINGS`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heed.envs.babyai.grammar import COLORS, KINDS, is_of_the_grammar, parse
from heed.envs.wording.language import Language
from heed.envs.wording.typos import SHARE, mistyped, with_typos
from heed.envs.wording.words import VOCABULARY, drawn, has_one, long_words, replaced

DATA = Path(__file__).parent / "data"
"""Where the words are that train."""


class Wording(ABC):
    """Says an instruction in other words."""

    @abstractmethod
    def applies(self, instruction: str) -> bool:
        """Say whether it can say this instruction."""

    @abstractmethod
    def say(self, instruction: str, generator: np.random.Generator, valid: Collection[str] = VOCABULARY) -> str:
        """Return the instruction in other words.

        Args:
            instruction: one that it `applies` to.
            generator: of what is drawn.
            valid: words in lower case that no typo may come to.
        """


class Translated(Wording):
    """As a file says BabyAI's instructions: a language, or other English words."""

    def __init__(self, *names: str):
        self._paths = tuple(DATA / f"{name}.yaml" for name in names)

    def applies(self, instruction: str) -> bool:
        """Say whether it is of BabyAI's grammar."""
        return is_of_the_grammar(instruction)

    def say(self, instruction: str, generator: np.random.Generator, valid: Collection[str] = VOCABULARY) -> str:
        """Draw one of the files, and of it a form."""
        path = self._paths[0] if len(self._paths) == 1 else drawn(self._paths, generator)
        return language(path).say(parse(instruction), generator)


class Forms(Wording):
    """With other words around it, whatever it says."""

    def __init__(self, section: str):
        self._section = section

    def applies(self, instruction: str) -> bool:
        """Say whether there is one."""
        return bool(instruction.strip())

    def say(self, instruction: str, generator: np.random.Generator, valid: Collection[str] = VOCABULARY) -> str:
        """Draw a form."""
        return str(drawn(data("politeness")[self._section], generator)).format(instruction=instruction)


class Paraphrase(Forms):
    """In another word order where it is of BabyAI's grammar, or with other words around it."""

    def __init__(self) -> None:
        super().__init__("paraphrase")
        self._orders = Translated("paraphrases")

    def say(self, instruction: str, generator: np.random.Generator, valid: Collection[str] = VOCABULARY) -> str:
        """Draw one of the two ways, and then a form."""
        if generator.random() < 0.7 and self._orders.applies(instruction):
            return self._orders.say(instruction, generator)
        return super().say(instruction, generator)


class Words(Wording):
    """With nouns, colors or both that BabyAI has not."""

    def applies(self, instruction: str) -> bool:
        """Say whether it names one of BabyAI's."""
        return has_one(instruction, (*COLORS, *KINDS))

    def say(self, instruction: str, generator: np.random.Generator, valid: Collection[str] = VOCABULARY) -> str:
        """Draw which words are replaced, and by which."""
        return replaced(instruction, generator, data("words")["unseen"])


class Typos(Wording):
    """With typos."""

    def applies(self, instruction: str) -> bool:
        """Say whether a word is long enough."""
        return bool(long_words(instruction))

    def say(self, instruction: str, generator: np.random.Generator, valid: Collection[str] = VOCABULARY) -> str:
        """Draw the words, and a typo for each."""
        return with_typos(instruction, generator, share=SHARE, mistype=functools.partial(mistyped, valid=valid))


class Case(Wording):
    """With other capitals, brackets and punctuation."""

    def applies(self, instruction: str) -> bool:
        """Say whether there is one."""
        return bool(instruction.strip())

    def say(self, instruction: str, generator: np.random.Generator, valid: Collection[str] = VOCABULARY) -> str:
        """Draw one of the ways to write it."""
        return drawn(ways_to_write(instruction), generator)


class Renamed(Wording):
    """With invented names for BabyAI's colors and things, in all that the agent reads of an episode."""

    def applies(self, instruction: str) -> bool:
        """Say whether it names one of them."""
        return has_one(instruction, renamed_words())

    def say(self, instruction: str, generator: np.random.Generator, valid: Collection[str] = VOCABULARY) -> str:
        """Return it as it is: an episode's names are for the observation too, see `names`."""
        return instruction

    def names(self, generator: np.random.Generator) -> dict[str, str]:
        """Draw an episode's names."""
        words, invented = renamed_words(), data("words")["invented"]
        places = generator.choice(len(invented), len(words), replace=False)
        return {word: invented[int(place)] for word, place in zip(words, places, strict=True)}


LANGUAGES = ("german", "spanish", "italian", "portuguese")
"""Those that train. French and Chinese evaluate."""

RENAMED = "renamed"
WORDINGS: Mapping[str, Wording] = {
    "paraphrase": Paraphrase(),
    "synonyms": Translated("synonyms"),
    "words": Words(),
    "typos": Typos(),
    "case": Case(),
    "politeness": Forms("politeness"),
    "languages": Translated(*LANGUAGES),
    RENAMED: Renamed(),
}
"""The kinds of which an episode draws one."""

LONGER, IMPOSSIBLE, INJECTED = "longer", "impossible", "injected"
NAMES = (*WORDINGS, LONGER, IMPOSSIBLE, INJECTED)
"""All that `heed train --augment` takes: kinds of wording, and beside them what an episode may have in addition."""

language = functools.lru_cache(maxsize=16)(Language)


def renamed_words() -> tuple[str, ...]:
    """Return the words that get invented names: an "object" stays, since observations name none."""
    return (*COLORS, *(kind for kind in KINDS if kind != "object"))


def ways_to_write(instruction: str) -> list[str]:
    """Return ways to write an instruction; none of them is one that an evaluation asks for."""
    words = instruction.split()
    ways = [
        " ".join([words[0].upper(), *words[1:]]),
        " ".join([*words[:-1], words[-1].upper()]),
        " ".join(word.upper() if place % 2 else word for place, word in enumerate(words)),
        "".join(letter.upper() if place % 2 else letter for place, letter in enumerate(instruction)),
        " ".join(word[0] + word[1:].upper() for word in words),
        *("_".join(words), "-".join(words), "  ".join(words), f"{' ... '.join(words)}"),
        *(f"[{instruction}]", f"({instruction})", f"<{instruction}>", f"- {instruction}", f"> {instruction}"),
        *(f"{instruction};", f"{instruction} ?!", f"{instruction} :)", f"*{instruction}*", f"1. {instruction}"),
    ]
    plain = {instruction, instruction.upper(), instruction.title(), f"{instruction[:1].upper()}{instruction[1:]}"}
    return [way for way in ways if way not in plain]


@functools.lru_cache(maxsize=16)
def data(name: str) -> dict[str, Any]:
    """Return the content of a file of `data/`."""
    content: dict[str, Any] = yaml.safe_load((DATA / f"{name}.yaml").read_text("utf-8"))
    return content
