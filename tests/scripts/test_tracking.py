"""Trackers: every metric reaches every writer, a resumed training goes on in the same curves, nobody is disturbed."""

from __future__ import annotations

import csv
import json
import logging
import random
import shutil
import struct
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from heed.agents import PPO, load
from heed.scripts import train as train_module
from heed.scripts.compare.groups import grouped
from heed.scripts.playing import Moment
from heed.scripts.recording import MAX_CHARACTERS, _in_words
from heed.scripts.run_folder import CurveWriter, RunFolder
from heed.scripts.tracking import samples, system
from heed.scripts.tracking.csv_file import CsvWriter
from heed.scripts.tracking.samples import unnoticed
from heed.scripts.tracking.system import SystemMetrics, memory_metrics, peak_memory, resident_memory
from heed.scripts.tracking.tensorboard import TensorBoardWriter, size_of_gif
from heed.scripts.tracking.tracking import SampleEpisode, Tracking
from heed.scripts.tracking.weights_and_biases import WandbWriter
from heed.scripts.train_options import TrainConfig
from tests.buttons import Buttons, make_buttons

LEVEL = "BabyAI-GoToObjS4-v0"
FEW = ["--env", LEVEL, "--n-envs", "4", "--save-every", "256", "--eval-episodes", "0", "--device", "cpu"]
CPU = torch.device("cpu")
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


# -- the machine -------------------------------------------------------------------------------------------


def test_rates_are_those_since_the_last_point() -> None:
    now, tokens = [10.0], [500]
    metrics = SystemMetrics(CPU, lambda: tokens[0], clock=lambda: now[0])
    metrics.begin(1000)
    now[0], tokens[0] = 12.0, 800
    first = metrics.measure(1512)
    assert first["system/steps_per_second"] == 256
    assert first["system/tokens_per_second"] == 150
    now[0], tokens[0] = 16.0, 802
    second = metrics.measure(1520)
    assert second["system/steps_per_second"] == 2
    assert second["system/tokens_per_second"] == 0.5
    assert "system/steps_per_second" not in metrics.measure(1520)  # no time has passed
    now[0] = 17.0
    assert "system/tokens_per_second" not in SystemMetrics(CPU, None, clock=lambda: now[0]).measure(0)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell what a process takes up")
def test_memory_is_what_the_process_takes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resident_memory()
    assert before is not None
    taken = b"\1" * (64 * 2**20)
    after = resident_memory()
    assert after is not None
    assert after - before == pytest.approx(len(taken), rel=0.1)
    assert peak_memory() >= 0.99 * after
    assert memory_metrics(CPU)["system/memory_mib"] == pytest.approx(after / 2**20, rel=0.1)
    assert not [name for name in memory_metrics(CPU) if "gpu" in name]
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5 * 2**20)
    monkeypatch.setattr(system, "resident_memory", lambda: None)
    on_gpu = memory_metrics(torch.device("cuda"))
    assert (on_gpu["system/gpu_memory_mib"], on_gpu["system/gpu_peak_memory_mib"]) == (3, 5)
    assert "system/memory_mib" not in on_gpu


def test_tokens_are_counted_when_they_are_read_and_not_when_they_are_remembered() -> None:
    agent = PPO(env=make_buttons(2), seed=0, n_steps=8, batch_size=16, policy_kwargs={"max_prompt_tokens": 64})
    network: Any = agent.language_policy.network
    words = {"instruction": ["press the red button", "press the blue button"] * 2, "observation": ["three buttons"] * 4}
    prompts = agent.language_policy.encoder(words)
    tokens = int((prompts[:2] >= 0).sum())  # two different ones
    before = network.tokens_read
    agent.action_probabilities(words)
    assert network.tokens_read - before == tokens
    agent.action_probabilities(words)
    assert network.tokens_read - before == tokens
    agent.language_policy.set_training_mode(True)
    network(torch.as_tensor(prompts))
    assert network.tokens_read - before == 2 * tokens


# -- the writers -------------------------------------------------------------------------------------------


def test_every_writer_gets_every_metric_and_the_curve_what_a_seed_decides(tmp_path: Path) -> None:
    now = [0.0]
    told: list[int] = []
    writers = [
        TensorBoardWriter(tmp_path / "tensorboard", steps=0),
        CsvWriter(tmp_path / "metrics.csv", steps=0),
        CurveWriter(tmp_path / "curve.jsonl", on_point=told.append),
    ]
    tracking = Tracking(writers, SystemMetrics(CPU, lambda: 100, clock=lambda: now[0]))
    logger = Logger(folder=None, output_formats=[tracking])
    tracking.begin(0)
    now[0] = 2.0
    logger.record("rollout/success_rate", 0.25)
    logger.record("time/fps", 32)
    logger.dump(64)
    now[0] = 4.0
    logger.record("rollout/success_rate", np.float32(0.5))
    logger.record("train/loss", 1.5)
    logger.record("train/n_updates", 4, exclude="tensorboard")
    logger.record("note", "words go where words can")
    logger.dump(128)
    tracking.write_episode(EPISODE, 128)
    logger.close()

    first, second = rows_of(tmp_path / "metrics.csv")
    assert (first["steps"], first["rollout/success_rate"], first["train/loss"]) == ("64", "0.25", "")
    assert (second["steps"], second["train/loss"], second["train/n_updates"]) == ("128", "1.5", "4.0")
    assert (first["system/steps_per_second"], second["system/steps_per_second"]) == ("32.0", "32.0")
    assert second["system/tokens_per_second"] == "0.0"
    assert "note" not in second

    events = events_of(tmp_path / "tensorboard")
    assert [(e.step, e.value) for e in events.Scalars("rollout/success_rate")] == [(64, 0.25), (128, 0.5)]
    assert [(e.step, e.value) for e in events.Scalars("system/steps_per_second")] == [(64, 32), (128, 32)]
    assert [(e.step, e.value) for e in events.Scalars("sample/success")] == [(128, 1)]
    assert "train/n_updates" not in events.Tags()["scalars"]
    (image,) = events.Images("sample/episode")
    assert (image.step, image.width, image.height, image.encoded_image_string) == (128, 300, 200, EPISODE.gif)
    (text,) = events.Tensors("sample/episode/text_summary")
    assert text.tensor_proto.string_val[0].decode().endswith("    1. sees: | *buttons* |")

    points = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert points == [
        {"steps": 64, "rollout/success_rate": 0.25},
        {"steps": 128, "rollout/success_rate": 0.5, "train/loss": 1.5, "train/n_updates": 4.0},
    ]
    assert told == [64, 128]


def test_a_csv_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    writer = CsvWriter(path, steps=0)
    for step in (1, 2, 3):
        writer.write({"loss": step / 2}, {}, step)
    path.write_text(path.read_text() + "4,2.")  # cut off by a crash: nobody knows what was to follow
    writer = CsvWriter(path, steps=9)
    assert [row["steps"] for row in rows_of(path)] == ["1", "2", "3"]
    writer = CsvWriter(path, steps=2)
    writer.write({"loss": 7.0, "accuracy": 0.5}, {}, 3)
    writer.write({"accuracy": 0.75}, {}, 4)
    assert path.read_text() == "steps,accuracy,loss\n1,,0.5\n2,,1.0\n3,0.5,7.0\n4,0.75,\n"
    assert list(tmp_path.iterdir()) == [path]


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


# -- trainings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["--agent", "ppo", "--steps", "512", "--history", "2"],  # which remembers beginnings of prompts
        ["--agent", "ppo", "--steps", "512", "--train-layers", "1"],  # which remembers states of frozen layers
        ["--agent", "dqn", "--steps", "1024", "--hindsight", "0"],
        ["--agent", "grpo", "--steps", "512", "--group-size", "2"],
    ],
    ids=lambda options: "-".join(options[1::2]),
)
def test_sample_episodes_leave_a_training_as_it_is(options: list[str], tmp_path: Path) -> None:
    run_train(*options, "--sample-every", "128", "--max-steps", "12", "--run-dir", str(tmp_path / "shown"))
    run_train(*options, "--sample-every", "0", "--max-steps", "12", "--run-dir", str(tmp_path / "plain"))
    assert events_of(tmp_path / "shown" / "tensorboard").Images("sample/episode")
    assert not events_of(tmp_path / "plain" / "tensorboard").Tags()["images"]
    assert RunFolder(tmp_path / "shown").read_curve() == RunFolder(tmp_path / "plain").read_curve()
    first, second = (load(RunFolder(tmp_path / name).latest_checkpoint()) for name in ("shown", "plain"))
    for name, tensor in first.policy.state_dict().items():
        assert tensor.equal(second.policy.state_dict()[name]), name


def test_a_resumed_training_goes_on_in_all_its_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = stand_in(monkeypatch)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = ["--csv", "--wandb", "--sample-every", "256", "--max-steps", "6", "--steps", "768"]
    run_train(*options, "--run-dir", str(whole))
    shutil.copytree(whole, stopped)
    shutil.rmtree(RunFolder(stopped).latest_checkpoint())  # as if it had been killed before the last one
    before = len(wandb.logged)
    train_module.main(["--run-dir", str(stopped), "--resume"])
    reproducible = ("rollout/", "train/")

    assert RunFolder(stopped).read_curve() == RunFolder(whole).read_curve()
    tables = [rows_of(folder / "metrics.csv") for folder in (whole, stopped)]
    steps = [row["steps"] for row in tables[0]]
    assert len(steps) == len(set(steps)) >= 3
    for ours, theirs in zip(*tables, strict=True):
        assert ours.keys() == theirs.keys()
        assert {"system/memory_mib", "system/steps_per_second", "system/tokens_per_second"} <= ours.keys()
        for name in ours:
            if name.startswith(reproducible):
                assert ours[name] == theirs[name], name
    both = [events_of(folder / "tensorboard") for folder in (whole, stopped)]
    assert len(list((stopped / "tensorboard").iterdir())) == 2
    for name in ("train/loss", "rollout/success_rate", "sample/episode_return"):
        points = [[(point.step, point.value) for point in events.Scalars(name)] for events in both]
        assert points[0] == points[1], name
    images = [[(image.step, image.encoded_image_string) for image in e.Images("sample/episode")] for e in both]
    assert [step for step, _ in images[0]] == [256, 512]
    assert images[0] == images[1]
    assert len(wandb.logged) == before  # it had all of them
    assert wandb.runs[0]["id"] == wandb.runs[1]["id"]


class Broken(Buttons):
    """Breaks, or hangs, in the hands of whoever wants to look; a training has other seeds."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - as Gymnasium declares it
    pause = 0.0

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode
        self.drawn = 0

    def render(self) -> Any:
        time.sleep(self.pause)
        self.drawn += 1
        if self.drawn > 1:  # one that cannot draw at all is shown in words
            raise ZeroDivisionError("no picture")
        return np.zeros((8, 8, 3), dtype=np.uint8)


gymnasium.register("TestBroken-v0", entry_point=lambda **options: Broken(**options))


@pytest.mark.parametrize(("pause", "reason"), [(0.0, "ZeroDivisionError: no picture"), (30.0, "did not return within")])
def test_a_sample_episode_that_fails_costs_the_training_nothing(
    pause: float, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Broken, "pause", pause)
    monkeypatch.setattr(samples, "MAX_SECONDS", 0.5)
    caplog.set_level(logging.WARNING)
    folder = tmp_path / "run"
    run_train(
        "--env", "TestBroken-v0", "--sample-every", "64", "--steps", "384", "--agent", "a2c", "--run-dir", str(folder)
    )
    (record,) = [record for record in caplog.records if record.name.endswith("tracking.samples")]
    assert "No more sample episodes" in record.getMessage()
    assert reason in record.getMessage()
    assert load(RunFolder(folder).latest_checkpoint()).num_timesteps == 384


def test_what_draws_behind_its_back_is_not_noticed() -> None:
    agent = PPO(env=make_buttons(2), seed=0, n_steps=8, batch_size=16, policy_kwargs={"max_prompt_tokens": 64})
    words = {"instruction": ["press the red button"], "observation": ["three buttons"]}
    agent.action_probabilities(words)
    network: Any = agent.language_policy.network
    memory = network.memory

    def draw() -> list[float]:
        agent.action_space.np_random.random()
        return [random.random(), np.random.random(), torch.rand(()).item()]  # noqa: NPY002

    state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    expected = draw()
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])

    def play() -> None:
        with unnoticed(agent):
            draw()
            agent.action_probabilities({**words, "observation": ["something new"]})
            assert network.memory is None
            agent.forget_readings()
            raise ValueError("an error of the environment")

    with pytest.raises(ValueError, match="an error of the environment"):
        play()
    assert draw() == expected
    assert network.memory is memory


def test_a_transcript_says_what_was_seen_and_done() -> None:
    moment = Moment(
        number=2,
        observation={"instruction": "press the red button", "observation": "three buttons"},
        action_texts=("press red", "press green"),
        probabilities=np.array([0.25, 0.75]),
        action=1,
    )
    assert list(_in_words("three buttons", moment)) == ["2. sees: three buttons", "   does: press green (75 %)"]
    long = next(iter(_in_words("x" * 9999, moment)))
    assert long == f"2. sees: {'x' * MAX_CHARACTERS}…"


def test_trackers_do_not_tell_trainings_apart(tmp_path: Path) -> None:
    assert size_of_gif(EPISODE.gif) == (300, 200)
    plain, tracked = TrainConfig().resolved(), TrainConfig(csv=True, wandb=True, sample_every=10, seed=1).resolved()
    runs: list[Any] = [
        types.SimpleNamespace(
            folder=tmp_path / str(config.seed),
            config=config.as_json(),
            seed=config.seed,
            evaluation={"episodes": 1, "seed": 0},
            episodes=(),
        )
        for config in (plain, tracked)
    ]
    assert len(grouped(runs)) == 1
