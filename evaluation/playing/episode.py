"""What an evaluation is made of: a row of plain data for each episode, and what could not be played."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.envs.seeds import EVALUATIONS, sequence_of_seeds

ARTICLES = ("the", "a", "an")


class EpisodesError(ValueError):
    """A file of episodes cannot be read. The message names it, and says why."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode that was played."""

    env: str
    """Id of the environment."""
    axis: str
    """What was changed: the label of a `heed.evaluation.axes.Axis`, "true" for nothing."""
    policy: str
    """Who chose the actions, and how: "sampled", "greedy", "random", "expert", or the name of a baseline."""
    seed: int
    instruction: str
    """The true instruction, by which success is judged."""
    shown: str
    """The instruction that the agent was shown at first; on the axis of injected text, the one that was injected."""
    success: bool
    shown_success: bool | None
    """Whether the shown instruction was fulfilled, where another one than the true was shown and the environment can
    tell."""
    episode_return: float
    length: int
    """Steps."""
    activity: float
    """Share of the steps after which the agent saw something else than before: does it wander, or has it stopped?"""
    level: str = ""
    """Of a mixture, the level that was played; of a level that names its tasks (`info["level"]`), the task."""
    finished: bool = True
    """Whether it came to its end; else it was given up after `length` steps, and counts as failed."""
    run: str = ""
    """Which of several trained agents played, where there are several."""
    said_impossible: bool | None = None
    """Whether the agent said that its instruction cannot be done; None where it has no action to say so."""

    @property
    def template(self) -> str:
        """The true instruction's verb phrase: its words up to the first article."""
        words = self.instruction.split()
        end = next((index for index, word in enumerate(words) if word in ARTICLES), len(words))
        return " ".join(words[:end]) or self.instruction

    def as_record(self) -> dict[str, Any]:
        """Return the episode as a plain dictionary, the template beside it."""
        return {**dataclasses.asdict(self), "template": self.template}


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What an evaluation was to hold, and does not."""

    env: str
    axis: str
    policy: str
    """Empty where it concerns all of them."""
    episodes: int
    """How many are missing."""
    reason: str
    """A sentence."""
    run: str = ""

    def as_record(self) -> dict[str, Any]:
        """Return it as a plain dictionary."""
        return dataclasses.asdict(self)


def held_out_seeds(seed: int, episodes: int) -> list[int]:
    """Return the seeds of `episodes` evaluation episodes: all different, and none that a training draws.

    Raises:
        ValueError: if there are not so many.
    """
    return sequence_of_seeds(EVALUATIONS, (seed,), 0, episodes)


def write_episodes(path: Path, episodes: Iterable[Episode]) -> None:
    """Write episodes as a CSV file, a row each."""
    names = [field.name for field in dataclasses.fields(Episode)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names, "template"])
        writer.writeheader()
        writer.writerows(episode.as_record() for episode in episodes)


def read_episodes(path: Path) -> list[Episode]:
    """Read what `write_episodes` wrote.

    Raises:
        EpisodesError: if the file cannot be read, or is none of those.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows: Sequence[dict[str, str]] = list(csv.DictReader(file))
        return [_episode_of(row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EpisodesError(f"{path} cannot be read: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise EpisodesError(f"{path} holds no episodes of an evaluation: {type(error).__name__} {error}") from None


def _episode_of(row: dict[str, str]) -> Episode:
    words = {name: row[name] for name in ("env", "axis", "policy", "instruction", "shown", "level", "run")}
    return Episode(
        **words,
        seed=int(row["seed"]),
        success=_truth(row["success"]),
        shown_success=None if row["shown_success"] == "" else _truth(row["shown_success"]),
        episode_return=float(row["episode_return"]),
        length=int(row["length"]),
        activity=float(row["activity"]),
        finished=_truth(row["finished"]),
        said_impossible=_truth(row["said_impossible"]) if row.get("said_impossible") else None,
    )


def _truth(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"{text!r} is neither True nor False")
    return text == "True"
