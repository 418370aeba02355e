"""A language as data: how BabyAI's instructions are said in it, in a YAML file that a speaker can read and correct.

    nouns:      what each kind of thing is called; with a gender and its own articles where the language has them
    colors:     the adjectives; one form for each gender where they agree
    places:     "on your left", ...
    thing:      how article, noun, color and place stand together
    relations:  "left of", ..., and as `related` how the thing and what it is related to (`anchor`) stand together; a
                language without them cannot say instructions that name things so
    clauses:    what to do; several forms of a clause are drawn from
    clauses_in_sequences:  the same inside "..., then ...", where that differs
    clauses_after_you:     and after "after you", where that differs
    sequences:  how two clauses are joined
    contractions:  what becomes of words that meet ("de le" is "du"), in this order

Without `nouns`, things keep their English names, and the file is about another way to say it in English.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heed.envs.babyai.grammar import COLORS, KINDS, PLACES, VERBS, Instruction, Sequence, Thing
from heed.envs.babyai.relations import RELATIONS
from heed.envs.wording.words import drawn

_SECTIONS: dict[str, tuple[str, ...]] = {
    "clauses": VERBS,
    "sequences": ("and", "then", "after"),
    "nouns": KINDS,
    "colors": COLORS,
    "places": PLACES,
}
_OPTIONAL = ("thing", "related", "relations", "clauses_in_sequences", "clauses_after_you", "contractions")


class LanguageDataError(ValueError):
    """A language's file cannot be used. The message names the file, and what is missing or wrong in it."""


class Language:
    """Says instructions of BabyAI's grammar in the words of a file.

    Args:
        path: of the YAML file.

    Raises:
        LanguageDataError: if it cannot be read, or lacks words.
    """

    def __init__(self, path: Path):
        self.path = path
        data = _read(path)
        self._clauses = data["clauses"]
        self._in_sequences = data.get("clauses_in_sequences", self._clauses)
        self._after_you = data.get("clauses_after_you", self._in_sequences)
        self._sequences = data["sequences"]
        self._nouns = data.get("nouns")
        self._colors, self._places = data.get("colors", {}), data.get("places", {})
        self._thing = data.get("thing", "")
        self._related, self._relations = data.get("related", ""), data.get("relations", {})
        contractions = data.get("contractions", {})
        self._contractions = [(re.compile(rf"(?<!\w){re.escape(key)}"), value) for key, value in contractions.items()]
        self._try_all()

    def say(self, instruction: Instruction, generator: np.random.Generator | None = None) -> str:
        """Return the words for an instruction.

        Args:
            instruction: what is to be said.
            generator: of the draw among several forms; None takes the first of each.
        """
        words = self._say(instruction, generator, self._clauses)
        for pattern, contracted in self._contractions:
            words = pattern.sub(contracted, words)
        return words

    def _say(self, instruction: Instruction, generator: np.random.Generator | None, clauses: Mapping[str, Any]) -> str:
        if isinstance(instruction, Sequence):
            second = self._after_you if instruction.order == "after" else self._inside(clauses)
            return _drawn(self._sequences[instruction.order], generator).format(
                first=self._say(instruction.first, generator, self._inside(clauses)),
                second=self._say(instruction.second, generator, second),
            )
        form = _drawn(clauses[instruction.verb], generator)
        beside = self.name(instruction.beside) if instruction.beside else ""
        return form.format(thing=self.name(instruction.thing), beside=beside)

    def can_say(self, instruction: Instruction) -> bool:
        """Say whether the file has all words for an instruction: relations may be missing."""
        if isinstance(instruction, Sequence):
            return self.can_say(instruction.first) and self.can_say(instruction.second)
        return instruction.thing.anchor is None or self._nouns is None or bool(self._relations)

    def _inside(self, clauses: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the clauses of the parts of a sequence: what stands after "after you" stays in that form."""
        return self._in_sequences if clauses is self._clauses else clauses

    def name(self, thing: Thing) -> str:
        """Return the words for a thing."""
        if self._nouns is None:
            return str(thing)
        if thing.anchor is not None and thing.relation is not None:
            relation = self._relations[thing.relation]
            thing_words, anchor_words = self.name(thing.alone), self.name(thing.anchor)
            return str(self._related).format(thing=thing_words, relation=relation, anchor=anchor_words)
        noun = self._nouns[thing.kind]
        color = self._colors[thing.color] if thing.color else ""
        words = str(self._thing).format(
            article=noun[thing.article],
            noun=noun["word"],
            color=color[noun["gender"]] if isinstance(color, Mapping) else color,
            place=self._places[thing.place] if thing.place else "",
        )
        return " ".join(words.split())

    def _try_all(self) -> None:
        """Say everything once, so that what is missing is told here and not in the middle of an episode."""
        things = [
            Thing(article=article, color=color, kind=kind, place=place)
            for article in ("a", "the")
            for color in COLORS
            for kind in KINDS
            for place in PLACES
        ]
        if self._relations:
            things += [replace(things[0], relation=relation, anchor=things[-1]) for relation in RELATIONS]
        try:
            names = {self.name(thing) for thing in things}
            for clauses in (self._clauses, self._in_sequences, self._after_you):
                for verb in VERBS:
                    for form in _forms(clauses[verb]):
                        fields = {"thing": "THING", "beside": "BESIDE"}
                        if verb != "put":
                            del fields["beside"]
                        _require_fields(form, fields)
            for order in _SECTIONS["sequences"]:
                for form in _forms(self._sequences[order]):
                    _require_fields(form, {"first": "FIRST", "second": "SECOND"})
            if self._relations:
                _require_fields(self._related, {"thing": "THING", "relation": "RELATION", "anchor": "ANCHOR"})
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            told = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise LanguageDataError(f"{self.path} cannot be used: {told}.") from None
        if len(names) < len(things):
            raise LanguageDataError(f"{self.path} cannot be used: it has the same words for different things.")


def _require_fields(form: Any, fields: Mapping[str, str]) -> None:
    said = str(form).format(**fields)
    missing = [name for name, mark in fields.items() if mark not in said]
    if missing:
        raise ValueError(f"{form!r} lacks {{{missing[0]}}}")


def _forms(forms: Any) -> list[Any]:
    return forms if isinstance(forms, list) else [forms]


def _drawn(forms: Any, generator: np.random.Generator | None) -> str:
    several = _forms(forms)
    return str(several[0] if generator is None or len(several) == 1 else drawn(several, generator))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LanguageDataError(f"{path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise LanguageDataError(f"{path} cannot be used: it is no mapping of sections such as `clauses`.")
    needed = _SECTIONS if "nouns" in data else {name: _SECTIONS[name] for name in ("clauses", "sequences")}
    for section, words in needed.items():
        if not isinstance(data.get(section), dict):
            raise LanguageDataError(f"{path} cannot be used: it has no section `{section}`.")
        missing = [word for word in words if word not in data[section]]
        if missing:
            raise LanguageDataError(f"{path} cannot be used: `{section}` has nothing for {missing[0]!r}.")
    unknown = [section for section in data if section not in (*_SECTIONS, *_OPTIONAL)]
    if unknown:
        raise LanguageDataError(f"{path} cannot be used: `{unknown[0]}` is no section of a language.")
    return data
