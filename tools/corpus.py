"""The text that `heed-tiny` is pretrained on: the environments' own language, and questions about it.

A document holds what an agent sees, after some of what it did and saw before (as `heed.envs.History` writes it), and
questions with their answers, in the form of heed-tiny's prompts:

    red ball 1 right 3 ahead; wall 3 ahead
    > turn right: red ball 3 left 1 ahead; wall 2 ahead
    where is the red ball
    3 left 1 ahead
    go to a blue key
    nowhere

The answer follows an instruction as an action does in training, and speaks of what is seen now. So the model learns
what actions change, and to find the thing that an instruction names among the things that it sees, but not what to do
about it: the bot that plays half of the episodes is there to get about. Its actions are read, never predicted:
`python -m tools.pretrain` leaves the action texts out of the loss.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from heed.envs.babyai.words import ACTION_TEXTS
from heed.envs.contract import ExpertError, expert_of
from heed.envs.make import make_env
from heed.envs.wrappers.history import Transcript

LEVELS = (
    "BabyAI-GoToLocal-v0",
    "BabyAI-PutNextLocal-v0",
    "BabyAI-PickupLoc-v0",
    "BabyAI-PickupDist-v0",
    "BabyAI-GoTo-v0",
    "BabyAI-GoToObjMazeS4-v0",
    "BabyAI-GoToObjS6-v1",
    "BabyAI-SynthLoc-v0",
    "BabyAI-UnblockPickup-v0",
    "BabyAI-GoToRedBall-v0",
    "BabyAI-GoToDoor-v0",
    "BabyAI-OpenDoor-v0",
    "BabyAI-OpenDoorsOrderN4-v0",
    "BabyAI-UnlockLocalDist-v0",
    "BabyAI-ActionObjDoor-v0",
    "BabyAI-KeyCorridorS3R2-v0",
)
"""Levels whose observations make up the corpus."""

COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
KINDS = ("ball", "box", "key", "door")
PAIRS = tuple(f"{color} {kind}" for color in COLORS for kind in KINDS)
UNSEEN_PAIRS = ("purple key", "yellow ball", "grey box")
"""Things that no question of the corpus names in full: the score on them tells whether words combine freely."""
SEEN_PAIRS = tuple(pair for pair in PAIRS if pair not in UNSEEN_PAIRS)

QUESTIONS = (
    *("go to {}", "pick up {}", "open {}", "put {} next to {}"),  # BabyAI's own
    *("where is {}", "find {}", "look at {}", "walk to {}", "move to {}", "head for {}", "approach {}"),
    *("grab {}", "fetch {}", "take {}", "get {}", "unlock {}", "bring {} to {}", "place {} beside {}"),
)
PUT = tuple(question for question in QUESTIONS if question.count("{}") == 2)
"""What is to be done with the thing first named, and, once it is carried, at the second."""
SIDES = {
    "in front of you": (0, 1),
    "behind you": (0, -1),
    "on your left": (-1, 0),
    "on your right": (1, 0),
}
"""BabyAI's words for a side of where the episode began, and its direction (right, ahead) as the agent then stood."""
ABSENT = "nowhere"
"""The answer where the thing is not in sight."""
MOST_PAST = 3
"""Past observations that a document shows at most."""

_FACING = {"ahead": (0, 1), "right": (1, 0), "behind": (0, -1), "left": (-1, 0)}
_START = re.compile(r"; start (?P<place>.*) facing (?P<facing>\w+)")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an agent sees at some moment, and what it saw and did before, the latest last."""

    observation: str
    past: tuple[tuple[str, str], ...]
    """Pairs of an observation and the action text that followed, at most `MOST_PAST`."""

    def transcript(self, length: int) -> str:
        """Return what is seen after the last `length` pairs of the past, in the form of `heed.envs.History`."""
        shown = self.past[len(self.past) - min(length, len(self.past)) :]
        seen = [*(observation for observation, _ in shown), self.observation]
        transcript = Transcript(len(seen))
        words = transcript.begin(seen[0])
        for (_, action), observation in zip(shown, seen[1:], strict=True):
            words = transcript.add(action, observation)
        return words


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about an observation: the words, what they name, and where the nearest such thing is."""

    text: str
    thing: str
    place: str


def collect_scenes(*, per_level: int, seed: int, levels: Sequence[str] = LEVELS) -> list[Scene]:
    """Play the levels and return scenes of which no two show the same observation, sorted by it.

    In every second episode the level's bot leads, in the others chance; one action in five is random anyway.

    Args:
        per_level: how many scenes to collect from each level, at the most.
        seed: of episodes and actions.
        levels: environment ids.
    """
    found: dict[str, Scene] = {}
    for level in levels:
        generator = np.random.default_rng(seed)
        env = make_env(level)
        here: dict[str, Scene] = {}
        for episode in range(per_level):
            observation, _ = env.reset(seed=seed + episode)
            expert = expert_of(env) if episode % 2 else None
            past: list[tuple[str, str]] = []
            for _ in range(24):
                words = observation["observation"]
                here.setdefault(words, Scene(observation=words, past=tuple(past[-MOST_PAST:])))
                # Going forward more often than the rest sees more of a level.
                action = int(generator.choice([0, 1, 2, 2, 2, 3, 4, 5]))
                if expert is not None:
                    try:
                        advice = expert()
                    except ExpertError:
                        expert = None
                    else:
                        action = advice if generator.random() < 0.8 else action
                past.append((words, ACTION_TEXTS[action]))
                observation, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    break
            if len(here) >= per_level:
                break
        env.close()
        found |= here
    return [found[words] for words in sorted(found)]


def things_in(observation: str) -> list[tuple[str, str]]:
    """Return what an observation names and where: [("red ball", "2 left 3 ahead"), ...], the nearest first."""
    things = []
    for phrase in observation.split("; "):
        words = phrase.split()
        kinds = [index for index, word in enumerate(words) if word in KINDS]
        if not kinds or words[0] == "carrying":
            continue
        end = kinds[0] + 1
        # A door's "closed" and "open" belong to its state: an instruction names its colour.
        things.append((" ".join(words[end - 2 : end]), " ".join(words[end:])))
    return things


def carried_in(observation: str) -> str | None:
    """Return what an observation says that the agent carries."""
    carried = re.search(r"carrying (\w+ \w+)", observation)
    return carried[1] if carried else None


def ask(observation: str, generator: random.Random, *, pairs: Sequence[str] = SEEN_PAIRS) -> Question:
    """Make up a question about an observation: three in four about something that is there.

    Most name colour and kind ("a red ball"), some only one of them ("a ball", "the red object"), as BabyAI does;
    where the observation says where the episode began, some name a side of that ("the ball on your left").

    Args:
        observation: the words.
        generator: of the question.
        pairs: the things that a question may name in full.
    """
    things = things_in(observation)
    form = generator.choice(QUESTIONS)
    if form not in PUT:
        words, thing, place = _name(observation, things, generator, pairs)
        return Question(text=form.format(words), thing=thing, place=place)
    carried = carried_in(observation)
    words, thing, place = _name(observation, things, generator, pairs)
    if carried in pairs and (thing == carried or generator.random() < 0.5):
        # It is in hand: what is looked for now is the second thing.
        second, thing, place = _name(observation, things, generator, [pair for pair in pairs if pair != carried])
        return Question(text=form.format(f"the {carried}", second), thing=thing, place=place)
    others = [pair for pair in pairs if pair != carried]
    return Question(text=form.format(words, f"the {generator.choice(others)}"), thing=thing, place=place)


def _name(
    observation: str, things: list[tuple[str, str]], generator: random.Random, pairs: Sequence[str]
) -> tuple[str, str, str]:
    """Choose a thing, and return words for it, the thing as they name it, and the place of the nearest such."""
    nameable = list(dict.fromkeys(name for name, _ in things if name in pairs))
    thing = generator.choice(nameable if nameable and generator.random() < 0.75 else list(pairs))
    color, kind = thing.split()
    how = generator.random()
    if how < 0.1:
        thing, named = kind, [place for name, place in things if name.endswith(f" {kind}")]
    elif how < 0.15:
        thing, named = f"{color} object", [place for name, place in things if name.startswith(f"{color} ")]
    else:
        named = [place for name, place in things if name == thing]
    words = f"{generator.choice(['the', 'a'])} {thing}"
    start = _START.search(observation)
    if start and generator.random() < 0.5:
        side = generator.choice(list(SIDES))
        words = f"{words} {side}"
        named = [place for place in named if _is_on(side, place, start["place"], start["facing"])]
    return words, thing, named[0] if named else ABSENT


def _is_on(side: str, place: str, start: str, facing: str) -> bool:
    """Say whether a place is on that side of where the agent began, all as the agent stands now."""
    forward = _FACING[facing]
    right = (forward[1], -forward[0])
    across, along = SIDES[side]
    direction = tuple(across * r + along * f for r, f in zip(right, forward, strict=True))
    offset = (a - b for a, b in zip(_steps(place), _steps(start), strict=True))
    return sum(a * b for a, b in zip(offset, direction, strict=True)) > 0


def _steps(place: str) -> tuple[int, int]:
    """Return a place's steps to the right and ahead: "2 left 3 ahead" is (-2, 3)."""
    steps = {unit: int(number) for number, unit in re.findall(r"(\d+) (\w+)", place)}
    return steps.get("right", 0) - steps.get("left", 0), steps.get("ahead", 0) - steps.get("behind", 0)


def answer(place: str, generator: random.Random) -> str:
    """Say a place in either order, "2 left 3 ahead" or "3 ahead 2 left".

    What comes next may so be any part of the place, and a model that is to foresee it must know all of it.
    """
    words = place.split()
    parts = [" ".join(words[index : index + 2]) for index in range(0, len(words), 2)]
    if generator.random() < 0.5:
        parts.reverse()
    return " ".join(parts)


def documents(scenes: Sequence[Scene], *, questions: int, generator: random.Random) -> Iterator[str]:
    """Yield documents about randomly chosen scenes without end, each with that many questions.

    Half of them show only what is seen now, the others up to `MOST_PAST` observations before it.
    """
    while True:
        scene = generator.choice(scenes)
        past = generator.randint(1, MOST_PAST) if generator.random() < 0.5 else 0
        lines = [scene.transcript(past)]
        for _ in range(questions):
            question = ask(scene.observation, generator)
            lines += [question.text, answer(question.place, generator)]
        yield "".join(f" {line}\n" for line in lines)
