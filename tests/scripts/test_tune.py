"""`heed tune`: a plan is read strictly, trials are ordinary runs, what is stopped goes on, and the best is a YAML."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("optuna")

from heed.scripts import train, tune
from heed.training.ablation import running
from heed.training.ablation.running import Interrupted
from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from heed.training.tuning import searching
from heed.training.tuning.plan import Choice, Range, Search
from tests import forked

PLAN = """
base:
  env: BabyAI-GoToObjS4-v0
  n-envs: 2
  steps: 128
  max-steps: 8
  rollout-steps: 32
  device: cpu
  set: {vf_coef: 0.25}
search:
  learning_rate: {low: 1e-4, high: 1e-2, log: true}
  epochs: {low: 1, high: 3}
  head: [score, linear]
  set:
    gae_lambda: {low: 0.5, high: 1}
seeds: [0, 1]
trials: 3
"""


def write(folder: Path, text: str = PLAN) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


def test_a_plan_has_ranges_and_choices(tmp_path: Path) -> None:
    search = Search.read(write(tmp_path))
    assert search.space == {
        "learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "epochs": Range(low=1, high=3),
        "head": Choice(values=("score", "linear")),
        "set.gae_lambda": Range(low=0.5, high=1.0),
    }
    values = {"learning_rate": 1e-3, "epochs": 2, "head": "linear", "set.gae_lambda": 0.75}
    first, second = search.trainings(values, tmp_path / "trial")
    assert (first.config.seed, second.config.seed) == (0, 1)
    assert first.config.set == ("gae_lambda=0.75", "vf_coef=0.25")
    assert (first.config.epochs, first.config.head, first.config.eval_episodes) == (2, "linear", 0)


def test_the_same_number_written_otherwise_is_the_same_search(tmp_path: Path) -> None:
    ours = Search.read(write(tmp_path)).as_json()
    assert Search.read(write(tmp_path, PLAN.replace("{vf_coef: 0.25}", "[vf_coef=25e-2]"))).as_json() == ours
    assert Search.read(write(tmp_path, PLAN.replace("steps: 128", "steps: 128.0"))).as_json() == ours
    assert Search.read(write(tmp_path, PLAN.replace("0.25", "0.5"))).as_json() != ours


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("search:", "serch:"), "no such thing as 'serch'. Did you mean search"),
        (("learning_rate: {", "learning_rat: {"), "no such thing as 'learning_rat'. Did you mean learning_rate"),
        (("gae_lambda: {", "gae_lamda: {"), "neither ppo nor its policy has such an argument. Did you mean gae_lambda"),
        (("low: 1e-4", "lo: 1e-4"), "must be {low: 1, high: 5} or a list of values"),
        (("low: 1e-4", "low: 0"), "with log low must be positive"),
        (
            ("low: 1,", "low: 0,"),
            "epochs=0, head=score, learning_rate=0.0001, set.gae_lambda=0.5: --epochs is 0, but must be at least 1",
        ),
        (("[score, linear]", "[score, liner]"), "trial: head cannot be 'liner'"),
        (("steps: 128", "seed: 1"), "base: seed is set by the search"),
        (("steps: 128", "eval-episodes: 9"), "held-out episodes choose nothing"),
        (("trials: 3", "trials: none"), "`trials` must be a number"),
        (("trials: 3", "metric: loss"), "`metric` must be one of success, return"),
        (("[0, 1]", "[0, 0]"), "names a seed twice"),
    ],
)
def test_what_cannot_be_searched_is_told_at_once(change: tuple[str, str], sentence: str, tmp_path: Path) -> None:
    path = write(tmp_path, PLAN.replace(*change))
    with pytest.raises(ConfigurationError) as error:
        tune.tune(tune.TuneConfig(plan=path, out=tmp_path / "out"))
    assert sentence in str(error.value)
    assert not (tmp_path / "out").exists()


def test_trials_are_runs_and_the_best_is_a_file_for_train(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", forked.Program)
    path, out = write(tmp_path, PLAN.replace("[0, 1]", "[3]").replace("trials: 3", "trials: 2")), tmp_path / "out"
    tune.main([str(path), "--out", str(out), "--jobs", "2"])
    told = capsys.readouterr().out
    assert "2/2" in told
    numbers = json.loads((out / "tune.json").read_text())
    assert [trial["state"] for trial in numbers["trials"]] == ["complete", "complete"]
    assert numbers["trials"][0]["success"] >= numbers["trials"][1]["success"]
    for trial in numbers["trials"]:
        (folder,) = trial["runs"]
        run = RunFolder(out / folder)
        assert run.read_config()["seed"] == 3
        assert f"gae_lambda={trial['values']['set.gae_lambda']}" in run.read_config()["set"]
        assert run.read_curve()[-1]["rollout/success_rate"] == trial["success"]
        assert not run.evaluation.exists()
    assert (out / "tune.png").is_file()
    assert "set.gae_lambda" in (out / "tune.md").read_text()
    # The best configuration is what the best trial was trained with, and `train` takes it.
    best = parse(TrainConfig, ["--config", str(out / "best.yaml")], command="heed train")
    assert best.learning_rate == numbers["trials"][0]["values"]["learning_rate"]
    assert best.seed == 0
    assert best.eval_episodes == TrainConfig.eval_episodes
    assert yaml.safe_load((out / "best.yaml").read_text())["set"]["vf_coef"] == 0.25
    assert f"heed train --config {out / 'best.yaml'} --seed 4" in told
    train.main(["--config", str(out / "best.yaml"), "--eval-episodes", "0", "--run-dir", str(tmp_path / "run")])

    # All is done: nothing trains, and the plan may not change.
    before = {folder: folder.stat().st_mtime_ns for folder in (out / "runs").iterdir()}
    tune.main([str(path), "--out", str(out)])
    assert {folder: folder.stat().st_mtime_ns for folder in (out / "runs").iterdir()} == before
    write(tmp_path, PLAN)
    with pytest.raises(ConfigurationError, match="holds a search of another plan"):
        tune.tune(tune.TuneConfig(plan=path, out=out))


class Trainings:
    """Stands in for trainings: writes the curve that `value` gives for options."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.seen: list[Any] = []
        self.interrupt_at = -1
        monkeypatch.setattr(searching, "train_one", self.train_one)

    def train_one(self, training: Any, jobs: int, *, unless: Any) -> Any:
        self.seen.append(training)
        if len(self.seen) - 1 == self.interrupt_at:
            raise Interrupted
        training.folder.mkdir(parents=True, exist_ok=True)
        run, config = RunFolder(training.folder), training.config
        if config.head == "linear":
            return running.Failed(training=training, reason="no")
        for tenth in range(1, 11):
            success = config.learning_rate * 100 * tenth / 10
            with run.curve.open("a") as file:
                file.write(json.dumps({"steps": config.steps * tenth // 10, "rollout/success_rate": success}) + "\n")
            if unless():
                return None
        return None


def trials_of(out: Path) -> list[dict[str, Any]]:
    trials = json.loads((out / "tune.json").read_text())["trials"]
    return sorted(trials, key=lambda trial: int(trial["trial"]))


def test_the_search_finds_the_better_options_and_prunes_and_tells_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings, out = Trainings(monkeypatch), tmp_path / "out"
    path = write(tmp_path, PLAN.replace("trials: 3", "trials: 30"))
    tune.tune(tune.TuneConfig(plan=path, out=out))
    trials = trials_of(out)
    states = [trial["state"] for trial in trials]
    assert len(trials) == 30
    assert set(states) == {"complete", "pruned", "fail"}
    assert {trial["reason"] for trial in trials if trial["state"] == "fail"} == {"no"}
    best = max((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["success"])
    assert best["values"]["learning_rate"] > 5e-3
    assert yaml.safe_load((out / "best.yaml").read_text())["learning_rate"] == best["values"]["learning_rate"]
    # What is pruned was worse than the median, and its second seed was not trained.
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    assert all(trial["values"]["learning_rate"] < best["values"]["learning_rate"] for trial in pruned)
    names = {training.folder.name for training in trainings.seen}
    assert any(f"{Path(trial['runs'][1]).name}" not in names for trial in pruned)

    other = tmp_path / "other"
    tune.tune(tune.TuneConfig(plan=path, out=other, trials=12, prune=False))
    assert "pruned" not in {trial["state"] for trial in trials_of(other)}


def test_a_search_that_is_stopped_goes_on_with_the_same_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings, out = Trainings(monkeypatch), tmp_path / "out"
    path = write(tmp_path, PLAN.replace("[score, linear]", "[score]"))
    trainings.interrupt_at = 3  # the second seed of the second trial
    with pytest.raises(SystemExit):
        tune.tune(tune.TuneConfig(plan=path, out=out))
    trainings.interrupt_at = -1
    tune.tune(tune.TuneConfig(plan=path, out=out))
    assert [trial["state"] for trial in trials_of(out)] == ["complete"] * 3
    configs = [training.config for training in trainings.seen]
    assert configs[4:6] == configs[2:4]  # both seeds again, in the same folders: what was trained ends at once
    assert len({config.run_dir for config in configs}) == 6
    # More trials than at first.
    tune.tune(tune.TuneConfig(plan=path, out=out, trials=4))
    assert len(trials_of(out)) == 4


def test_a_training_is_ended_when_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Search.read(write(tmp_path)).trainings(
        {"learning_rate": 1e-3, "epochs": 1, "head": "score", "set.gae_lambda": 0.9}, tmp_path / "runs" / "trial"
    )[0]
    start = subprocess.Popen
    codes = iter(["import time; time.sleep(60)", "import os; os.kill(os.getpid(), 15)", "raise SystemExit(3)", ""])

    def popen(_: Any, **options: Any) -> Any:
        return start([sys.executable, "-c", next(codes)], **options)

    monkeypatch.setattr(running, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(subprocess, "Popen", popen)
    assert running.train_one(training, 1, unless=lambda: True) is None
    with pytest.raises(Interrupted):
        running.train_one(training, 1, unless=lambda: False)
    failed = running.train_one(training, 1, unless=lambda: False)
    assert failed is not None
    assert "it said nothing" in failed.reason
    assert running.train_one(training, 1, unless=lambda: False) is None


def test_training_does_not_import_optuna_and_its_absence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "told.py").write_text(
        "import sys; from heed.scripts import train\n"
        "def main():\n"
        "    try: train.main()\n"
        "    finally: print({'optuna', 'sqlalchemy', 'torch'} & {*sys.modules})"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with (tmp_path / "told").open("w") as file:
        forked.run([sys.executable, "-m", "told", "--set", "gae_lamda=1"], stdout=file)
    told = (tmp_path / "told").read_text()
    assert "{'torch'}" in told
    assert "Did you mean gae_lambda" in told
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'heed\[tune\]'"):
        searching.require_optuna()
