"""Weights & Biases: a stand-in's view of what it is given, and what the library itself writes offline."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heed.scripts import train as train_module
from heed.training.run_folder import RunFolder
from heed.training.tracking.weights_and_biases import WandbWriter
from tests.training.tracked import EPISODE, run_train, stand_in


def test_a_resumed_training_goes_on_in_its_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = stand_in(monkeypatch)
    state = tmp_path / "wandb.json"
    writer = WandbWriter(tmp_path / "my-run", state, {"seed": 3})
    writer.write({"train/loss": 1.5, "note": "no number"}, {}, 64)
    writer.write({"train/loss": 1.0}, {}, 128)
    writer.write_episode(EPISODE, 128)
    writer.close()
    assert [step for step, _ in wandb.logged] == [64, 128, 128]
    assert wandb.logged[0][1] == {"train/loss": 1.5}
    episode = wandb.logged[2][1]
    assert episode["sample/episode"] == ("video", EPISODE.gif)
    assert "<pre>Instruction: press &lt;red&gt;\n1. sees: | *buttons* |</pre>" in episode["sample/text"][1]
    assert episode["sample/success"] == 1.0
    # Stopped, and resumed from a checkpoint after 64 steps.
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_MODE", "offline")
    writer = WandbWriter(tmp_path / "my-run", state, {"seed": 3})
    for step in (96, 128, 160):
        writer.write({"train/loss": 0.5}, {}, step)
    assert [step for step, _ in wandb.logged[3:]] == [160]
    first, second = wandb.runs
    assert first["id"] == second["id"] == json.loads(state.read_text())["id"]
    assert (first["project"], first["name"], first["config"]) == ("heed", "my-run", {"seed": 3})
    assert (second["project"], first["resume"], second["resume"]) == ("mine", "allow", None)
    assert json.loads(state.read_text())["steps"] == 160


def test_without_wandb_or_an_account_nothing_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"

    def refused() -> str:
        with pytest.raises(SystemExit):
            run_train("--wandb", "--steps", "64", "--run-dir", str(folder))
        assert not folder.exists()
        return " ".join(capsys.readouterr().err.split())

    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    assert "Install it with: pip install 'heed[wandb]'" in refused()
    stand_in(monkeypatch, account=False)
    assert "cannot be used (no account): run `wandb login`, or set WANDB_MODE=offline." in refused()
    stand_in(monkeypatch, fails=True)
    assert "cannot be used (no network)" in refused()
    wandb = stand_in(monkeypatch, account=False)
    monkeypatch.setenv("WANDB_MODE", "offline")  # nobody needs an account
    run_train("--wandb", "--steps", "64", "--run-dir", str(folder))
    assert (len(wandb.runs), wandb.finished) == (1, 1)
    wandb = stand_in(monkeypatch, account=False, mode="offline")  # nor where `wandb offline` was said
    run_train("--wandb", "--steps", "64", "--run-dir", str(tmp_path / "other"))
    assert [run["resume"] for run in wandb.runs] == [None]


def records_of(path: Path) -> Iterator[bytes]:
    """Yield the records of wandb's file: LevelDB's log format, with seven bytes before it."""
    data = path.read_bytes()
    at, record = 7, b""
    while at < len(data):
        if 32768 - at % 32768 < 7:  # no room for a header: the block ends in zeros
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_itself_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    def history() -> dict[int, dict[str, Any]]:
        logged: dict[int, dict[str, Any]] = {}
        for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
            for data in records_of(file):
                record = Record()
                record.ParseFromString(data)
                if record.history.item:
                    items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                    assert record.history.step.num not in logged
                    logged[record.history.step.num] = {name: json.loads(value) for name, value in items.items()}
        return logged

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tmp_path / "run"
    options = ["--wandb", "--sample-every", "256", "--max-steps", "6", "--run-dir", str(folder)]
    run_train("--steps", "512", *options)
    train_module.main(["--run-dir", str(folder), "--resume", "--steps", "1024"])

    deadline = time.monotonic() + 30
    while 1024 not in (logged := history()) and time.monotonic() < deadline:
        time.sleep(0.1)  # another process of wandb's writes it
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2
    curve = RunFolder(folder).read_curve()
    for point in curve:
        for name, value in point.items():
            if name != "steps":
                assert logged[int(point["steps"])][name] == pytest.approx(value), name
    shown = [step for step, values in logged.items() if "sample/success" in values]
    assert shown == [256, 768]  # the first part ended at 512, before another rollout
    assert len(list(folder.glob("wandb/offline-run-*/files/media/videos/**/*.gif"))) == 2
