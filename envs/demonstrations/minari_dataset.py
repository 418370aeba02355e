"""Demonstrations as a dataset of Minari (Younis et al. 2024), Farama's format for offline reinforcement learning.

`minari:ID` names one where Minari itself keeps them, `minari:./folder` (or `/`, or `~`) any other. Of each episode it
holds, under Minari's own names,

- `observations`: a Dict of `instruction` and `observation` as texts, `numbers` and `image` where there are any, and
  where actions change, `actions`, the texts of those that there are, as a list in JSON;
- `actions` (Discrete), `rewards`, `terminations`, `truncations` and the seed;
- `infos`: `is_success`, and `expert_action` where somebody else than the expert acted.

What else a file of demonstrations tells stands in the dataset's metadata under `heed`. A dataset without that can be
read if its observations have `instruction` and `observation` as texts, and its actions are those of the environment.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from heed.envs.demonstrations.demonstrations import MINARI, Demonstration, DemonstrationError, Demonstrations
from heed.envs.demonstrations.packed_array import PackedArray

BEGINS_FOLDER = (".", "/", "~")
LEAST_VERSION = (0, 5, 4)
"""The first that stores pictures without loss."""


def dataset_folder(path: Path | str) -> Path:
    """Return the folder of a dataset, whether it is there or not.

    Args:
        path: `minari:ID` or `minari:./folder`.

    Raises:
        DemonstrationError: if Minari is not installed, or this is no id of it.
    """
    return _place(path)[0]


def write_dataset(path: Path | str, demonstrations: Demonstrations, metadata: dict[str, Any]) -> None:
    """Write a dataset: whole, or not at all.

    Args:
        path: as in `dataset_folder`.
        demonstrations: at least one episode.
        metadata: what stands under `heed`, as JSON.

    Raises:
        DemonstrationError: if there is one already, or as in `dataset_folder`.
    """
    folder, dataset_id = _place(path)
    if folder.exists():
        raise DemonstrationError(f"{path} exists already, in {folder}: give another name, or remove it.")
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    _make_namespaces(dataset_id, folder)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir(parents=True)
    try:
        storage = MinariStorage.new(
            partial / "data",
            observation_space=_observation_space(demonstrations.episodes),
            action_space=spaces.Discrete(_most_actions(demonstrations)),
            jpeg_encoding=False,
        )
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "minari_version": minari.__version__,
                "algorithm_name": demonstrations.expert,
                "description": f"Demonstrations of {demonstrations.env} in words.",
                "heed": metadata,
            }
        )
        storage.update_episodes(EpisodeBuffer(**_as_buffer(episode)) for episode in demonstrations.episodes)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_dataset(path: Path | str) -> tuple[dict[str, Any] | None, Iterator[dict[str, Any]]]:
    """Return the metadata under `heed`, if there is any, and the episodes with the names of `Demonstration`.

    Nothing that the dataset names is imported or made, its environment least of all.

    Args:
        path: as in `dataset_folder`.

    Raises:
        DemonstrationError: if it is not there, or of another kind; the episodes, where it is damaged.
    """
    folder, _ = _place(path)
    from minari.dataset.minari_storage import MinariStorage

    if not folder.is_dir():
        raise DemonstrationError(f"There is no dataset {path}: Minari would keep it in {folder}.")
    try:
        metadata = MinariStorage.read_raw_metadata(folder / "data")
        # Without these Minari would make the environment that the file names.
        if not isinstance(metadata.get("observation_space"), str) or not isinstance(metadata.get("action_space"), str):
            raise DemonstrationError(f"{path} does not say what its observations and actions are, so it is not read.")
        storage = MinariStorage.read(folder / "data")
    except DemonstrationError:
        raise
    except Exception as error:  # whatever Minari makes of a file
        raise DemonstrationError(f"{path} cannot be read: {type(error).__name__}: {error}.") from error
    space = storage.observation_space
    texts = space.spaces if isinstance(space, spaces.Dict) else {}
    if not all(isinstance(texts.get(key), spaces.Text) for key in ("instruction", "observation")):
        raise DemonstrationError(
            f"The observations of {path} are no words: they need `instruction` and `observation` as texts. Record its "
            "environment with `heed demos`, which puts it into words."
        )
    if not isinstance(storage.action_space, spaces.Discrete):
        raise DemonstrationError(
            f"The actions of {path} are {storage.action_space}: demonstrations have Discrete ones."
        )
    return metadata.get("heed"), _episodes(path, storage)


def _episodes(path: Path | str, storage: Any) -> Iterator[dict[str, Any]]:
    indices, first, number = range(storage.total_episodes), int(storage.action_space.start), -1
    try:
        both = zip(storage.get_episodes(indices), storage.get_episode_metadata(indices), strict=True)
        for number, (episode, about) in enumerate(both):  # noqa: B007 - the error names it
            yield _as_fields(episode, about, first)
    except Exception as error:  # whatever Minari makes of a file
        told = f"{type(error).__name__}: {error}"
        raise DemonstrationError(f"{path} is damaged after episode {number}: {told}.") from error


def _place(path: Path | str) -> tuple[Path, str]:
    """Return the folder of a dataset, and its id."""
    name = str(path).removeprefix(MINARI)
    try:
        import minari
        from minari.dataset.minari_dataset import parse_dataset_id
        from minari.storage import get_dataset_path
    except ImportError as error:
        raise DemonstrationError(f"{path} needs Minari ({error}): pip install 'heed[minari]'.") from None
    if tuple(map(int, re.findall(r"\d+", minari.__version__)[:3])) < LEAST_VERSION:
        raise DemonstrationError(
            f"{path} needs Minari {'.'.join(map(str, LEAST_VERSION))} or newer: pip install 'heed[minari]'."
        )
    if name.startswith(BEGINS_FOLDER):
        folder = Path(name).expanduser().absolute()  # Minari joins a relative one to itself
        return folder, f"{re.sub(r'[^-_0-9a-zA-Z]', '_', folder.name)}-v0"
    try:
        parse_dataset_id(name)
    except (ValueError, TypeError):
        raise DemonstrationError(
            f"{path} is no dataset: write minari:NAME-v0 or minari:NAMESPACE/NAME-v0, or minari:./folder."
        ) from None
    return get_dataset_path(name), name


def _make_namespaces(dataset_id: str, folder: Path) -> None:
    """Make the namespace of an id, without which Minari does not list the dataset."""
    from minari.namespace import create_namespace, list_local_namespaces

    namespace = dataset_id.rpartition("/")[0]
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)
    folder.parent.mkdir(parents=True, exist_ok=True)


def _observation_space(episodes: Sequence[Demonstration]) -> spaces.Dict:
    """Return the space of the observations: texts as long and of such characters as there are."""
    observed = [_observations(episode) for episode in episodes]
    found: dict[str, spaces.Space[Any]] = {}
    for key, values in observed[0].items():
        if isinstance(values, np.ndarray):
            low, high = (0, 255) if values.dtype == np.uint8 else (-np.inf, np.inf)
            found[key] = spaces.Box(low, high, values.shape[1:], values.dtype.type)
        else:
            texts = [text for one in observed for text in one[key]]
            characters = "".join(sorted(set().union(*texts))) or " "
            found[key] = spaces.Text(max(1, *map(len, texts)), min_length=0, charset=characters)
    return spaces.Dict(found)


def _observations(episode: Demonstration) -> dict[str, Any]:
    """Return what is seen in each state, (T + 1,) under each key."""
    observed: dict[str, Any] = {
        "instruction": [episode.instruction] * len(episode.observations),
        "observation": list(episode.observations),
    }
    if episode.admissible is not None:
        observed["actions"] = [json.dumps(listed, ensure_ascii=False) for listed in episode.admissible]
    for name in ("numbers", "image"):
        array: PackedArray | None = getattr(episode, name)
        if array is not None:
            observed[name] = array.unpack()
    return observed


def _most_actions(demonstrations: Demonstrations) -> int:
    """Return how many actions there are, where they change at most."""
    listed = (texts for episode in demonstrations.episodes for texts in episode.admissible or ())
    return max([len(demonstrations.action_texts), *map(len, listed)])


def _as_buffer(episode: Demonstration) -> dict[str, Any]:
    """Return an episode as Minari takes it. Its infos begin with that of the reset."""
    steps = len(episode)
    last = np.arange(steps) == steps - 1
    infos: dict[str, Any] = {"is_success": np.append(False, last & episode.success)}
    if episode.labels is not None:
        infos["expert_action"] = np.append(np.array(episode.labels, dtype=np.int64), -1)  # in each state but the last
    return {
        "seed": episode.seed,
        "observations": _observations(episode),
        "actions": np.array(episode.actions, dtype=np.int64),
        "rewards": np.array(episode.rewards, dtype=np.float64),
        "terminations": last & episode.terminated,
        "truncations": last & (not episode.terminated),
        "infos": infos,
    }


def _as_fields(episode: dict[str, Any], about: dict[str, Any], first_action: int) -> dict[str, Any]:
    """Return an episode of Minari with the names of `Demonstration`."""
    seen, infos = episode["observations"], episode["infos"] or {}
    rewards, terminated = np.asarray(episode["rewards"], dtype=float), bool(episode["terminations"][-1])
    told = next((infos[name] for name in ("is_success", "success") if name in infos), None)
    fields = {
        "seed": int(about["seed"] if about.get("seed") is not None else episode["id"]),
        "instruction": seen["instruction"][0],
        "observations": list(seen["observation"]),
        "actions": [int(action) - first_action for action in episode["actions"]],
        "rewards": rewards.tolist(),
        "terminated": terminated,
        # As a verbalizer has it where nobody says.
        "success": bool(told[-1]) if told is not None else terminated and bool(rewards[-1] > 0),
    }
    if "actions" in seen:
        fields["admissible"] = [json.loads(listed) for listed in seen["actions"]]
    if "expert_action" in infos:
        fields["labels"] = [int(action) - first_action for action in infos["expert_action"][:-1]]
    for name in ("numbers", "image"):
        if name in seen:
            fields[name] = PackedArray.of(np.asarray(seen[name]))
    return fields
