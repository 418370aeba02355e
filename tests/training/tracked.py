"""What the tests of the trackers share: a short training, what its writers wrote, and a stand-in for wandb."""

from __future__ import annotations

import csv
import random
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from heed.scripts import train as train_module
from heed.training.tracking.tracking import SampleEpisode

LEVEL = "BabyAI-GoToObjS4-v0"
FEW = ["--env", LEVEL, "--n-envs", "4", "--save-every", "256", "--eval-episodes", "0", "--device", "cpu"]
EPISODE = SampleEpisode(
    gif=b"GIF89a" + bytes([44, 1, 200, 0]) + b"...",  # 300 x 200
    text="Instruction: press <red>\n1. sees: | *buttons* |",
    caption="Success: “press <red>”, 1 step",
    metrics={"success": 1.0, "length": 1.0},
)


def run_train(*arguments: str) -> None:
    train_module.main([*FEW, *arguments])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def events_of(folder: Path) -> EventAccumulator:
    sizes = {"scalars": 0, "images": 0, "tensors": 0}  # all of them
    events = EventAccumulator(str(folder), size_guidance=sizes)
    events.Reload()
    return events


class StandInError(Exception):
    """What the stand-in for wandb raises."""


class WandbStandIn(types.ModuleType):
    """Takes what would go to Weights & Biases."""

    Error = StandInError

    def __init__(self, *, account: bool = True, fails: bool = False, mode: str = "online"):
        super().__init__("wandb")
        self.account, self.fails, self.mode = account, fails, mode
        self.runs: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def setup(self) -> Any:
        return types.SimpleNamespace(settings=types.SimpleNamespace(mode=self.mode))

    def login(self) -> bool:
        if not self.account:
            raise StandInError("no account")
        return True

    def init(self, **options: Any) -> WandbStandIn:
        if self.fails:
            raise StandInError("no network")
        random.random()  # as a library may
        self.runs.append(options)
        return self

    def log(self, values: dict[str, Any], *, step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1

    def Settings(self, **options: Any) -> dict[str, Any]:  # noqa: N802 - wandb's names
        return options

    def Video(self, file: Any, **options: Any) -> tuple[str, bytes]:  # noqa: N802
        assert options["format"] == "gif"
        return "video", file.read()

    def Html(self, text: str, **options: Any) -> tuple[str, str]:  # noqa: N802
        assert options["data_is_not_path"]
        return "html", text


def stand_in(monkeypatch: pytest.MonkeyPatch, **options: Any) -> WandbStandIn:
    """Put a stand-in in wandb's place, as if it were installed and online."""
    wandb = WandbStandIn(**options)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_NAME"):
        monkeypatch.delenv(name, raising=False)
    return wandb
