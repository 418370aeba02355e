"""`heed evaluate`: the figures are those of episodes counted by hand, and the files are there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from heed.agents import PPO, evaluation
from heed.agents.evaluation import held_out_seeds
from heed.envs.make import make, make_env
from heed.scripts import evaluate as evaluate_module
from heed.scripts.evaluate import EvaluateConfig, evaluate_agent, evaluate_run
from heed.scripts.run_folder import RunFolder
from heed.scripts.train_options import TrainConfig

LEVEL = "BabyAI-GoToLocal-v0"


class Listener:
    """Stands in for an agent: turns left unless it is told to go to something, then goes forward."""

    def __init__(self, action_space: gymnasium.Space[Any]):
        self.action_space = action_space
        self.seen: list[str] = []

    def action_probabilities(self, words: dict[str, list[str]]) -> Any:
        self.seen += words["observation"]
        rows = np.zeros((len(words["instruction"]), 7))
        for row, instruction in zip(rows, words["instruction"], strict=True):
            row[2 if instruction.startswith("go to") else 0] = 1.0
        return rows

    def predict(self, words: dict[str, list[str]], deterministic: bool = False) -> Any:
        return self.action_probabilities(words).argmax(axis=1), None


def test_the_figures_are_those_of_episodes_counted_by_hand() -> None:
    env = make("BabyAI-GoToLocal-v0", n_envs=1, seed=0)
    listener: Any = Listener(env.action_space)
    result = evaluate_agent(listener, LEVEL, episodes=12, seed=5, n_envs=4)
    outcomes, lengths = [], []
    for seed in held_out_seeds(5, 12):
        one = make_env(LEVEL)
        one.reset(seed=seed)
        info: dict[str, Any] = {}
        over, length = False, 0
        while not over:
            _, _, terminated, truncated, info = one.step(2)
            over, length = terminated or truncated, length + 1
        outcomes.append(info["is_success"])
        lengths.append(length)
    assert result["sampled"]["success_rate"] == np.mean(outcomes)
    assert result["sampled"]["mean_length"] == np.mean(lengths)
    assert result["sampled"] == result["greedy"]
    assert result["instruction"]["true"] == result["sampled"]["success_rate"]
    assert set(result["instruction"]) == {"true", "blank", "swapped"}
    assert sum(row["episodes"] for row in result["templates"]) == 12
    assert [row["template"] for row in result["templates"]] == ["go to"]
    low, high = result["random"]["ci95"]
    assert 0 <= low <= result["random"]["success_rate"] <= high <= 1


def test_of_a_mixture_success_is_told_for_each_level() -> None:
    mixture, alone = "BabyAI-GoToObjS4-v0+BabyAI-GoToRedBallNoDists-v0", "BabyAI-GoToRedBallNoDists-v0"
    listener: Any = Listener(make_env(mixture).action_space)
    result = evaluate_agent(listener, mixture, episodes=30, seed=5, n_envs=8)
    by_level = {row["level"]: row for row in result["levels"]}
    assert sum(row["episodes"] for row in by_level.values()) == 30
    seeds = [seed for seed in held_out_seeds(5, 30) if make_env(mixture).reset(seed=seed)[1]["level"] == alone]
    members = evaluation.run_episodes(lambda: make_env(alone), evaluation.greedy(listener), seeds)
    row = by_level[alone]
    assert row["episodes"] == len(seeds)
    assert row["sampled"] == row["greedy"]
    assert row["sampled"]["success_rate"] == np.mean([episode.success for episode in members])
    assert set(row) == {"level", "episodes", "sampled", "greedy", "random", "blank", "swapped"}
    means = [row["episodes"] * row["random"]["success_rate"] for row in by_level.values()]
    assert sum(means) / 30 == pytest.approx(result["random"]["success_rate"])
    assert evaluate_agent(listener, LEVEL, episodes=2, seed=5)["levels"] == []


def test_a_history_is_shown_and_changes_nothing_else() -> None:
    action_space = make_env(LEVEL).action_space
    with_history: Any = Listener(action_space)
    without: Any = Listener(action_space)
    result = evaluate_agent(with_history, LEVEL, episodes=3, seed=5, history=2)
    assert result == evaluate_agent(without, LEVEL, episodes=3, seed=5)  # a listener does not look
    assert {text.count("\n> ") for text in with_history.seen} == {0, 1, 2, 3}
    assert {text.count("\n> ") for text in without.seen} == {0}
    assert all(text.endswith(end) for text, end in zip(with_history.seen, without.seen, strict=True))


def test_a_level_with_one_instruction_has_nothing_to_swap() -> None:
    listener: Any = Listener(make("BabyAI-GoToRedBallNoDists-v0", n_envs=1).action_space)
    result = evaluate_agent(listener, "BabyAI-GoToRedBallNoDists-v0", episodes=3, seed=0)
    assert result["instruction"]["swapped"] is None
    assert result["instruction_ci95"]["swapped"] is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    config = TrainConfig(env=LEVEL, steps=64, run_dir=folder.path).resolved()
    folder.begin(config.as_json())
    agent = PPO(env=make(LEVEL, n_envs=2, seed=0), n_steps=8, batch_size=16, seed=0)
    agent.learn(16)
    agent.save(folder.checkpoint_path(agent.num_timesteps))
    return folder


def test_a_run_gets_its_files(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluate_run(EvaluateConfig(run_dir=run.path, episodes=4, out=tmp_path / "results"))
    assert report == tmp_path / "results" / "report.html"
    evaluation = json.loads((tmp_path / "results" / "evaluation.json").read_text())
    assert {"env", "episodes", "sampled", "greedy", "random", "instruction"} <= set(evaluation)
    for name in ("sampled", "greedy", "random"):
        assert {"success_rate", "ci95", "mean_length"} <= set(evaluation[name])
    assert evaluation["episodes"] == 4
    assert evaluation["trained_steps"] == 16  # not the 64 of the configuration
    for number in (1, 2):
        with Image.open(tmp_path / "results" / f"episode-{number}.gif") as gif:
            assert getattr(gif, "n_frames", 1) > 2
    assert "report.html" in capsys.readouterr().out.replace("\n", "")
    again = tmp_path / "again"
    evaluate_run(EvaluateConfig(run_dir=run.path, episodes=4, out=again, n_envs=1))
    assert json.loads((again / "evaluation.json").read_text()) == evaluation


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--episodes", "0"], "--episodes is 0, but must be at least 1"),
        (["--env", "BabyAI-GoToLokal-v0"], "Did you mean BabyAI-GoToLocal-v0"),
        (["--env", "CartPole-v1"], "evaluate it where it has the actions that it was trained with"),
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


def test_a_file_in_place_of_the_folder_is_told_before_anything_is_played(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def played(*_: Any, **__: Any) -> None:
        raise AssertionError("episodes were played")

    monkeypatch.setattr(evaluate_module, "evaluate_agent", played)
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
