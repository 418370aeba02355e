"""`heed ablate`: a plan is read strictly, its trainings go on where they were, and what fails leaves the rest alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heed.scripts.ablate import AblateConfig, ablate
from heed.training.ablation.plan import Plan, Training
from heed.training.ablation.running import command_line, run_all, state_of
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from tests import forked

PLAN = """
base:
  env: BabyAI-GoToRedBallNoDists-v0
  steps: 64
  n-envs: 2
seeds: [0, 1]
variants:
  score head: {}
  linear head: {head: linear}
"""


def read(text: str, folder: Path) -> Plan:
    path = folder / "plan.yaml"
    path.write_text(text)
    return Plan.read(path, out=folder / "out", episodes=7)


def test_a_plan_is_variants_times_seeds(tmp_path: Path) -> None:
    plan = read(PLAN, tmp_path)
    assert plan.variants == ("score head", "linear head")
    found = [(one.variant, one.config.seed, one.config.head, one.folder.name) for one in plan.trainings]
    assert found == [
        ("score head", 0, "score", "score-head-seed0"),
        ("linear head", 0, "linear", "linear-head-seed0"),
        ("score head", 1, "score", "score-head-seed1"),
        ("linear head", 1, "linear", "linear-head-seed1"),
    ]
    assert {(one.config.steps, one.config.n_envs, one.config.eval_episodes) for one in plan.trainings} == {(64, 2, 7)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("base: {}", "needs `variants`"),
        ("variants: {a: {}}\nvariant: 3", "no such thing as 'variant'. Did you mean variants"),
        ("variants: {a: {hed: linear}}", "variant 'a' has no such thing as 'hed'. Did you mean head"),
        ("variants: {a: {head: liner}}", "variant 'a': head cannot be 'liner'"),
        ("variants: {a: {seed: 3}}", "seed is set by the ablation"),
        ("variants: {a: {agent: dqn, ent-coef: 0.1}}", "variant 'a': --ent-coef is an option of policy gradients"),
        ("variants: {a: {}}\nseeds: 3", "must be a list of numbers"),
        ("variants: {a: {}}\nseeds: [1, 1]", "names a seed twice"),
        ("variants: {a b: {}, a-b: {}}", "another variant's folder is called 'a-b'"),
        ("variants: [", "is no YAML"),
        ("3", "but holds int"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_trained(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=sentence.replace("?", r"\?")):
        read(text, tmp_path)


def test_the_command_line_of_a_training_gives_its_configuration(tmp_path: Path) -> None:
    import tyro

    options = "{head: linear, ent_coef: 0.02, compiled: true, processes: 2, hold-out: [purple key, grey box]}"
    training = read(f"variants: {{a: {options}}}", tmp_path).trainings[0]
    words = command_line(training, resume=False)
    assert words[0] == "train"
    assert tyro.cli(TrainConfig, args=words[1:]) == training.config
    assert command_line(training, resume=True) == ["train", "--run-dir", str(training.folder), "--resume"]


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    training = read(PLAN, tmp_path).trainings[0]
    assert state_of(training) == "new"
    other = TrainConfig(env="BabyAI-GoToLocal-v0", run_dir=training.folder).resolved()
    RunFolder(training.folder).begin(other.as_json())
    with pytest.raises(ConfigurationError, match="holds a run with --env BabyAI-GoToLocal-v0, but the plan says"):
        state_of(training)


def test_a_run_with_the_same_number_written_otherwise_is_gone_on_with(tmp_path: Path) -> None:
    def training(value: str) -> Training:
        return read(PLAN.replace("n-envs: 2", f"n-envs: 2\n  set: {{gae_lambda: {value}}}"), tmp_path).trainings[0]

    there = training("1")
    RunFolder(there.folder).begin(json.loads(json.dumps(there.config.resolved().as_json())))
    assert state_of(training("1.0")) == "new"  # it has no checkpoint yet
    with pytest.raises(ConfigurationError, match=r"holds a run with --set \['gae_lambda=1'\], but the plan says"):
        state_of(training("0.5"))


def test_variants_are_trained_compared_and_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace("[0, 1]", "[0]").replace("steps: 64", "steps: 64\n  max-steps: 8"))
    out = tmp_path / "out"
    monkeypatch.setattr(subprocess, "run", forked.run)
    table = ablate(AblateConfig(plan=path, out=out, jobs=2, episodes=3))
    told = capsys.readouterr().out
    assert "2/2" in told
    assert "FAILED" not in told
    lines = table.read_text()
    assert "score head" in lines
    assert "linear head" in lines
    numbers = json.loads((out / "comparison.json").read_text())
    assert [group["label"] for group in numbers["groups"]] == ["score head", "linear head"]
    assert (out / "curves.png").is_file()

    whole, stopped = tmp_path / "whole", out / "runs" / "linear-head-seed0"
    shutil.copytree(stopped, whole)
    shutil.rmtree(stopped / "checkpoints")  # as if it had been killed before the first one
    commands = []

    def run(command: list[str], **options: Any) -> Any:
        """Stand in for the training, which would give the same again."""
        assert not stopped.exists()  # it begins anew
        commands.append(command[3:])
        shutil.copytree(whole, stopped)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    ablate(AblateConfig(plan=path, out=out, jobs=1, episodes=3))
    assert "1 are done already" in capsys.readouterr().out
    (plan,) = [one for one in Plan.read(path, out=out, episodes=3).trainings if one.folder == stopped]
    assert commands == [command_line(plan, resume=False)]


def test_what_fails_is_told_and_leaves_the_rest_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = read(PLAN.replace("{head: linear}", "{model: ./no/such/folder}").replace("[0, 1]", "[0]"), tmp_path)
    ended: dict[str, Any] = {}
    train = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        """Stand in for a training that succeeds and for one that says why it does not."""
        said = "print('There is no folder ./no/such/folder.'); raise SystemExit(2)"
        return train([sys.executable, "-c", said if "--model" in command else ""], **options)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(subprocess, "run", run)
    failed = run_all(plan.trainings, jobs=1, on_end=lambda training, failure: ended.update({training.variant: failure}))
    assert [failure.training.variant for failure in failed] == ["linear head"]
    assert "no/such/folder" in failed[0].reason
    assert ended == {"score head": None, "linear head": failed[0]}
