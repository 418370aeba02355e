"""Checkpoints: exact, atomic, without pickle, and clear about what is wrong with one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import LinearSchedule

from heed.agents import DQN, PPO, CheckpointError, load
from heed.agents.persistence import checkpoint as checkpoint_module
from heed.agents.persistence.checkpoint import CheckpointFormatError
from heed.envs.make import make

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
OPTIONS: dict[type[PPO | DQN], dict[str, Any]] = {
    PPO: {"n_steps": 8, "batch_size": 16, "n_epochs": 2},
    DQN: {"learning_starts": 16, "buffer_size": 200, "batch_size": 16, "gradient_steps": 1},
}
AGENTS = [PPO, DQN]


def trained(kind: type[PPO | DQN], steps: int = 64, **options: Any) -> PPO | DQN:
    agent = kind(env=make(LEVEL, n_envs=4, seed=0), seed=0, **OPTIONS[kind], **options)
    agent.learn(steps)
    return agent


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "ppo"
    trained(PPO).save(folder)
    return folder


def copy_of(folder: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, to / "copy"))


@pytest.mark.parametrize("head", ["score", "linear"])
@pytest.mark.parametrize("kind", AGENTS)
def test_a_loaded_agent_is_the_saved_one_exactly(kind: type[PPO | DQN], head: str, tmp_path: Path) -> None:
    agent = trained(kind, policy_kwargs={"head": head}, gamma=0.9)
    agent.save(tmp_path / "agent")
    loaded = load(tmp_path / "agent")
    assert type(loaded) is kind
    for name, tensor in agent.policy.state_dict().items():
        assert torch.equal(tensor, loaded.policy.state_dict()[name]), name
    assert loaded.gamma == 0.9
    assert loaded.num_timesteps == agent.num_timesteps
    words = {"instruction": ["go to the red ball"] * 2, "observation": ["red ball 1 ahead", "wall 1 ahead"]}
    np.testing.assert_array_equal(agent.action_probabilities(words), loaded.action_probabilities(words))


def test_the_folder_holds_json_and_safetensors_only(saved: Path) -> None:
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".jinja"}
    for path in files:
        begin = path.read_bytes()[:2]  # a safetensors header may be 0x..80 bytes long
        assert begin != b"PK", f"{path} is a zip"
        assert begin not in {b"\x80" + bytes([protocol]) for protocol in range(2, 6)}, f"{path} is a pickle"


def test_schedules_come_back_and_functions_are_refused(tmp_path: Path) -> None:
    agent = trained(PPO, learning_rate=LinearSchedule(1e-2, 1e-3, 0.5))
    agent.save(tmp_path / "agent")
    schedule = load(tmp_path / "agent").learning_rate
    assert isinstance(schedule, LinearSchedule)
    assert (schedule.start, schedule.end, schedule.end_fraction) == (1e-2, 1e-3, 0.5)
    with pytest.raises(TypeError, match=r"learning_rate=.*cannot be saved without pickle"):
        trained(PPO, learning_rate=lambda _: 1e-3).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_arguments_can_be_changed_and_misspelt_ones_are_refused(saved: Path) -> None:
    assert PPO.load(saved, n_epochs=7).n_epochs == 7
    with pytest.raises(TypeError, match="no argument 'n_epoch'"):
        PPO.load(saved, n_epoch=7)


@pytest.mark.parametrize("name", ["policy.safetensors", "agent.json", "language_model/tokenizer.json"])
def test_a_cut_off_file_is_named(saved: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(saved, tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=rf"{name} is cut off"):
        load(folder)


@pytest.mark.parametrize("name", ["policy.safetensors", "optimizer.safetensors", "agent.json"])
def test_a_changed_file_is_named(saved: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(saved, tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[-10] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=rf"{name} was changed"):
        load(folder)


def test_a_missing_an_added_and_a_foreign_file_are_named(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path)
    (folder / "extra.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"extra\.json does not belong"):
        load(folder)
    (folder / "extra.json").unlink()
    (folder / "random.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"random\.safetensors is missing"):
        load(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        load(folder)
    with pytest.raises(CheckpointError, match="There is no checkpoint folder"):
        load(tmp_path / "nowhere")


def test_another_format_and_another_class_are_told(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"class PPO, not DQN"):
        DQN.load(saved)
    folder = copy_of(saved, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99, "heed": "7.3.0"}))
    with pytest.raises(CheckpointFormatError, match=r"reads format 3. Install heed 7\.3\.0, which wrote it"):
        load(folder)
    del manifest["heed"]  # which is nothing to be relied on
    for number in (0, 1, 2):
        (folder / "manifest.json").write_text(json.dumps({**manifest, "format": number}))
        with pytest.raises(CheckpointFormatError, match=f"format {number}, .* Install the version that wrote it"):
            load(folder)


def test_a_crash_while_saving_leaves_the_last_good_checkpoint(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(saved, tmp_path)
    agent = load(folder)
    agent.num_timesteps = 10**6

    def disk_full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("heed.agents.persistence.saved_policy.write_tensors", disk_full)
    with pytest.raises(OSError, match="No space left"):
        agent.save(folder)
    monkeypatch.undo()
    assert load(folder).num_timesteps == 64
    assert os.listdir(tmp_path) == ["copy"], "nothing half-written is left behind"


def test_saving_replaces_a_checkpoint_but_nothing_else(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path)
    agent = load(folder)
    agent.num_timesteps = 77
    agent.save(folder)
    assert load(folder).num_timesteps == 77
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "cat.png").write_bytes(b"cat")
    with pytest.raises(FileExistsError, match="is no checkpoint"):
        agent.save(tmp_path / "photographs")
    assert (tmp_path / "photographs" / "cat.png").read_bytes() == b"cat"


def test_an_environment_with_other_actions_is_refused(saved: Path) -> None:
    from heed.envs.contract import TextActions

    env = make(LEVEL, n_envs=1, seed=0)
    env.action_space = TextActions(("left", "right"))
    with pytest.raises(ValueError, match="the environment's actions are"):
        load(saved, env=env)


def test_sb3s_pickling_ways_are_closed(saved: Path, tmp_path: Path) -> None:
    agent = DQN(env=make(LEVEL, n_envs=1, seed=0), **OPTIONS[DQN])
    for call in (
        lambda: agent.save_replay_buffer(tmp_path / "buffer"),
        lambda: agent.load_replay_buffer(tmp_path / "buffer"),
        lambda: agent.policy.save(str(tmp_path / "policy")),
        lambda: type(agent.policy).load(str(tmp_path / "policy")),
    ):
        with pytest.raises(TypeError, match="pickle"):
            call()
    assert not any(tmp_path.iterdir())


def test_digests_cover_every_file(saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    names = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert names == {*manifest["files"], "manifest.json"}
    checkpoint_module.verify_checkpoint(saved)
