"""Demonstrations: episodes that somebody else played, in words, and the file that holds them.

The file has JSON in lines, gzipped where its name ends in `.gz`. The first line is the header:

    {"format": "heed-demonstrations", "version": 1, "env": "BabyAI-GoToLocal-v0", "expert": "bot", "seed": 0,
     "action_texts": ["turn left", ...]}

and each further line an episode, with the names of `Demonstration`:

    {"seed": ..., "instruction": "go to the red ball", "observations": ["...", "..."], "actions": [2],
     "rewards": [0.9], "terminated": true, "success": true}

Where actions change from state to state, the header's `action_texts` are empty, and each episode has `admissible`: for
each of its states the texts of the actions that there were to choose from.

Auxiliary observations, numbers and a picture, stand in an episode's `numbers` and `image` where the environment gives
them: arrays over its states, compressed (`heed.envs.demonstrations.packed_array`).

A path that begins with `minari:` names a dataset of Minari instead (`heed.envs.demonstrations.minari_dataset`).

The observations are plain, without what came before them: what an agent with a history reads in each state is written
by the same `Transcript` that writes it when the agent acts.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import math
import os
import uuid
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from heed.envs.demonstrations.packed_array import PackedArray
from heed.envs.seeds import DEMONSTRATIONS, LONGEST, sequence_of_seeds
from heed.envs.wrappers.history import Transcript

FORMAT, VERSION = "heed-demonstrations", 1

MINARI = "minari:"
"""How the name of a dataset of Minari begins, where a file could stand."""

AUXILIARY = {"numbers": ("float32", 2), "image": ("uint8", 4)}
"""The keys of auxiliary observations, and the kind and the dimensions of their arrays over an episode's states."""

PARTS = 16
"""Into so many parts the demonstrations of a seed are parted, none of which holds an episode of another."""


class DemonstrationError(ValueError):
    """Demonstrations cannot be read, or are not of this environment. The message says where and why."""


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One episode of T steps, in words.

    Raises:
        DemonstrationError: if the lengths do not fit each other.
    """

    seed: int
    """Of the episode."""
    instruction: str
    observations: tuple[str, ...]
    """T + 1: in each state what was perceived there alone, without a history; the last state is among them."""
    actions: tuple[int, ...]
    """T: what was done."""
    rewards: tuple[float, ...]
    """T."""
    terminated: bool
    """Whether the episode came to an end of its own. One that met a time limit did not: its return is not known."""
    success: bool
    admissible: tuple[tuple[str, ...], ...] | None = None
    """T + 1: the texts of the actions in each state, where they change; None where they are always the same."""
    labels: tuple[int, ...] | None = None
    """T: what the expert would have done, where somebody else acted; None where the expert acted."""
    numbers: PackedArray | None = None
    """(T + 1, N), float32: the auxiliary numbers of each state, where the environment gives any."""
    image: PackedArray | None = None
    """(T + 1, H, W, C), uint8: the picture of each state, where the environment gives one."""

    def __post_init__(self) -> None:
        """Refuse what is no episode."""
        steps = len(self.actions)
        lengths = {"observations": len(self.observations) - 1, "rewards": len(self.rewards)}
        if self.labels is not None:
            lengths["labels"] = len(self.labels)
        if self.admissible is not None:
            lengths["admissible"] = len(self.admissible) - 1
        for name, (dtype, dimensions) in AUXILIARY.items():
            array: PackedArray | None = getattr(self, name)
            if array is not None:
                if (array.dtype, len(array.shape)) != (dtype, dimensions):
                    raise DemonstrationError(
                        f"The {name} are an array of {dtype} with {dimensions} dimensions, not of {array.dtype} with "
                        f"the shape {array.shape}."
                    )
                lengths[name] = array.shape[0] - 1
        for name, length in lengths.items():
            if length != steps:
                after = " and the state after the last" if name not in ("rewards", "labels") else ""
                raise DemonstrationError(f"There are {steps} actions, but the {name} are not of so many steps{after}.")

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def targets(self) -> tuple[int, ...]:
        """What a clone is to do in each state but the last, (T,)."""
        return self.actions if self.labels is None else self.labels

    def read(
        self, history: int, action_texts: Sequence[str], *, auxiliary: Collection[str] = tuple(AUXILIARY)
    ) -> dict[str, list[Any]]:
        """Return the language observations that an agent reads in each state, (T + 1,) under each key.

        Args:
            history: of the agent; with one, its observations are the transcripts of `History`.
            action_texts: the actions' texts where they are always the same.
            auxiliary: the keys of the auxiliary observations that are read, if they are there.
        """
        words: dict[str, list[Any]] = {
            "instruction": [self.instruction] * len(self.observations),
            "observation": list(self.observations),
        }
        if self.admissible is not None:
            words["actions"] = list(self.admissible)
        for name in AUXILIARY:
            array: PackedArray | None = getattr(self, name)
            if array is not None and name in auxiliary:
                words[name] = list(array.unpack())
        if history:
            transcript = Transcript(history)
            lists = self.admissible or (action_texts,) * len(self)
            texts = [listed[action] for listed, action in zip(lists, self.actions, strict=False)]
            first, *rest = self.observations
            steps = zip(texts, rest, strict=True)
            words["observation"] = [transcript.begin(first), *(transcript.add(text, seen) for text, seen in steps)]
        return words

    def returns(self, gamma: float) -> tuple[float, ...]:
        """Return the discounted sum of the rewards from each state on, (T,)."""
        sums = [0.0]
        for reward in reversed(self.rewards):
            sums.append(reward + gamma * sums[-1])
        return tuple(reversed(sums[1:]))


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """What a file of demonstrations holds."""

    env: str
    """The environment's id."""
    expert: str
    """Who acted."""
    seed: int
    """From which the episodes' seeds were drawn."""
    action_texts: tuple[str, ...]
    episodes: tuple[Demonstration, ...]


def demonstration_seeds(seed: int, episodes: int, *, part: int = 0) -> list[int]:
    """Return seeds of demonstrations: all different, others for another `part`, none of an evaluation or a training.

    Args:
        seed: from which they follow.
        episodes: how many.
        part: which of `PARTS` parts they are of: 0 for those that are recorded, 1 for those that a training gathers.

    Raises:
        ValueError: if a part does not have so many, or there is no such part.
    """
    longest = LONGEST // PARTS
    if not 0 <= part < PARTS:
        raise ValueError(f"There are the parts 0 to {PARTS - 1} of demonstrations, but not {part}.")
    if episodes > longest:
        raise ValueError(
            f"There are {longest} different demonstrations for one seed, but {episodes} were asked for: record "
            "the others with another seed."
        )
    return sequence_of_seeds(DEMONSTRATIONS, (seed,), part * longest, episodes)


def demonstrations_exist(path: Path | str) -> bool:
    """Say whether there is something under the name of demonstrations that are to be written.

    Raises:
        DemonstrationError: if they could not be written there.
    """
    if not _names_dataset(path):
        return Path(path).exists()
    from heed.envs.demonstrations.minari_dataset import dataset_folder

    return dataset_folder(path).exists()


def write_demonstrations(path: Path | str, demonstrations: Demonstrations) -> None:
    """Write demonstrations: whole, or not at all.

    Args:
        path: a file, which is replaced; or `minari:ID` or `minari:./folder` for a dataset of Minari, which must be new.
        demonstrations: to be written.

    Raises:
        DemonstrationError: if there is such a dataset already, or Minari is not installed.
    """
    header = {"format": FORMAT, "version": VERSION, **_fields_of(demonstrations)}
    del header["episodes"]
    if _names_dataset(path):
        from heed.envs.demonstrations.minari_dataset import write_dataset

        write_dataset(path, demonstrations, header)
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with temporary.open("wb") as raw:
            if path.name.endswith(".gz"):
                # Without a name and a time in it: the same demonstrations give the same file.
                with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
                    _write_lines(packed, header, demonstrations.episodes)
            else:
                _write_lines(raw, header, demonstrations.episodes)
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_lines(file: Any, header: dict[str, Any], episodes: Sequence[Demonstration]) -> None:
    for line in itertools.chain([header], map(_fields_of, episodes)):
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _fields_of(written: Demonstration | Demonstrations) -> dict[str, Any]:
    """Return the fields that are there, by name, as JSON has them."""
    values = {field.name: getattr(written, field.name) for field in dataclasses.fields(written)}
    return {
        name: value.as_json() if isinstance(value, PackedArray) else value
        for name, value in values.items()
        if value is not None
    }


def read_demonstrations(path: Path | str, *, action_texts: Sequence[str] | None = None) -> Demonstrations:
    """Read demonstrations.

    Args:
        path: a file, or `minari:ID` or `minari:./folder` for a dataset of Minari.
        action_texts: those of the environment that the demonstrations are meant for, which must be theirs.

    Raises:
        DemonstrationError: if the file is missing, not of this format, damaged (naming the line), empty, or of other
            actions; the same of a dataset.
    """
    if _names_dataset(path):
        from heed.envs.demonstrations.minari_dataset import read_dataset

        header, lines = read_dataset(path)
        if header is None:  # somebody else's, of whose actions nothing is known but their number
            if action_texts is None:
                raise DemonstrationError(f"{path} does not name its actions: give their action_texts.")
            header = {"format": FORMAT, "version": VERSION, "env": str(path), "expert": "unknown", "seed": 0}
            header["action_texts"] = list(action_texts)
        return _demonstrations(path, header, lines, action_texts, each="episode")
    lines = _read_lines(Path(path))
    return _demonstrations(path, next(lines, None), lines, action_texts, each="line")


def _names_dataset(path: Path | str) -> bool:
    return str(path).startswith(MINARI)


def _demonstrations(
    path: Path | str, header: Any, lines: Iterator[Any], action_texts: Sequence[str] | None, *, each: str
) -> Demonstrations:
    """Return what a header and the episodes behind it hold.

    Raises:
        DemonstrationError: as `read_demonstrations`.
    """
    header_name = "line 1" if each == "line" else "the metadata"
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        where = "its first line is" if each == "line" else "the metadata under `heed` are"
        raise DemonstrationError(f"{path} is no file of demonstrations: {where} not their header.")
    if header.get("version") != VERSION:
        raise DemonstrationError(
            f"{path} is of version {header.get('version')} of the format, but version {VERSION} is read: record the "
            "demonstrations again with `heed demos`."
        )
    try:
        texts = tuple(_checked(header["action_texts"], list, str))
        env, expert, seed = str(header["env"]), str(header["expert"]), int(header["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise DemonstrationError(f"{path}, {header_name} is damaged: {_reason(error)}.") from None
    if action_texts is not None and texts != tuple(action_texts):
        raise DemonstrationError(
            f"{path} was recorded on {env} with the actions {list(texts)}, but those of this environment are "
            f"{list(action_texts)}: record demonstrations of your environment with `heed demos`."
        )
    episodes = []
    for number, line in enumerate(lines, 2 if each == "line" else 0):
        try:
            episodes.append(_episode(line, len(texts)))
        except (KeyError, TypeError, ValueError) as error:
            raise DemonstrationError(f"{path}, {each} {number} is damaged: {_reason(error)}.") from None
    if not episodes:
        raise DemonstrationError(f"{path} holds no episode.")
    return Demonstrations(env=env, expert=expert, seed=seed, action_texts=texts, episodes=tuple(episodes))


def _read_lines(path: Path) -> Iterator[Any]:
    """Yield what the lines hold.

    Raises:
        DemonstrationError: where one is not JSON, or the file ends within one.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            file: BinaryIO = gzip.GzipFile(fileobj=raw) if path.name.endswith(".gz") else raw  # type: ignore[assignment]
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    raise DemonstrationError(f"{path}, line {number} is cut off.")
                yield json.loads(line)
    except FileNotFoundError:
        raise DemonstrationError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise DemonstrationError(f"{path} is a folder, not a file of demonstrations.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DemonstrationError(f"{path}, line {number} is damaged: {error}.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DemonstrationError(f"{path} is damaged after line {number}: {error}.") from None


def _episode(line: Any, n_actions: int) -> Demonstration:
    """Return the episode of a line.

    Raises:
        KeyError, TypeError, ValueError: if it holds none.
    """
    fields = _checked({"episode": line}, dict, dict)["episode"]
    names = ("actions", "labels") if "labels" in fields else ("actions",)
    choices = {name: _checked(fields[name], list, int) for name in names}
    admissible = _admissible(fields)
    for name, actions in choices.items():
        counts = [n_actions] * len(actions) if admissible is None else [len(listed) for listed in admissible]
        if not all(0 <= action < count for action, count in zip(actions, counts, strict=False)):
            raise ValueError(f"one of its {name} is none of the {n_actions or 'listed'} actions")
    rewards = [float(reward) for reward in _checked(fields["rewards"], list, int | float)]
    if not all(map(math.isfinite, rewards)):
        raise ValueError("one of its rewards is not finite")
    flags = _checked([fields["terminated"], fields["success"]], list, bool)
    (instruction,) = _checked([fields["instruction"]], list, str)
    (seed,) = _checked([fields["seed"]], list, int)
    return Demonstration(
        seed=seed,
        instruction=instruction,
        observations=tuple(_checked(fields["observations"], list, str)),
        actions=tuple(choices["actions"]),
        rewards=tuple(rewards),
        terminated=flags[0],
        success=flags[1],
        admissible=admissible,
        labels=tuple(choices["labels"]) if "labels" in choices else None,
        **{name: _array(fields[name]) for name in AUXILIARY if name in fields},
    )


def _array(saved: Any) -> PackedArray:
    return saved if isinstance(saved, PackedArray) else PackedArray.from_json(saved)


def _admissible(fields: dict[str, Any]) -> tuple[tuple[str, ...], ...] | None:
    """Return the texts of the actions in each state, where an episode has them."""
    if "admissible" not in fields:
        return None
    return tuple(tuple(_checked(listed, list, str)) for listed in _checked(fields["admissible"], list, list))


def _checked(values: Any, container: type, kind: Any) -> Any:
    """Return `values` if it is a `container` whose entries are of that kind."""
    entries = values.values() if isinstance(values, dict) else values
    if not isinstance(values, container) or not all(isinstance(entry, kind) for entry in entries):
        raise TypeError(f"{str(values)[:40]!r} is not a {container.__name__} of {getattr(kind, '__name__', kind)}")
    return values


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
