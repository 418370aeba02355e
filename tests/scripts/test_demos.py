"""`heed demos` and `heed train --demonstrations` as users run them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from heed.agents import load
from heed.envs.demonstrations.demonstrations import Demonstrations, read_demonstrations
from heed.scripts import demos
from heed.scripts import train as train_module
from heed.training import cloning
from heed.training.run_folder import RunFolder

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
FEW = ["--env", LEVEL, "--n-envs", "4", "--save-every", "256", "--eval-episodes", "0", "--device", "cpu"]
FEW += ["--sample-every", "0"]
gymnasium.register(id="ButtonsWithoutExpert-v0", entry_point="tests.buttons:Buttons")


def record(out: Path, *arguments: str) -> Demonstrations:
    demos.main(["--env", LEVEL, "--out", str(out), *arguments])
    return read_demonstrations(out)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "bot.jsonl.gz"
    record(path, "--episodes", "40", "--seed", "7")
    return path


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


# -- recording ---------------------------------------------------------------------------------------------------


def test_the_bot_is_recorded_and_what_was_recorded_is_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = record(tmp_path / "a" / "bot.jsonl.gz", "--episodes", "5")
    assert (recorded.env, recorded.expert, recorded.seed, len(recorded.episodes)) == (LEVEL, "bot", 0, 5)
    assert all(episode.success and len(set(episode.actions)) for episode in recorded.episodes)
    steps = sum(map(len, recorded.episodes))
    assert f"5 episodes, {steps} steps ({steps / 5:.1f} in an episode), success 1.000." in told(capsys)
    assert record(tmp_path / "again.jsonl", "--episodes", "5") == recorded
    assert record(tmp_path / "other.jsonl", "--episodes", "5", "--seed", "1").episodes[0] != recorded.episodes[0]


def test_what_the_bot_gives_up_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demos.main(["--env", "BabyAI-KeyInBox-v0", "--out", str(tmp_path / "none.jsonl"), "--episodes", "3"])
    assert "Nothing was recorded: 3 that the expert gave up (BabyAI's bot does not know this level" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (tmp_path / "none.jsonl").exists()


def test_a_trained_agent_is_recorded_with_its_history_and_its_failures_only_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    few = [*FEW, "--model", "heed-tiny"]
    train_module.main([*few, "--steps", "256", "--history", "2", "--run-dir", str(run)])
    everything = record(tmp_path / "all.jsonl", "--expert", str(run), "--episodes", "8", "--keep-failures")
    capsys.readouterr()
    successes = record(tmp_path / "some.jsonl", "--expert", str(run), "--episodes", "8", "--n-envs", "3")
    failed = 8 - len(successes.episodes)
    assert 0 < failed < 8
    assert f"Left out: {failed} that failed" in told(capsys)
    assert successes.episodes == tuple(episode for episode in everything.episodes if episode.success)
    assert not any("\n" in text for episode in everything.episodes for text in episode.observations)
    greedy = record(tmp_path / "greedy.jsonl", "--expert", str(run), "--episodes", "8", "--keep-failures", "--greedy")
    assert greedy.episodes != everything.episodes


def answering(monkeypatch: pytest.MonkeyPatch, answers: Sequence[str | type[BaseException]]) -> None:
    """Type `answers`, and then end the input."""
    left = iter(answers)

    def answer(prompt: str) -> str:
        typed = next(left, EOFError)
        if isinstance(typed, str):
            return typed
        raise typed

    monkeypatch.setattr("builtins.input", answer)


@pytest.mark.parametrize("end", ["q", EOFError, KeyboardInterrupt])
def test_a_person_plays_until_that_is_enough(
    end: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Press the button that the instruction names: of the seeds of `--seed 0`, whatever they are, three times red.
    answers = ["press", "9", "", "press r", "0", "press red", end]
    answering(monkeypatch, answers)
    out = tmp_path / "mine.jsonl"
    arguments = ["--env", "ButtonsWithoutExpert-v0", "--out", str(out), "--expert", "person"]
    demos.main([*arguments, "--keep-failures"])
    recorded = read_demonstrations(out)
    assert [episode.actions for episode in recorded.episodes] == [(0,)] * 3
    assert [episode.success for episode in recorded.episodes] == ["red" in e.instruction for e in recorded.episodes]
    shown = told(capsys)
    assert shown.count("Which of press red, press green, press blue?") == 3
    assert "0 press red 1 press green 2 press blue" in shown
    assert "three buttons" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--episodes", "0"], "--episodes is 0, but must be at least 1"),
        (["--greedy"], "--greedy is for trained agents"),
        (["--expert", "nobody"], "--expert is bot, person, or a run folder, but nobody holds no run"),
        (["--env", "CartPole-v1"], "CartPole-v1 has no expert of its own"),
        (["--env", "Pendulum-v1", "--expert", "person"], "has no action texts"),
        (["--env", "BabyAI-GoToLocl-v0"], "Did you mean BabyAI-GoToLocal-v0"),
    ],
)
def test_what_cannot_be_recorded_is_told_in_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        demos.main(["--env", LEVEL, "--out", str(tmp_path / "out.jsonl"), *arguments])
    assert stop.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not any(tmp_path.iterdir())


def test_a_file_that_is_there_is_not_overwritten(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demos.main(["--env", LEVEL, "--out", str(file)])
    assert "exists already" in capsys.readouterr().err
    assert len(read_demonstrations(file).episodes) == 40


# -- training with them ------------------------------------------------------------------------------------------


def weights_of(folder: Path) -> dict[str, Any]:
    return load(RunFolder(folder).latest_checkpoint()).policy.state_dict()


def test_a_run_clones_trains_and_resumes_from_the_clone_as_if_nothing_had_happened(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--demonstrations", str(file), "--clone-epochs", "2", "--reference-coef", "0.1"]
    options += [
        "--value-warmup-steps",
        "128",
        "--keep-checkpoints",
        "9",
        "--rollout-steps",
        "32",
        "--save-every",
        "128",
    ]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train_module.main([*FEW, *options, "--steps", "256", "--run-dir", str(whole)])
    assert "Cloned 36 episodes" in told(capsys)
    (only,) = json.loads((whole / "cloning.json").read_text())["rounds"]
    assert only["cloned"]["validation_episodes"] == 4
    assert len(only["cloned"]["epochs"]) == 2
    saved: list[Any] = [load(path) for path in sorted(RunFolder(whole).checkpoints.iterdir())]
    assert [agent.num_timesteps for agent in saved] == [0, 128, 256]
    words = {"instruction": ["go to the red ball"], "observation": ["red ball 2 ahead"]}
    chances = [agent.action_probabilities(words).tolist() for agent in saved]
    assert chances[0] == chances[1] != chances[2]
    for name, tensor in saved[2].reference.state_dict().items():
        assert tensor.equal(saved[0].policy.state_dict()[name]), name

    # As if it had been killed within the warm-up, right after the cloning; the demonstrations are needed no more.
    shutil.copytree(whole, stopped)
    for path in sorted(RunFolder(stopped).checkpoints.iterdir())[1:]:
        shutil.rmtree(path)
    train_module.main(["--run-dir", str(stopped), "--resume"])
    assert RunFolder(stopped).read_curve() == RunFolder(whole).read_curve()
    for name, tensor in weights_of(whole).items():
        assert tensor.equal(weights_of(stopped)[name]), name


def test_zero_steps_only_clone_and_more_can_follow(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    options = ["--demonstrations", str(file), "--clone-epochs", "1", "--steps", "0", "--run-dir", str(folder)]
    train_module.main([*FEW, *options, "--eval-episodes", "3", "--max-steps", "12"])
    assert load(RunFolder(folder).latest_checkpoint()).num_timesteps == 0
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert (evaluation["episodes"], evaluation["trained_steps"]) == (3, 0)
    train_module.main(["--run-dir", str(folder), "--resume", "--steps", "256", "--eval-episodes", "0"])
    assert load(RunFolder(folder).latest_checkpoint()).num_timesteps == 256


def test_ctrl_c_while_cloning_is_told(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cloning, "clone_into", interrupted)
    with pytest.raises(SystemExit) as stop:
        train_module.main([*FEW, "--demonstrations", str(file), "--run-dir", str(tmp_path / "run")])
    assert stop.value.code == 130
    assert "Stopped while cloning: nothing is saved yet" in told(capsys)


def test_dagger_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    options = ["--dagger-rounds", "2", "--dagger-episodes", "6", "--clone-epochs", "1", "--steps", "0"]
    train_module.main([*FEW, *options, "--history", "1", "--run-dir", str(folder)])
    rounds = json.loads((folder / "cloning.json").read_text())["rounds"]
    assert [each["cloned"]["episodes"] for each in rounds] == [5, 10, 15]
    assert "DAgger round 2 (6 episodes, success" in told(capsys)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--demonstrations", "FILE", "--env", "ButtonsWithoutExpert-v0"], "was recorded on"),
        (["--env", "ButtonsWithoutExpert-v0", "--dagger-rounds", "1"], "has no method `expert_action`"),
    ],
)
def test_what_cannot_be_cloned_is_told_before_anything_is_written(
    arguments: list[str], sentence: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    arguments = [str(file) if argument == "FILE" else argument for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        train_module.main([*FEW, "--run-dir", str(folder), *arguments])
    assert stop.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not folder.exists()


# -- q-learning --------------------------------------------------------------------------------------------------


def test_dqn_keeps_demonstrations_in_its_replay_buffer_and_the_run_goes_on(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--margin-coef", "0.5", "--pretraining-updates", "3", "--hindsight", "1", "--priority-exponent", "0.5"]
    few = [*FEW, "--agent", "dqn", "--steps", "64", "--run-dir", str(folder), "--no-dueling"]
    train_module.main([*few, "--demonstrations", str(file), *options])
    agent: Any = load(RunFolder(folder).latest_checkpoint())
    steps = sum(map(len, read_demonstrations(file).episodes))
    assert agent.replay_buffer.kept == steps
    assert (agent.margin_coef, agent.hindsight, agent.priority_exponent, agent._n_updates) == (0.5, 1, 0.5, 3)
    assert agent.policy.dueling is False
    train_module.main(["--run-dir", str(folder), "--resume", "--steps", "128"])
    resumed: Any = load(RunFolder(folder).latest_checkpoint())
    assert (resumed.replay_buffer.kept, resumed.num_timesteps) == (steps, 128)
