"""Scenes of things, an instruction about them, and actions of which one is right.

Each family of scenes is a function of a `Drawer`, which draws words and phrases. A scene's things share their nouns and
adjectives more often than not, so that a single word does not tell which is meant. Families in `HELD_OUT_FAMILIES` only
measure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from tools.binding.lexicon import Lexicon
from tools.binding.phrases import COMMON_VERBS, DIRECTIONS, ORDINALS, PLACES, RELATIONS, ROWS, Phrases

MOST_THINGS = 8
CONFUSABLE = 0.6
"""Share of scenes that few words make up."""

Item = TypeVar("Item")


class Scene(NamedTuple):
    """What an agent would be shown, and what it should do."""

    instruction: str
    observation: str
    actions: tuple[str, ...]
    right: int


class Thing(NamedTuple):
    """Something that is named by an adjective and a noun; the adjective may be missing."""

    adjective: str
    noun: str

    def __str__(self) -> str:
        return f"{self.adjective} {self.noun}".strip()


class Drawer:
    """Draws words and phrases.

    Args:
        lexicon: the words.
        phrases: the templates.
        seed: of all draws.
    """

    def __init__(self, lexicon: Lexicon, phrases: Phrases, seed: int):
        self.lexicon = lexicon
        self.phrases = phrases
        self.generator = np.random.default_rng(seed)

    def one(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[int(self.generator.integers(len(items)))]

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return bool(self.generator.random() < probability)

    def number(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included."""
        return int(self.generator.integers(low, high + 1))

    def noun(self) -> str:
        """Return a noun."""
        return self.one(self.lexicon.words["noun"])

    def adjective(self) -> str:
        """Return an adjective."""
        return self.one(self.lexicon.words["adj"])

    def verb(self) -> str:
        """Return a verb: a common one, or any."""
        return self.one(COMMON_VERBS) if self.chance(0.7) else self.one(self.lexicon.words["verb"])

    def nouns(self, count: int, besides: Sequence[str] = ()) -> list[str]:
        """Return different nouns."""
        found: list[str] = []
        while len(found) < count:
            noun = self.noun()
            if noun not in found and noun not in besides:
                found.append(noun)
        return found

    def things(self, count: int) -> list[Thing]:
        """Return different things."""
        variety = min(5, count) if self.chance(CONFUSABLE) else count + 4
        nouns, adjectives = [self.noun() for _ in range(variety)], [self.adjective() for _ in range(variety)]
        found: dict[Thing, None] = {}
        while len(found) < count:
            found[Thing(self.one(adjectives), self.one(nouns))] = None
            nouns.append(self.noun())  # so that it comes to an end with few words, too
            nouns.pop() if self.chance(0.9) else None
        return list(found)

    def name(self, thing: Thing, among: Sequence[Thing]) -> str:
        """Return what an instruction may call a thing: part of its name if that is enough, other words, or misspelt."""
        chance = self.generator.random()
        if chance < 0.12 and sum(other.noun == thing.noun for other in among) == 1:
            return f"the {thing.noun}"
        if chance < 0.2 and thing.adjective and sum(other.adjective == thing.adjective for other in among) == 1:
            return f"the {thing.adjective} one"
        if chance < 0.35:
            thing = self._in_other_words(thing)
        if self.chance(0.12):
            thing = thing._replace(adjective=self.misspelt(thing.adjective))
        elif self.chance(0.14):
            thing = thing._replace(noun=self.misspelt(thing.noun))
        if chance > 0.96 and thing.adjective:
            return f"the {thing.noun} that is {thing.adjective}"
        if chance > 0.86:  # as French and Spanish have it
            return f"{self.one(('the', 'a', ''))} {thing.noun} {thing.adjective}".strip()
        return f"{self.one(('the', 'the', 'a', 'that', ''))} {thing}".strip()

    def _in_other_words(self, thing: Thing) -> Thing:
        nouns = self.lexicon.synonyms("noun", thing.noun)
        if nouns and self.chance(0.5):
            thing = thing._replace(noun=self.one(nouns))
        adjectives = self.lexicon.synonyms("adj", thing.adjective) if thing.adjective else []
        if adjectives and self.chance(0.5):
            thing = thing._replace(adjective=self.one(adjectives))
        return thing

    def misspelt(self, word: str) -> str:
        """Return a word with one letter too few, too many, another, or two in the wrong order; never the first."""
        if len(word) < 3:
            return word
        at, letter = self.number(1, len(word) - 1), chr(self.number(97, 122))
        forms = (
            word[:at] + word[at + 1 :],
            word[:at] + word[at - 1] + word[at:],
            word[:at] + letter + word[at + 1 :],
            word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
        )
        return self.one(forms)

    def instruct(self, named: str) -> str:
        """Return an instruction about what is named."""
        text = self.one(self.phrases.instructions).format(v=self.verb(), x=named)
        if self.chance(0.15):
            words = text.split()
            for _ in range(self.number(1, 3)):  # fillers, and the little words of other languages
                words.insert(self.number(0, len(words)), self.one(self.lexicon.words["verb"]))
            text = " ".join(words)
        return text.upper() if self.chance(0.03) else text

    def labels(self, count: int, *, kind: int, noun: str) -> list[str]:
        """Return names of places in a row: by numbers, ordinals or letters."""
        return [
            (f"{noun} {index + 1}", f"{ORDINALS[index]} {noun}", f"{noun} {'abcdefgh'[index]}")[kind]
            for index in range(count)
        ]

    def aside(self) -> str:
        """Return a part of an observation that no instruction is about."""
        carried = f"{self.adjective()} {self.noun()}" if self.chance(0.3) else "nothing"
        return self.one(
            (
                self.one(self.phrases.here).format(l=self.noun()),
                self.one(self.phrases.holding).format(t=carried),
                f"{self.noun()} {self.number(1, 8)} {self.one(self.one(DIRECTIONS))}",
                f"it is {self.adjective()}",
                f"{self.number(1, 60)} steps left",
            )
        )

    def scene(
        self,
        instruction: str,
        segments: Sequence[str],
        separator: str,
        actions: Sequence[str],
        right: int,
        *,
        asides: bool = False,
        keep_order: bool = False,
    ) -> Scene:
        """Return a scene, its actions in any order unless that is to be kept."""
        segments = list(segments)
        for _ in range(self.number(0, 2) if asides else 0):
            segments.insert(self.number(0, len(segments)), self.aside())
        order = np.arange(len(actions)) if keep_order else self.generator.permutation(len(actions))
        chosen = tuple(actions[index] for index in order)
        return Scene(instruction, separator.join(segments), chosen, int(np.flatnonzero(order == right)[0]))

    def choose(self, names: Sequence[object]) -> list[str]:
        """Return actions that choose what is named."""
        template = self.one(self.phrases.choices)
        return [template.format(t=name) for name in names]


def find_label(d: Drawer) -> Scene:
    """Things stand in numbered places; the actions name the places."""
    things = d.things(d.number(2, MOST_THINGS))
    noun = d.one(PLACES) if d.chance(0.6) else d.noun()
    labels = d.labels(len(things), kind=d.number(0, 2), noun=noun)
    template, goal = d.one(d.phrases.labelled), d.number(0, len(things) - 1)
    order = d.generator.permutation(len(things)) if d.chance(0.3) else range(len(things))
    segments = [template.format(l=labels[index], t=things[index]) for index in order]
    instruction = d.instruct(d.name(things[goal], things))
    return d.scene(instruction, segments, d.one(("; ", ". ", "\n", ", ")), d.choose(labels), goal, asides=True)


def find_place(d: Drawer) -> Scene:
    """Things stand in places with names; the actions name the places."""
    things = d.things(d.number(2, MOST_THINGS))
    places, goal = d.nouns(len(things)), d.number(0, len(things) - 1)
    template = d.one(d.phrases.located)
    segments = [template.format(l=place, t=thing) for place, thing in zip(places, things, strict=True)]
    actions = d.choose([f"the {place}" for place in places])
    return d.scene(
        d.instruct(d.name(things[goal], things)), segments, d.one(("; ", ". ", "\n")), actions, goal, asides=True
    )


def find_direction(d: Drawer) -> Scene:
    """Things lie in directions; the actions name the directions, or where each thing lies."""
    things = d.things(d.number(2, MOST_THINGS))
    directions, goal = d.one(DIRECTIONS), d.number(0, len(things) - 1)
    wheres: dict[str, int] = {}
    while len(wheres) < len(things):
        first = d.number(0, 3)
        where = f"{d.number(1, 7)} {directions[first]}"
        if d.chance(0.5):
            where += f" {d.number(1, 7)} {directions[(first // 2 * 2 + 2) % 4 + d.number(0, 1)]}"
        wheres.setdefault(where, first)
    segments = [f"{thing} {where}" for thing, where in zip(things, wheres, strict=True)]
    instruction = d.instruct(d.name(things[goal], things))
    if d.chance(0.5):
        right = list(wheres.values())[goal]
        actions = [
            template.format(t=one)
            for template in [d.one(("{t}", "go {t}", "turn {t}", "move {t}"))]
            for one in directions
        ]
        return d.scene(instruction, segments, d.one(("; ", ". ", ", ")), actions, right, asides=True)
    return d.scene(instruction, segments, d.one(("; ", ". ", ", ")), d.choose(list(wheres)), goal, asides=True)


def find_property(d: Drawer) -> Scene:
    """Each thing has a property; the actions name the properties."""
    things = d.things(d.number(2, MOST_THINGS))
    properties = list(dict.fromkeys(d.adjective() for _ in range(3 * len(things))))[: len(things)]
    goal = d.number(0, len(properties) - 1)
    segments = [f"{thing} is {one}" for thing, one in zip(things, properties, strict=False)]
    instruction = d.instruct(d.name(things[goal], things))
    return d.scene(instruction, segments, d.one(("; ", ". ")), d.choose(properties), goal, asides=True)


def name(d: Drawer) -> Scene:
    """The actions name the things themselves."""
    things = d.things(d.number(2, MOST_THINGS))
    goal, verb, article = d.number(0, len(things) - 1), d.verb(), d.one(("the ", "", "a "))
    segments = list(map(str, things)) if d.chance(0.4) else [d.aside()]
    actions = [f"{verb} {article}{thing}" for thing in things]
    if d.chance(0.3) and len({thing.noun for thing in things}) == len(things):
        actions = [thing.noun for thing in things]
    return d.scene(d.instruct(d.name(things[goal], things)), segments, "; ", actions, goal)


def _row(d: Drawer, things: Sequence[Thing], head: str) -> tuple[list[str], list[str], bool]:
    """Return the segments of a row of things, what the actions may call them, and whether these are in order."""
    kind = d.number(0, 2)
    names = (
        list(map(str, things)),
        [f"number {index + 1}" for index in range(len(things))],
        list(ORDINALS[: len(things)]),
    )[kind]
    numbered = kind == 1 and d.chance(0.5)
    segments = [f"{label}: {thing}" if numbered else str(thing) for label, thing in zip(names, things, strict=True)]
    segments[0] = f"{head}: {segments[0]}" if head else segments[0]
    return segments, d.choose(names), kind > 0


def beside(d: Drawer) -> Scene:
    """Things stand in a row; the instruction names what is beside one of them."""
    things = d.things(d.number(3, 7))
    head, before, after = d.one(ROWS)
    step, at = d.one((-1, 1)), d.number(0, len(things) - 1)
    if not 0 <= at + step < len(things):
        step = -step
    asked = things[at + step]
    noun = f"{asked.adjective} {asked.noun}" if d.chance(0.2) else asked.noun
    instruction = d.one(d.phrases.sides).format(
        v=d.verb(), r=before if step < 0 else after, n=noun, x=d.name(things[at], things)
    )
    segments, actions, in_order = _row(d, things, head)
    return d.scene(instruction, segments, d.one((", ", "; ")), actions, at + step, keep_order=in_order)


def between(d: Drawer) -> Scene:
    """Things stand in a row; the instruction names what is between two of them."""
    things = d.things(d.number(3, 7))
    at = d.number(1, len(things) - 2)
    ends = [d.name(things[at - 1], things), d.name(things[at + 1], things)]
    first, second = ends if d.chance(0.5) else ends[::-1]
    segments, actions, in_order = _row(d, things, d.one(ROWS)[0])
    instruction = f"{d.verb()} what is between {first} and {second}"
    return d.scene(instruction, segments, d.one((", ", "; ")), actions, at, keep_order=in_order)


def ordinal(d: Drawer) -> Scene:
    """Things stand in a row; the instruction names the place of one."""
    things = d.things(d.number(2, MOST_THINGS))
    at = d.number(0, len(things) - 1)
    word = "last" if at == len(things) - 1 and d.chance(0.5) else ORDINALS[at]
    segments = list(map(str, things))
    segments[0] = d.one(("from left to right: ", "in order: ", "")) + segments[0]
    instruction = d.instruct(f"the {word} {d.one(('thing', 'one', 'item', ''))}".strip())
    return d.scene(instruction, segments, d.one((", ", "; ")), d.choose(things), at)


def statement(d: Drawer) -> Scene:
    """The observation tells how pairs of things stand; the instruction names one of a pair by the other."""
    count = d.number(2, 5)
    things = d.things(2 * count)
    if d.chance(0.5):  # many of one kind: only what they stand beside tells them apart
        noun = d.noun()
        things = [
            thing._replace(noun=noun) if index % 2 == 0 and d.chance(0.7) else thing
            for index, thing in enumerate(things)
        ]
    relations = [d.one(RELATIONS) for _ in range(count)]
    pairs = [(things[2 * index], relations[index], things[2 * index + 1]) for index in range(count)]
    article, verb = d.one(("the ", "a ", "")), d.one(("is ", ""))
    segments = [f"{article}{left} {verb}{relation} {article}{right}" for left, relation, right in pairs]
    asked = d.number(0, count - 1)
    left, relation, right = pairs[asked]
    is_unique = sum(pair[0].noun == left.noun and pair[1:] == (relation, right) for pair in pairs) == 1
    if len(set(things)) < len(things) or not is_unique:
        return statement(d)
    if d.chance(0.6):
        instruction = d.one(d.phrases.sides).format(v=d.verb(), r=relation, n=left.noun, x=d.name(right, things))
        goal = 2 * asked
    else:
        instruction = (
            f"{d.verb()} {d.one(('what', 'the thing that', 'that which'))} {d.name(left, things)} is {relation}"
        )
        goal = 2 * asked + 1
    return d.scene(instruction, segments, d.one(("; ", ". ")), d.choose(things), goal, asides=d.chance(0.5))


def negation(d: Drawer) -> Scene:
    """Of two things the instruction names the one that is not meant."""
    noun = d.noun()
    things = d.things(2) if d.chance(0.5) else [Thing(d.adjective(), noun), Thing(d.adjective(), noun)]
    if things[0] == things[1]:
        return negation(d)
    if things[0].noun == things[1].noun and d.chance(0.5):
        instruction = f"{d.verb()} the {things[0].noun} that is not {things[0].adjective}"
    else:
        instruction = d.one(d.phrases.negations).format(v=d.verb(), x=d.name(things[0], things))
    order = d.generator.permutation(2)
    seen = [things[index] for index in order]
    labels = d.labels(2, kind=d.number(0, 2), noun=d.one(PLACES))
    if d.chance(0.5):
        template = d.one(d.phrases.labelled)
        segments = [template.format(l=label, t=thing) for label, thing in zip(labels, seen, strict=True)]
        actions = d.choose(labels)
    else:
        segments, actions = list(map(str, seen)), d.choose(seen)
    return d.scene(instruction, segments, "; ", actions, seen.index(things[1]), asides=d.chance(0.5))


def sequence(d: Drawer) -> Scene:
    """Two things are to be done one after the other; the observation tells whether the first was."""
    things = d.things(d.number(3, 7))
    first, second = (int(index) for index in d.generator.choice(len(things), 2, replace=False))
    parts = [f"{d.verb()} {d.name(things[index], things)}" for index in (first, second)]
    instruction = d.one(d.phrases.sequences).format(a=parts[0], b=parts[1])
    is_done = d.chance(0.5)
    told = d.one(d.phrases.done).format(t=things[first] if is_done else "nothing")
    segments, actions = list(map(str, things)), d.choose(things)
    if d.chance(0.5):
        labels = d.labels(len(things), kind=d.number(0, 2), noun=d.one(PLACES))
        segments = [f"{label}: {thing}" for label, thing in zip(labels, things, strict=True)]
        actions = d.choose(labels)
    segments.insert(0 if d.chance(0.5) else len(segments), told)
    return d.scene(instruction, segments, d.one(("; ", ". ")), actions, second if is_done else first)


def deliver(d: Drawer) -> Scene:
    """A thing is to be brought to a place; the right action depends on who is where and holds what."""
    things = d.things(d.number(2, 5)) if d.chance(0.5) else [Thing("", noun) for noun in d.nouns(d.number(2, 5))]
    places = d.nouns(d.number(2, 5), [thing.noun for thing in things])
    lies = [d.number(0, len(places) - 1) for _ in things]
    here, goal, wanted = d.number(0, len(places) - 1), d.number(0, len(places) - 1), d.number(0, len(things) - 1)
    held = wanted if d.chance(0.45) else d.number(0, len(things) - 1) if d.chance(0.3) else None
    sees_all = d.chance(0.5)
    if held is None and (lies[wanted] == goal or (lies[wanted] != here and not sees_all)):
        return deliver(d)
    located, is_here = d.one(d.phrases.located), d.one(("there is a {t} here", "you see the {t}", "here: {t}"))
    segments = [d.one(d.phrases.here).format(l=places[here])]
    for index, thing in enumerate(things):
        if index != held and sees_all:
            segments.append(located.format(t=thing, l=places[lies[index]]))
        elif index != held and lies[index] == here:
            segments.append(is_here.format(t=thing))
    segments.append(d.one(d.phrases.holding).format(t="nothing" if held is None else f"the {things[held]}"))
    go = d.one(("go to the {t}", "walk to {t}", "enter {t}"))
    take, drop = (
        d.one(("take the {t}", "pick up {t}", "grab {t}")),
        d.one(("drop the {t}", "put down {t}", "leave {t}")),
    )
    actions = [go.format(t=place) for index, place in enumerate(places) if index != here]
    actions += [take.format(t=thing) for index, thing in enumerate(things) if lies[index] == here and index != held]
    actions += [] if held is None else [drop.format(t=things[held])]
    if held == wanted:
        right = drop.format(t=things[wanted]) if here == goal else go.format(t=places[goal])
    elif held is not None:
        right = drop.format(t=things[held])
    elif lies[wanted] == here:
        right = take.format(t=things[wanted])
    else:
        right = go.format(t=places[lies[wanted]])
    instruction = d.one(d.phrases.deliveries).format(x=d.name(things[wanted], things), p=places[goal])
    return d.scene(instruction, segments, d.one(("; ", ". ", "\n")), actions, actions.index(right))


def kind_of(d: Drawer) -> Scene:
    """The instruction names a thing by a more general word."""
    nouns = d.nouns(d.number(2, 6))
    above = [d.lexicon.kinds_of(noun)[:6] for noun in nouns]
    goal = d.number(0, len(nouns) - 1)
    if not above[goal]:
        return kind_of(d)
    key = above[goal][d.number(0, min(2, len(above[goal]) - 1))]
    if any(key in kinds for index, kinds in enumerate(above) if index != goal):
        return kind_of(d)
    word = d.one(d.lexicon.synsets["noun", key].words)
    instruction = f"{d.verb()} {d.one(('the', 'a', 'something that is a'))} {word}"
    return d.scene(instruction, [f"a {noun}" for noun in nouns], ", ", d.choose(nouns), goal, asides=d.chance(0.5))


FAMILIES: dict[Callable[[Drawer], Scene], float] = {
    find_label: 1.0,
    find_place: 1.0,
    find_direction: 1.5,
    find_property: 0.5,
    name: 2.0,
    beside: 3.0,
    ordinal: 1.5,
    statement: 2.0,
    negation: 1.0,
    sequence: 2.0,
    deliver: 2.0,
    kind_of: 1.0,
}
"""How often each is drawn in pretraining, as weights."""

HELD_OUT_FAMILIES = (between,)


def draw(drawer: Drawer) -> Scene:
    """Return a scene of any family."""
    families, weights = list(FAMILIES), np.array(list(FAMILIES.values()))
    return families[int(drawer.generator.choice(len(families), p=weights / weights.sum()))](drawer)
