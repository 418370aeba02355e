"""Trackers: every metric reaches every writer, a resumed training goes on in the same curves, nobody is disturbed."""

from __future__ import annotations

import json
import logging
import random
import shutil
import time
import types
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger

from heed.agents import PPO, load
from heed.evaluation.explanation.episode import NextStep
from heed.evaluation.explanation.recording import MAX_CHARACTERS, _in_words
from heed.scripts import train as train_module
from heed.training.comparison.groups import grouped
from heed.training.options import TrainConfig
from heed.training.run_folder import CurveWriter, RunFolder
from heed.training.tracking import samples, system
from heed.training.tracking.csv_file import CsvWriter
from heed.training.tracking.samples import unnoticed
from heed.training.tracking.system import SystemMetrics, memory_metrics, peak_memory, resident_memory
from heed.training.tracking.tensorboard import TensorBoardWriter, size_of_gif
from heed.training.tracking.tracking import Tracking
from tests.buttons import Buttons, make_buttons
from tests.training.tracked import EPISODE, events_of, rows_of, run_train, stand_in

CPU = torch.device("cpu")


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
    agent = PPO(
        env=make_buttons(2),
        seed=0,
        n_steps=8,
        batch_size=16,
        policy_kwargs={"model": "heed-tiny", "max_prompt_tokens": 64},
    )
    network: Any = agent.language_policy.reader
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


# -- trainings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["--agent", "ppo", "--steps", "192", "--history", "2"],  # which remembers beginnings of prompts
        ["--agent", "ppo", "--steps", "192", "--train-layers", "1"],  # which remembers states of frozen layers
        ["--agent", "dqn", "--steps", "640", "--hindsight", "0"],
        ["--agent", "grpo", "--steps", "192", "--group-size", "2"],
    ],
    ids=lambda options: "-".join(options[1::2]),
)
def test_sample_episodes_leave_a_training_as_it_is(options: list[str], tmp_path: Path) -> None:
    # At least two updates, each with a sample episode before it.
    few = ["--max-steps", "8", *([] if "dqn" in options else ["--rollout-steps", "16"])]
    every = "256" if "dqn" in options else "64"
    run_train(*options, *few, "--sample-every", every, "--run-dir", str(tmp_path / "shown"))
    run_train(*options, *few, "--sample-every", "0", "--run-dir", str(tmp_path / "plain"))
    assert events_of(tmp_path / "shown" / "tensorboard").Images("sample/episode")
    assert not events_of(tmp_path / "plain" / "tensorboard").Tags()["images"]
    assert RunFolder(tmp_path / "shown").read_curve() == RunFolder(tmp_path / "plain").read_curve()
    first, second = (load(RunFolder(tmp_path / name).latest_checkpoint()) for name in ("shown", "plain"))
    for name, tensor in first.policy.state_dict().items():
        assert tensor.equal(second.policy.state_dict()[name]), name


def test_a_resumed_training_goes_on_in_all_its_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = stand_in(monkeypatch)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = ["--csv", "--wandb", "--sample-every", "128", "--max-steps", "6", "--rollout-steps", "32"]
    options += ["--steps", "384", "--head", "linear"]
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
    assert [step for step, _ in images[0]] == [128, 256]
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
    network: Any = agent.language_policy.reader
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
            agent.clear_cache()
            raise ValueError("an error of the environment")

    with pytest.raises(ValueError, match="an error of the environment"):
        play()
    assert draw() == expected
    assert network.memory is memory


def test_a_transcript_says_what_was_seen_and_done() -> None:
    moment = NextStep(
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
