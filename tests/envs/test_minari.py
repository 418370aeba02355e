"""Demonstrations come back from a dataset of Minari bit for bit, Minari reads it too, and nothing in one is run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs.demonstrations.demonstrations import (
    Demonstration,
    DemonstrationError,
    Demonstrations,
    read_demonstrations,
    write_demonstrations,
)
from heed.envs.demonstrations.packed_array import PackedArray
from heed.scripts import demos, train

minari: Any = pytest.importorskip("minari", reason="the extra `minari` is not installed")
pytest.importorskip("h5py", reason="the extra `minari` is not installed")

RANDOM = np.random.default_rng(0)
EPISODE = Demonstration(
    seed=2**32 - 1,
    instruction="go to the rød ball",
    observations=("a", "b\n\N{FIRE}", ""),
    actions=(2, 0),
    rewards=(0.1, 1 / 3),
    terminated=True,
    success=True,
    numbers=PackedArray.of(RANDOM.random((3, 4), dtype=np.float32)),
    image=PackedArray.of(RANDOM.integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)),
)
LABELLED = dataclasses.replace(EPISODE, labels=(1, 1), terminated=False, success=False)
FIXED = Demonstrations(env="E-v0", expert="bot", seed=3, action_texts=("x", "y", "z"), episodes=(EPISODE, LABELLED))
CHANGING = dataclasses.replace(
    FIXED,
    action_texts=(),
    episodes=(
        dataclasses.replace(
            EPISODE, actions=(1, 0), admissible=(("go", 'say "å"'), ("stay",), ("go",)), numbers=None, image=None
        ),
    ),
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path


@pytest.mark.parametrize("name", ["minari:heed/rooms/go-v0", "minari:go-v3", "minari:./here", "minari:{place}/there"])
@pytest.mark.parametrize("written", [FIXED, CHANGING])
def test_a_dataset_gives_back_what_was_written(name: str, written: Demonstrations, place: Path) -> None:
    path = Path(name.format(place=place))
    write_demonstrations(path, written)
    assert read_demonstrations(path) == written
    assert read_demonstrations(path, action_texts=written.action_texts) == written
    with pytest.raises(DemonstrationError, match="exists already"):
        write_demonstrations(path, written)
    with pytest.raises(DemonstrationError, match="but those of this environment are"):
        read_demonstrations(path, action_texts=["other"])


def test_minari_reads_it_too() -> None:
    write_demonstrations("minari:heed/go-v0", FIXED)
    assert list(minari.list_local_datasets()) == ["heed/go-v0"]
    dataset = minari.load_dataset("heed/go-v0")
    first, second = dataset
    assert first.observations["observation"] == list(EPISODE.observations)
    assert first.actions.tolist() == [2, 0]
    assert first.rewards.tolist() == list(EPISODE.rewards)
    assert (first.terminations.tolist(), first.truncations.tolist()) == ([False, True], [False, False])
    assert (second.terminations.tolist(), second.truncations.tolist()) == ([False, False], [False, True])
    assert first.infos["is_success"].tolist() == [False, False, True]
    assert second.infos["expert_action"].tolist() == [1, 1, -1]
    assert EPISODE.image is not None
    assert (first.observations["image"] == EPISODE.image.unpack()).all()
    step = {key: values[1] for key, values in first.observations.items()}
    assert dataset.observation_space.contains(step)
    assert dataset.action_space == spaces.Discrete(3)
    assert next(iter(dataset.storage.get_episode_metadata([0])))["seed"] == EPISODE.seed


def test_a_dataset_is_written_whole_or_not_at_all(place: Path) -> None:
    broken = dataclasses.replace(EPISODE, observations=("a", "\0", "c"))  # which HDF5 cannot hold
    with pytest.raises(ValueError, match="NULL"):
        write_demonstrations("minari:./here", dataclasses.replace(FIXED, episodes=(EPISODE, broken)))
    assert list(place.iterdir()) == []


def changed(**fields: Any) -> None:
    """Write a dataset whose metadata are others; of None they are left out."""
    write_demonstrations("minari:./here", FIXED)
    file = Path("here/data/metadata.json")
    metadata = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))


def test_a_dataset_of_somebody_else_is_read_by_its_words() -> None:
    changed(heed=None)
    with pytest.raises(DemonstrationError, match="does not name its actions"):
        read_demonstrations("minari:./here")
    read = read_demonstrations("minari:./here", action_texts=["x", "y", "z"])
    assert read.episodes == FIXED.episodes


def test_an_environment_that_a_dataset_names_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    changed(observation_space=None, env_spec='{"id": "Evil-v0", "entry_point": "os:abort"}')
    monkeypatch.setattr(gymnasium, "make", None)
    with pytest.raises(DemonstrationError, match="does not say what its observations and actions are"):
        read_demonstrations("minari:./here")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"heed": {"version": 9, "format": "heed-demonstrations"}}, "of version 9 of the format"),
        ({"heed": {"format": "other"}}, "the metadata under `heed` are not their header"),
        ({"heed": {"format": "heed-demonstrations", "version": 1}}, "the metadata is damaged"),
        ({"observation_space": '{"type": "Discrete", "start": 0, "n": 2}'}, "are no words"),
        ({"action_space": '{"type": "MultiBinary", "n": 2}'}, "demonstrations have Discrete ones"),
        ({"action_space": '{"type": "Discrete", "start": 1, "n": 3}'}, "episode 0 is damaged: one of its actions is"),
        ({"observation_space": "{"}, "cannot be read: JSONDecodeError"),
        ({"total_episodes": 3}, "is damaged after episode 1: KeyError"),
    ],
)
def test_what_is_wrong_with_a_dataset_is_told(fields: dict[str, Any], sentence: str) -> None:
    changed(**fields)
    with pytest.raises(DemonstrationError, match=sentence):
        read_demonstrations("minari:./here")


@pytest.mark.parametrize(
    ("name", "sentence"), [("nowhere-v0", "There is no dataset minari:nowhere-v0"), ("go", "write minari:NAME-v0")]
)
def test_a_dataset_that_is_not_there(name: str, sentence: str) -> None:
    with pytest.raises(DemonstrationError, match=sentence):
        read_demonstrations(f"minari:{name}")


def test_without_minari_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(DemonstrationError, match=r"pip install 'heed\[minari\]'"):
        read_demonstrations("minari:go-v0")


def test_demonstrations_are_recorded_and_cloned(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = ["--env", "BabyAI-GoToRedBallNoDists-v0", "--episodes", "4", "--out", "minari:babyai/red-ball-v0"]
    demos.main(recorded)
    with pytest.raises(SystemExit):
        demos.main(recorded)
    assert "exists already" in capsys.readouterr().err
    few = ["--steps", "0", "--eval-episodes", "0", "--clone-epochs", "1", "--n-envs", "2", "--sample-every", "0"]
    run = [*recorded[:2], "--demonstrations", "minari:babyai/red-ball-v0", "--run-dir", str(place / "run")]
    train.main([*run, *few])
    assert "Cloned 3 episodes" in capsys.readouterr().out
