"""`heed train` as users run it: same seed same run, killed and resumed, and clear words for what cannot be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from heed.agents import load
from heed.evaluation import playing as evaluation
from heed.evaluation.explanation import recording
from heed.policies.adapters.adapters import Adapter
from heed.scripts import train as train_module
from heed.scripts.evaluate import EvaluateConfig, evaluate_run
from heed.scripts.train import train
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from tests.forked import start_main

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
REPOSITORY = Path(__file__).parents[2]
FEW = ["--env", LEVEL, "--n-envs", "4", "--save-every", "256", "--eval-episodes", "0", "--device", "cpu"]
FEW += ["--sample-every", "0"]


def run_train(*arguments: str) -> None:
    """Run `heed train` in this process, with few environments and no evaluation at the end."""
    train_module.main([*FEW, *arguments])


def curve(folder: Path) -> list[dict[str, float]]:
    return RunFolder(folder).read_curve()


def weights_of(folder: Path) -> dict[str, Any]:
    return load(RunFolder(folder).latest_checkpoint()).policy.state_dict()


@pytest.mark.parametrize("agent", ["ppo", pytest.param("dqn", marks=pytest.mark.exhaustive)])
def test_the_same_seed_gives_the_same_run_to_the_last_digit(agent: str, tmp_path: Path) -> None:
    steps = {"ppo": "256", "dqn": "1024"}[agent]
    seeds = {"a": "3", "b": "3"} | ({"c": "4"} if agent == "ppo" else {})
    for name, seed in seeds.items():
        run_train("--agent", agent, "--seed", seed, "--steps", steps, "--run-dir", str(tmp_path / name))
    first, second, *others = (curve(tmp_path / name) for name in seeds)
    assert len(first) >= 1
    assert first == second
    assert all(first != other for other in others)
    for name, tensor in weights_of(tmp_path / "a").items():
        assert tensor.equal(weights_of(tmp_path / "b")[name]), name


def test_a_run_folder_holds_what_a_run_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_train("--steps", "600", "--run-dir", str(folder))
    config = json.loads((folder / "config.json").read_text())
    assert config["env"] == LEVEL
    assert config["steps"] == 600
    assert config["hyperparameters"]["gamma"] == load(RunFolder(folder).latest_checkpoint()).gamma  # type: ignore[attr-defined]
    assert TrainConfig.from_json(config).run_dir == folder
    assert len(list((folder / "checkpoints").iterdir())) <= 2
    assert list((folder / "tensorboard").glob("events.*"))
    point = curve(folder)[-1]
    assert {"steps", "rollout/ep_rew_mean", "rollout/success_rate", "train/loss"} <= set(point)


def test_a_run_with_a_history_trains_resumes_and_is_evaluated_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    # Small rooms, so that random actions end episodes at different times.
    run_train(
        *("--env", "BabyAI-GoToObjS4-v0", "--steps", "256", "--save-every", "128", "--rollout-steps", "32"),
        *("--history", "2", "--max-steps", "12", "--run-dir", str(whole)),
    )
    config = json.loads((whole / "config.json").read_text())
    assert (config["history"], config["max_prompt_tokens"]) == (2, 256 + 3 * 64)

    # The same run, as if it had been stopped half-way.
    shutil.copytree(whole, stopped)
    shutil.rmtree(RunFolder(stopped).latest_checkpoint())
    checkpoint = RunFolder(stopped).latest_checkpoint()
    assert load(checkpoint).num_timesteps == 128
    assert any(json.loads((checkpoint / "agent.json").read_text())["envs"]["actions"])  # within episodes
    train_module.main(["--run-dir", str(stopped), "--resume"])
    assert curve(stopped) == curve(whole)
    for name, tensor in weights_of(whole).items():
        assert tensor.equal(weights_of(stopped)[name]), name
    with pytest.raises(SystemExit):
        train_module.main(["--run-dir", str(stopped), "--resume", "--history", "3"])
    assert "was begun with --history 2" in capsys.readouterr().err

    told: list[int] = []
    evaluate, record_episode = evaluation.evaluate, recording.record_episode

    def evaluate_and_note(*arguments: Any, **options: Any) -> Any:
        told.append(options["history"])
        return evaluate(*arguments, **options)

    def record_and_note(agent: Any, env: Any, **options: Any) -> Any:
        told.append(env.length)
        return record_episode(agent, env, **options)

    monkeypatch.setattr(evaluation, "evaluate", evaluate_and_note)
    monkeypatch.setattr(recording, "record_episode", record_and_note)
    evaluate_run(EvaluateConfig(run_dir=whole, episodes=2, references=False, out=tmp_path / "results"))
    assert told == [2] * 3  # what is played, and two recordings
    assert (tmp_path / "results" / "report.html").is_file()


@pytest.mark.parametrize("agent", ["ppo", "a2c", "reinforce", "grpo"])
def test_how_an_agent_learns_is_said_on_the_command_line(agent: str, tmp_path: Path) -> None:
    options = "--learning-rate 0.002 --learning-rate-schedule cosine --gamma 0.9 --ent-coef 0.02 --ent-coef-end 0"
    group = ["--group-size", "2"] if agent == "grpo" else []
    steps = "512" if agent == "grpo" else "128"  # groups must end before anything is learned
    more = ["--rollout-steps", "8", "--epochs", "3", "--target-kl", "0.5", "--reference-coef", "0.1", *group]
    run_train("--agent", agent, *options.split(), *more, "--steps", steps, "--run-dir", str(tmp_path / "run"))
    learned: Any = load(RunFolder(tmp_path / "run").latest_checkpoint())
    assert (learned.gamma, learned.n_steps, learned.n_epochs) == (0.9, 8, 3)
    assert (learned.target_kl, learned.reference_coef) == (0.5, 0.1)
    assert learned.lr_schedule(0.5) == pytest.approx((0.002 + 0.0002) / 2)
    assert learned.ent_coef(0.5) == pytest.approx(0.01)
    assert "train/entropy_weight" in curve(tmp_path / "run")[-1]


def test_prompts_may_be_longer_with_a_history() -> None:
    def default(history: int) -> int | None:
        return TrainConfig(history=history).resolved().max_prompt_tokens

    assert [default(history) for history in (0, 1, 2, 6, 7, 100)] == [256, 320, 448, 960, 1024, 1024]
    assert TrainConfig(history=5, max_prompt_tokens=300).resolved().max_prompt_tokens == 300


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    options = ["--rollout-steps", "8", "--steps", "100000", "--run-dir", str(folder)]
    out, error = tmp_path / "out", tmp_path / "error"
    process = start_main("heed.scripts.train", [*FEW, *options], variables=os.environ, out=out, error=error)
    assert process.pid is not None
    deadline = time.monotonic() + 120
    while not curve_has_begun(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    assert f"heed train --run-dir {folder} --resume" in out.read_text().replace("\n", "")
    steps = load(RunFolder(folder).latest_checkpoint()).num_timesteps
    assert steps >= curve(folder)[-1]["steps"]


def curve_has_begun(folder: Path) -> bool:
    return (folder / "curve.jsonl").is_file() and bool((folder / "curve.jsonl").read_text())


def test_resuming_may_add_steps_but_not_change_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    run_train("--steps", "128", "--run-dir", str(folder))
    train_module.main(["--run-dir", str(folder), "--resume", "--steps", "256"])
    assert load(RunFolder(folder).latest_checkpoint()).num_timesteps == 256
    assert json.loads((folder / "config.json").read_text())["steps"] == 256
    with pytest.raises(SystemExit):
        train_module.main(["--run-dir", str(folder), "--resume", "--seed", "8"])
    assert "was begun with --seed 0" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::heed.envs.faults.LostEpisodeWarning")
def test_lost_episodes_are_told_kept_and_shown_and_a_resumed_run_goes_on_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    faulty = ["--env", "tests.faulty:Injected-v0", "--head", "linear", "--max-lost", "50", "--step-timeout", "30"]
    run_train(*faulty, "--steps", "1024", "--run-dir", str(whole), "--eval-episodes", "8")
    lost = RunFolder(whole).read_lost_episodes()
    assert len(lost) > 5
    assert all(one["reason"] == "ZeroDivisionError: injected" and 0 < one["steps"] <= 1024 for one in lost)
    assert [one["seed"] for one in lost] == list(dict.fromkeys(one["seed"] for one in lost))
    printed = " ".join(capsys.readouterr().out.split())
    told = f"{len(lost)} episodes were lost: {len(lost)} times ZeroDivisionError: injected."
    assert told in printed
    assert told in (whole / "report.html").read_text()
    assert curve(whole)[-1]["rollout/lost_episodes"] == len(lost)

    shutil.copytree(whole, stopped)
    shutil.rmtree(RunFolder(stopped).latest_checkpoint())
    train_module.main(["--run-dir", str(stopped), "--resume", "--eval-episodes", "0"])
    assert curve(stopped) == curve(whole)
    assert [one["seed"] for one in RunFolder(stopped).read_lost_episodes()] == [one["seed"] for one in lost]
    assert told in " ".join(capsys.readouterr().out.split())

    with pytest.raises(SystemExit):
        run_train(*faulty, "--max-lost", "0", "--steps", "1024", "--run-dir", str(tmp_path / "strict"))
    assert "An episode was lost, and max_lost allows 0" in capsys.readouterr().err
    assert len(RunFolder(tmp_path / "strict").read_lost_episodes()) == 1


def test_a_folder_that_holds_another_run_or_other_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    run_train("--steps", "100", "--run-dir", str(folder))
    before = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(SystemExit):
        train_module.main([*FEW, "--run-dir", str(folder)])
    assert "holds a run already" in capsys.readouterr().err
    assert sorted(path.name for path in folder.rglob("*")) == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    with pytest.raises(SystemExit):
        train_module.main([*FEW, "--run-dir", str(tmp_path / "letters")])
    assert "is not an empty folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train_module.main(["--run-dir", str(tmp_path / "nothing"), "--resume"])
    assert "holds no run" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named_on_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    run_train("--steps", "100", "--run-dir", str(folder))
    file = RunFolder(folder).latest_checkpoint() / "policy.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(SystemExit):
        train_module.main(["--run-dir", str(folder), "--resume", "--steps", "200"])
    assert "policy.safetensors is cut off" in " ".join(capsys.readouterr().err.split())


def test_the_configuration_checks_itself() -> None:
    with pytest.raises(ConfigurationError, match="--n-envs is 0"):
        train(TrainConfig(n_envs=0))
    assert TrainConfig(agent="dqn").resolved().run_dir == Path("runs/BabyAI-GoToLocal-v0-dqn-seed0")
    folders = {TrainConfig(env="+".join(["World-v0"] * n)).resolved().run_dir for n in (50, 51)}
    assert len(folders) == 2  # mixtures whose names would be longer than a file's may be
    assert all(len(str(folder)) < 150 for folder in folders)


def test_the_script_runs_by_its_path() -> None:
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    for option in ("--env", "--agent", "--model", "--head", "--steps", "--n-envs", "--seed", "--run-dir", "--resume"):
        assert option in result.stdout


def test_an_adapter_trains_in_the_models_stead(tmp_path: Path) -> None:
    options = "--adapter rslora --adapter-rank 2 --adapter-alpha 4 --adapter-targets q_proj --adapter-targets v_proj"
    run_train("--model", "heed-tiny", *options.split(), "--steps", "128", "--run-dir", str(tmp_path / "run"))
    agent: Any = load(RunFolder(tmp_path / "run").latest_checkpoint())
    adapter = agent.language_policy.language_model.adapter
    assert adapter == Adapter(method="rslora", rank=2, alpha=4.0, targets=("q_proj", "v_proj"))
    weights = load_file(RunFolder(tmp_path / "run").latest_checkpoint() / "policy.safetensors")
    assert {name.split(".")[-2] for name in weights if "self_attn" in name} == {"default"}  # lora_A.default.weight
    run_train("--steps", "256", "--run-dir", str(tmp_path / "run"), "--resume")


def test_parts_of_the_policy_learn_at_their_own_rates(tmp_path: Path) -> None:
    rates = "--learning-rate 0.001 --head-learning-rate 0.01 --value-learning-rate 0.002 --layer-decay 0.5"
    more = ["--warmup-steps", "128", "--head", "linear", "--steps", "256"]
    run_train(*rates.split(), *more, "--run-dir", str(tmp_path / "run"))
    learned: Any = load(RunFolder(tmp_path / "run").latest_checkpoint())
    rates_of_parts = learned.language_policy.options.learning_rates
    assert (rates_of_parts.heads, rates_of_parts.value, rates_of_parts.layer_decay) == pytest.approx((10, 2, 0.5))
    assert [learned.lr_schedule(remaining) for remaining in (1, 0.75, 0.5, 0)] == pytest.approx([0, 5e-4, 1e-3, 1e-3])
