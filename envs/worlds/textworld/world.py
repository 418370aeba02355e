"""TextWorld's games in words: read, choose a command, win.

Côté et al. 2018 (arXiv 1806.11532), package `textworld`. The instruction is the game's objective, the observation what
the player sees and carries, and the actions are the commands that the game takes now. Games are made by TextWorld's own
generators, offline: `games` different ones, drawn by the episode's seed, each made when it is first drawn, and kept in
the folder that `HEED_TEXTWORLD_GAMES` names (else in one that goes with the process).

Left out: TextWorld's prose. Its generated games are played from their facts, which is many times as fast as
through an interpreter (`text_words.py`). A game file of your own (`.z8`) is played as it is, prose and all.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import textworld
from textworld.challenges import CHALLENGES
from textworld.generator import QuestGenerationError
from textworld.generator.data import KnowledgeBase

from heed.envs.contract import ChangingActions, ExpertError, LanguageObservation, language_space
from heed.envs.worlds.textworld.words import describe_facts, read_texts, useful_commands, without_layout

FOLDER_VARIABLE = "HEED_TEXTWORLD_GAMES"
HELD_OUT_SEED = 1_000_000
"""Seed of the first game that is held out; those of the others begin at 0."""

ATTEMPTS = 8
"""At a game whose quest the generator does not find, each with another seed."""

INFOS = textworld.EnvInfos(
    admissible_commands=True,
    description=True,
    facts=True,
    feedback=True,
    inventory=True,
    lost=True,
    max_score=True,
    objective=True,
    policy_commands=True,
    score=True,
    won=True,
)


class TextGame(gymnasium.Env[Any, Any]):
    """A text game, or a set of them, that keeps the language contract.

    The reward is the score's growth as a share of the most that can be scored, so a game that is won brings 1 in all.

    Args:
        challenge: one of TextWorld's generators, such as "tw-treasure_hunter"; or None, with a `game`.
        game: a file of a game (`.z8` with its `.json` beside it, or the `.json` alone, which is played from its facts).
        games: how many different ones there are.
        held_out: whether they are games that are not among the others, to see what was learned of more than those.
        max_steps: of an episode.
        most: of how many commands there is a choice at most.
        settings: of the generator, such as `level=5`.

    Raises:
        ValueError: if there is neither a challenge nor a game, or both; if the generator knows no such setting.
        FileNotFoundError: if there is no such file.
    """

    def __init__(
        self,
        challenge: str | None = None,
        *,
        game: str | os.PathLike[str] | None = None,
        games: int = 200,
        held_out: bool = False,
        max_steps: int = 50,
        most: int = 64,
        **settings: Any,
    ):
        if (challenge is None) == (game is None):
            raise ValueError("A text game needs a file, `game=`, or one of TextWorld's challenges, and not both.")
        if game is not None and settings:
            raise ValueError(f"A game from a file has no settings, but was given {', '.join(settings)}.")
        if games < 1 or max_steps < 1:
            raise ValueError(f"games and max_steps must be at least 1, but are {games} and {max_steps}.")
        if game is not None and not Path(game).is_file():
            raise FileNotFoundError(f"There is no game file {os.fspath(game)!r}.")
        self.challenge = challenge
        self.settings = _checked_settings(challenge, settings) if challenge is not None else {}
        self.max_steps = max_steps
        self._file = None if game is None else Path(game)
        self._games = games
        self._first_seed = HELD_OUT_SEED if held_out else 0
        self.observation_space = language_space(changing_actions=True)
        self.action_space = ChangingActions(most)
        self._most = most
        self._commands: tuple[str, ...] = ()
        self._read: dict[str, str] = {}
        self._played: Any = None
        self._playing: Path | None = None
        self._state: Any = None
        self._score = self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Begin one of the games."""
        super().reset(seed=seed)
        if self._file is None:
            assert self.challenge is not None, "the constructor wants one of both"
            number = self._first_seed + int(self.np_random.integers(self._games))
            file = game_file(self.challenge, self.settings, number)
        else:
            file = self._file
        if file != self._playing:
            self.close()
            with _without_warnings():
                self._played, self._playing = textworld.start(str(file), INFOS), file
            self._texts = _texts_of(file) if file.suffix == ".json" else {}
        self._state = self._played.reset()
        if self._state.admissible_commands is None:
            raise ValueError(
                f"{file} does not tell which commands it takes: the `.json` that is made with it must be beside it."
            )
        self._read = {}
        self._score = self._steps = 0
        return self._words(), {"game": file.name}

    def step(self, action: int) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Give the command of this number; `info["is_success"]` is set on every step.

        Raises:
            ValueError: if there are not so many commands now.
        """
        if not 0 <= int(action) < len(self._commands):
            raise ValueError(f"There are {len(self._commands)} commands now, but the action is {action}.")
        command = self._commands[int(action)]
        self._state, score, done = self._played.step(command)
        self._steps += 1
        verb, _, thing = command.partition(" ")
        if verb == "examine" and thing in self._texts:
            self._read[thing] = self._texts[thing]
        reward = (score - self._score) / max(1, self._state.max_score)
        self._score = score
        is_success = bool(self._state.won)
        terminated = bool(done) or is_success or bool(self._state.lost)
        truncated = not terminated and self._steps >= self.max_steps
        return self._words(), float(reward), terminated, truncated, {"is_success": is_success}

    def expert_action(self) -> int:
        """Return what TextWorld's own solution would do now.

        Raises:
            ExpertError: if there is none from here, or it is not among the commands.
        """
        solution = self._state.policy_commands if self._state is not None else None
        if not solution:
            raise ExpertError("TextWorld knows no way to win this game from here.")
        if solution[0] not in self._commands:
            raise ExpertError(f"The next command of TextWorld's solution, {solution[0]!r}, is not among the actions.")
        return self._commands.index(solution[0])

    def close(self) -> None:
        """End the game."""
        if self._played is not None:
            self._played.close()
            self._played = self._playing = None

    def _words(self) -> LanguageObservation:
        state = self._state
        self._commands = useful_commands(state.admissible_commands, self._texts, self._most)
        observation: dict[str, Any] = {
            "instruction": " ".join((state.objective or "win the game").split()),
            "observation": self._seen(),
            "actions": self._commands,
        }
        return observation  # type: ignore[return-value]

    def _seen(self) -> str:
        state = self._state
        if self._playing is not None and self._playing.suffix == ".json":
            facts = [(fact.name, tuple(variable.name for variable in fact.arguments)) for fact in state.facts]
            return "; ".join(text for text in (describe_facts(facts), read_texts(self._read)) if text)
        told = [state.description or "", state.inventory or ""]
        if state.feedback and state.description not in state.feedback:
            told.append(state.feedback)
        return " ".join(without_layout(text) for text in told).strip() or "nothing"


def game_file(challenge: str, settings: dict[str, Any], number: int) -> Path:
    """Return the file of a game, which is made unless it is there already.

    Args:
        challenge: TextWorld's name of the generator.
        settings: all of the generator's.
        number: which game: the generator's seed.

    Raises:
        RuntimeError: if the generator finds no quest with these settings.
    """
    told = json.dumps([challenge, settings, textworld.__version__], sort_keys=True)
    file = _folder() / f"{challenge}-{hashlib.sha256(told.encode()).hexdigest()[:12]}-{number}.json"
    if not file.is_file():
        made = _made_game(challenge, settings, number)
        # Whole or not at all: other processes look into the same folder.
        handle, unfinished = tempfile.mkstemp(suffix=".json", prefix=".making-", dir=file.parent)
        os.close(handle)
        made.save(unfinished)
        os.replace(unfinished, file)
    return file


def _made_game(challenge: str, settings: dict[str, Any], number: int) -> Any:
    _, make, _ = CHALLENGES[challenge]
    for attempt in range(ATTEMPTS):
        options = textworld.GameOptions()
        options.seeds = number + attempt * 10 * HELD_OUT_SEED
        with contextlib.suppress(QuestGenerationError), _knowledge_kept(), _without_warnings():
            return make(dict(settings), options)
    raise RuntimeError(f"TextWorld's generator {challenge} finds no quest with the settings {settings}.")


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Be silent about games that the interpreter plays, but cannot keep the score of: TextWorld does that itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _knowledge_kept() -> Iterator[None]:
    """Parse each of TextWorld's sets of rules once, and not anew for each game, where it takes 95 % of the time."""
    original = KnowledgeBase.load
    KnowledgeBase.load = _loaded_knowledge
    try:
        yield
    finally:
        KnowledgeBase.load = original


_load_knowledge = KnowledgeBase.load


@functools.cache
def _loaded_knowledge(*args: Any, **kwargs: Any) -> Any:
    return _load_knowledge(*args, **kwargs)


def _checked_settings(challenge: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return all settings of a generator, those that are not given as the generator has them by default."""
    if challenge not in CHALLENGES:
        raise ValueError(f"TextWorld has no challenge {challenge!r}, only {', '.join(sorted(CHALLENGES))}.")
    _, _, add_arguments = CHALLENGES[challenge]
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    known = {option.dest: option for option in parser._actions}
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"{challenge} has no setting {name!r}, only {', '.join(sorted(known))}.")
        choices = known[name].choices
        if choices is not None and value not in choices:
            raise ValueError(f"{challenge}'s setting {name!r} is one of {list(choices)}, but is {value!r}.")
    missing = [name for name, option in known.items() if option.required and name not in settings]
    if missing:
        raise ValueError(f"{challenge} needs the setting {missing[0]!r}.")
    return {name: settings.get(name, option.default) for name, option in known.items()}


def _texts_of(file: Path) -> dict[str, str]:
    """Return what is written on the things of a generated game: texts that are no mere remark about their looks."""
    infos = textworld.Game.load(str(file)).infos.values()
    return {info.name: info.desc for info in infos if info.type == "o" and info.desc and "[" not in info.desc}


def _folder() -> Path:
    told = os.environ.get(FOLDER_VARIABLE)
    folder = Path(told).expanduser() if told else Path(_temporary_folder().name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.lru_cache(maxsize=1)
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="heed-textworld-", ignore_cleanup_errors=True)


REGISTERED: dict[str, dict[str, Any]] = {
    "TreasureHunter": {"challenge": "tw-treasure_hunter", "level": 5},
    "CoinCollector": {"challenge": "tw-coin_collector", "level": 5},
    "Cooking": {
        "challenge": "tw-cooking",
        **{"recipe": 1, "take": 1, "go": 1, "open": True, "cook": True, "cut": True},
    },
    "Simple": {"challenge": "tw-simple", "rewards": "dense", "goal": "detailed"},
}
"""The challenges' ids, and settings unless others are given."""


def register() -> None:
    """Register the ids, each with a set of games that is held out."""
    entry_point = f"{__name__}:TextGame"
    gymnasium.register(id="Heed/TextWorld-v0", entry_point=entry_point)
    for name, settings in REGISTERED.items():
        gymnasium.register(id=f"Heed/TextWorld-{name}-v0", entry_point=entry_point, kwargs=settings)
        held_out = {**settings, "held_out": True}
        gymnasium.register(id=f"Heed/TextWorld-{name}HeldOut-v0", entry_point=entry_point, kwargs=held_out)


register()
