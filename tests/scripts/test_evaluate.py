"""`heed evaluate`: the figures are those of the episodes, the files are there, and what cannot be is told at once."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heed.agents import PPO
from heed.envs.babyai.mixed_local import TASKS
from heed.envs.make import make
from heed.evaluation.playing import read_episodes
from heed.evaluation.report.numbers import numbers_of
from heed.scripts import evaluate as evaluate_module
from heed.scripts.evaluate import EvaluateConfig, command_of, evaluate_run, suite_of
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from tests.small_encoders import save_encoder

LEVEL = "BabyAI-GoToLocal-v0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    config = TrainConfig(env=LEVEL, steps=64, max_steps=12, run_dir=folder.path).resolved()
    folder.begin(config.as_json())
    agent = PPO(env=make(LEVEL, n_envs=2, seed=0), n_steps=8, batch_size=16, seed=0)
    agent.learn(16)
    agent.save(folder.checkpoint_path(agent.num_timesteps))
    return folder


@pytest.fixture(scope="module")
def results(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "here"
    assert evaluate_run(EvaluateConfig(run_dir=run.path, episodes=4, out=out)) == out / "report.html"
    return out


def read(path: Path) -> Any:
    return json.loads((path / "evaluation.json").read_text())


def test_a_run_gets_its_files(results: Path) -> None:
    evaluation = read(results)
    assert (evaluation["suite"], evaluation["episodes"], evaluation["seed"]) == ("instructions", 4, 0)
    assert evaluation["trained_steps"] == 16  # not the 64 of the configuration
    (environment,) = evaluation["environments"]
    assert environment["env"] == LEVEL
    assert [axis["axis"] for axis in environment["axes"]] == ["true", "blank", "swapped"]
    policies = {axis["axis"]: list(axis["policies"]) for axis in environment["axes"]}
    assert policies == {
        "true": ["sampled", "greedy", "random", "expert"],
        "blank": ["sampled", "greedy"],
        "swapped": ["sampled", "greedy"],
    }
    assert "shown_success" in environment["axes"][2]["policies"]["sampled"]
    for number in (1, 2):
        with Image.open(results / f"episode-{number}.gif") as gif:
            assert getattr(gif, "n_frames", 1) > 2


def test_the_figures_are_means_of_the_episodes(results: Path) -> None:
    episodes = read_episodes(results / "episodes.csv")
    assert len(episodes) == 4 * 8
    for axis in read(results)["environments"][0]["axes"]:
        for policy, cell in axis["policies"].items():
            members = [one for one in episodes if (one.axis, one.policy) == (axis["axis"], policy)]
            assert cell["success"]["value"] == np.mean([one.success for one in members])
            assert cell["length"]["value"] == np.mean([one.length for one in members])
            assert cell["activity"]["value"] == pytest.approx(np.mean([one.activity for one in members]))
            low, high = cell["success"]["ci95"]
            assert 0 <= low <= cell["success"]["value"] <= high <= 1
            assert high - low > 0.2  # four episodes tell little, also where all ended alike
    with (results / "axes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["episodes"] for row in rows} == {"4"}
    first = read(results)["environments"][0]["axes"][0]["policies"]["sampled"]
    assert float(rows[0]["length_low"]) == first["length"]["ci95"][0]
    assert rows[0]["shown_success"] == ""


def test_the_same_numbers_come_out_however_many_play_side_by_side(
    run: RunFolder, results: Path, tmp_path: Path
) -> None:
    evaluate_run(EvaluateConfig(run_dir=run.path, episodes=4, out=tmp_path, n_envs=3, viewed=0))
    ours, theirs = read(tmp_path), read(results)
    for one in (ours, theirs):
        del one["command"]
    assert ours == theirs
    assert (tmp_path / "episodes.csv").read_bytes() == (results / "episodes.csv").read_bytes()


def test_of_a_mixture_success_is_told_for_each_level(run: RunFolder, tmp_path: Path) -> None:
    mixture = "BabyAI-GoToObjS4-v0+BabyAI-GoToRedBallNoDists-v0"
    evaluate_run(EvaluateConfig(run_dir=run.path, env=mixture, episodes=9, out=tmp_path, viewed=0))
    episodes = read_episodes(tmp_path / "episodes.csv")
    levels = read(tmp_path)["environments"][0]["levels"]
    assert [row["level"] for row in levels] == mixture.split("+")
    for row in levels:
        for axis, policies in row["axes"].items():
            for policy, cell in policies.items():
                members = [one for one in episodes if (one.level, one.axis, one.policy) == (row["level"], axis, policy)]
                assert cell["episodes"] == len(members)
                assert cell["success"]["value"] == np.mean([one.success for one in members])


def test_of_a_level_with_tasks_success_is_told_for_each_task(run: RunFolder, tmp_path: Path) -> None:
    evaluate_run(EvaluateConfig(run_dir=run.path, env="BabyAI-MixedTrainLocal-v0", episodes=16, out=tmp_path, viewed=0))
    episodes = read_episodes(tmp_path / "episodes.csv")
    levels = read(tmp_path)["environments"][0]["levels"]
    assert [row["level"] for row in levels] == sorted(TASKS)
    page = (tmp_path / "report.html").read_text()
    for row in levels:
        members = [one for one in episodes if (one.level, one.axis, one.policy) == (row["level"], "true", "expert")]
        verbs = {"put next": "put", "open door": "open", "pick up then go to": "(pick up|go to)"}
        assert all(re.match(f"{verbs.get(row['level'], row['level'])} ", one.instruction) for one in members)
        cell = row["axes"]["true"]["expert"]
        assert (cell["episodes"], cell["success"]["value"]) == (len(members), np.mean([one.success for one in members]))
        assert f"<td>{row['level']}</td>" in page


def test_a_suite_of_several_environments_has_a_mean_and_says_what_is_missing(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        f"name: mine\nenvironments: [{LEVEL}, BabyAI-GoToObjS4-v0, NoSuchLevel-v0]\n"
        "axes: [true, blank, unseen-combinations]\nepisodes: 3\nseed: 1\n"
    )
    evaluate_run(EvaluateConfig(run_dir=run.path, suite=str(path), out=tmp_path / "out", viewed=1))
    evaluation = read(tmp_path / "out")
    assert (evaluation["suite"], evaluation["episodes"], evaluation["seed"]) == ("mine", 3, 1)
    rates = [one["axes"][0]["policies"]["random"]["success"]["value"] for one in evaluation["environments"]]
    assert evaluation["mean"]["axes"][0]["policies"]["random"]["success"]["value"] == pytest.approx(np.mean(rates))
    told = {(one["env"], one["axis"]) for one in evaluation["missing"]}
    assert ("NoSuchLevel-v0", "true") in told
    assert (LEVEL, "unseen-combinations") in told
    assert "Missing: NoSuchLevel-v0, true" in capsys.readouterr().out.replace("\n", " ").replace("  ", " ")
    assert "NoSuchLevel-v0" in (tmp_path / "out" / "report.html").read_text()


def test_several_runs_count_as_several(results: Path) -> None:
    import dataclasses

    from heed.evaluation.playing import Evaluation

    episodes = read_episodes(results / "episodes.csv")
    both = [dataclasses.replace(one, run=name) for name in ("a", "b") for one in episodes]
    numbers: Any = numbers_of(Evaluation(suite="x", seed=0, episodes=tuple(both), missing=()), command="")
    alone: Any = numbers_of(Evaluation(suite="x", seed=0, episodes=tuple(episodes), missing=()), command="")
    ours, theirs = (one["environments"][0]["axes"][0]["policies"]["sampled"] for one in (numbers, alone))
    assert ours["episodes"] == theirs["episodes"] == 4
    assert ours["success"]["value"] == theirs["success"]["value"]


def test_phrases_that_were_held_out_are_an_axis_of_their_own() -> None:
    config = EvaluateConfig(run_dir=Path("run"))
    assert [one.label for one in suite_of(config, {"env": LEVEL}).axes] == ["true", "blank", "swapped"]
    held_out = suite_of(config, {"env": LEVEL, "hold_out": ["purple key"]})
    assert held_out.axes[-1].label == "unseen-combinations(phrases=purple key)"


def test_the_command_is_told() -> None:
    config = EvaluateConfig(run_dir=Path("a run"), suite="smoke", references=False, baseline=("a:b", "c:d"))
    assert command_of(config) == "heed evaluate 'a run' --suite smoke --no-references --baseline a:b --baseline c:d"


def test_baselines_stand_beside_the_agent(run: RunFolder, tmp_path: Path) -> None:
    module = tmp_path / "mine.py"
    module.write_text("def forward(observation):\n    return 'go forward'\n")
    out = tmp_path / "out"
    config = EvaluateConfig(
        run_dir=run.path, episodes=2, out=out, baseline=(f"{module}:forward",), references=False, viewed=0
    )
    evaluate_run(config)
    episodes = read_episodes(out / "episodes.csv")
    assert {one.policy for one in episodes} == {"sampled", "greedy", "forward"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--episodes", "0"], "--episodes is 0, but must be at least 1"),
        (["--suite", "smok"], "Did you mean smoke"),
        (["--env", "BabyAI-GoToLokal-v0"], "Did you mean BabyAI-GoToLocal-v0"),
        (["--env", "CartPole-v1"], "evaluate it where it has the actions that it was trained with"),
        (["--baseline", "no.such:thing"], "--baseline no.such:thing cannot be found"),
        (["--zero-shot", "./no/such/model"], "--zero-shot ./no/such/model cannot be loaded"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    run: RunFolder, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluate_module.main([str(run.path), *arguments])
    assert stop.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (run.path / "evaluation.json").exists()


def test_an_encoder_is_refused_before_anything_is_played(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = save_encoder("bert", tmp_path / "bert")
    with pytest.raises(SystemExit) as stop:
        evaluate_module.main([str(run.path), "--zero-shot", str(encoder)])
    assert stop.value.code == 2
    assert "is an encoder: it gives texts no likelihood" in " ".join(capsys.readouterr().err.split())


def test_a_language_model_that_nobody_trained_plays_beside_the_agent(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = EvaluateConfig(
        run_dir=run.path, episodes=2, out=out, zero_shot="heed-tiny-random", references=False, viewed=0
    )
    evaluate_run(config)
    episodes = read_episodes(out / "episodes.csv")
    assert {(one.axis, one.policy) for one in episodes} >= {("true", "zero-shot"), ("swapped", "zero-shot")}


def test_a_file_in_place_of_the_folder_is_told_before_anything_is_played(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def played(*_: Any, **__: Any) -> None:
        raise AssertionError("episodes were played")

    monkeypatch.setattr("heed.evaluation.playing.evaluate", played)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SystemExit):
        evaluate_module.main([str(run.path), "--out", str(tmp_path / "file")])
    assert "is a file, but must be a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"


def test_a_damaged_checkpoint_is_told(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    weights = copy.latest_checkpoint() / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(SystemExit) as stop:
        evaluate_module.main([str(copy.path)])
    assert stop.value.code == 2
    assert "policy.safetensors is cut off" in capsys.readouterr().err.replace("\n", "")


def test_a_folder_without_a_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate_module.main([str(tmp_path)])
    assert "holds no run" in capsys.readouterr().err


def test_an_environment_that_breaks_while_it_is_recorded_loses_nothing_else(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no screen")

    monkeypatch.setattr("heed.evaluation.explanation.recording.record_episode", broken)
    evaluate_run(EvaluateConfig(run_dir=run.path, episodes=2, out=tmp_path / "out", references=False))
    assert "Not all episodes could be recorded: OSError: no screen" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "out" / "episodes.csv").is_file()
    assert (tmp_path / "out" / "report.html").is_file()
