"""`heed export`: the folder evaluates like its run, its card tells the truth, and the hub gets it when asked only."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from huggingface_hub import ModelCard, constants
from safetensors.torch import load_file

from heed.agents import load
from heed.scripts import export as command
from heed.scripts import train as train_module
from heed.scripts.evaluate import EvaluateConfig, evaluate_run
from heed.training.comparison.groups import Run, needs_evaluation
from heed.training.run_folder import RunFolder
from heed.training.sharing import hub
from heed.training.sharing.paths import command_without_own_folders, without_own_folders

LEVEL = "BabyAI-GoToObjS4-v0"
FEW = ["--env", LEVEL, "--n-envs", "4", "--eval-episodes", "0", "--device", "cpu", "--max-steps", "8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_module.main([*FEW, "--steps", "256", "--run-dir", str(folder)])
    evaluate_run(EvaluateConfig(run_dir=folder, episodes=4, viewed=0))
    return folder


@pytest.fixture(scope="module")
def out(run: Path) -> Path:
    folder = run.parent / "out"
    command.main([str(run), str(folder)])
    return folder


def test_the_folder_is_evaluated_like_its_run_and_begins_another_training(run: Path, out: Path, tmp_path: Path) -> None:
    evaluate_run(EvaluateConfig(run_dir=out, episodes=4, viewed=0, out=tmp_path / "results"))
    assert (tmp_path / "results" / "episodes.csv").read_text() == (run / "episodes.csv").read_text()
    assert RunFolder(out).read_curve() == RunFolder(run).read_curve()
    assert needs_evaluation(out, 4) is None  # `heed compare` takes it as it is
    assert Run.read(out).steps == 256
    train_module.main([*FEW, "--model", str(out), "--steps", "64", "--run-dir", str(tmp_path / "next")])
    next_agent: Any = load(RunFolder(tmp_path / "next").latest_checkpoint())
    this_agent: Any = load(out)
    assert next_agent.language_policy.encoder.template == this_agent.language_policy.encoder.template


def test_the_card_tells_what_was_measured(run: Path, out: Path) -> None:
    card = ModelCard.load(out / "README.md")
    evaluation = json.loads((run / "evaluation.json").read_text())
    (environment,) = evaluation["environments"]
    assert card.data.library_name == "heed"
    assert card.data.license == "apache-2.0"
    assert LEVEL in card.data.tags
    success = {axis["axis"]: axis["policies"]["sampled"]["success"] for axis in environment["axes"]}
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results["success_rate"] == pytest.approx(success["true"]["value"], abs=1e-4)
    for axis, figure in success.items():
        low, high = figure["ci95"]
        row = next(line for line in card.text.splitlines() if line.startswith(f"| {axis} | sampled | 4 |"))
        assert f"| {figure['value']:.3f} ({low:.3f} to {high:.3f}) |" in row
    assert f"heed train --env {LEVEL}" in card.text
    assert "language_model = load_language_model(" in card.text
    assert "256 environment steps" in " ".join(card.text.split())
    for name in ("episode-1.gif", "episode-2.gif"):
        assert f"]({name})" in card.text
        assert (out / name).read_bytes() == (run / name).read_bytes()


def test_the_folder_tells_nothing_of_where_it_was_made(run: Path, out: Path) -> None:
    for path in out.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".md", ".csv"):
            assert str(run.parent) not in path.read_text(), path
    config = {
        "env": "/home/somebody/worlds/mine.py:Mine-v0+BabyAI-GoTo-v0",
        "run_dir": "/home/somebody/runs/one",
        "model": "/home/somebody/models/mine",
        "demonstrations": "/home/somebody/demos/bot.jsonl",
    }
    assert without_own_folders({**config, "seed": 3}) == {
        "env": "mine.py:Mine-v0+BabyAI-GoTo-v0",
        "run_dir": "one",
        "model": "mine",
        "demonstrations": "bot.jsonl",
        "seed": 3,
    }
    told = command_without_own_folders("heed evaluate /home/somebody/runs/one --suite 'my suite.yaml'")
    assert told == "heed evaluate one --suite 'my suite.yaml'"


def test_an_evaluation_of_other_steps_is_not_on_the_card(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = Path(shutil.copytree(run, tmp_path / "run"))
    evaluation = json.loads((stale / "evaluation.json").read_text())
    (stale / "evaluation.json").write_text(json.dumps({**evaluation, "trained_steps": 128}))
    command.main([str(stale), str(tmp_path / "out")])
    assert "Its model card has no evaluation" in " ".join(capsys.readouterr().out.split())
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.eval_results is None
    assert "None of this agent yet" in card.text
    assert not (tmp_path / "out" / "evaluation.json").exists()


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_exported_is_told_before_anything_is_written(
    run: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert "exists and is not an empty folder" in refused([str(run), str(out)], capsys)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert "holds no run" in refused([str(tmp_path / "nothing"), str(tmp_path / "out")], capsys)
    assert "--private is an option of --push-to-hub" in refused([str(run), str(tmp_path / "a"), "--private"], capsys)
    with pytest.raises(SystemExit):
        train_module.main(["--run-dir", str(out), "--resume", "--steps", "512"])
    assert "holds an agent that was shared" in " ".join(capsys.readouterr().err.split())
    table = tmp_path / "table"
    train_module.main([*FEW[:2], *FEW[4:], "--agent", "q-learning", "--steps", "8", "--run-dir", str(table)])
    assert "has a table, and no language model" in refused([str(table), str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists()


class StandIn:
    """Takes what would go to the hub."""

    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    fails: ClassVar[Exception | None] = None

    def create_repo(self, repository: str, **options: Any) -> str:
        self.calls.append(("create", {"repository": repository, **options}))
        return f"https://hub.example/{repository}"

    def upload_folder(self, **options: Any) -> None:
        if self.fails is not None:
            raise self.fails
        files = sorted(path.name for path in Path(options["folder_path"]).iterdir())
        self.calls.append(("upload", {**options, "files": files}))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    monkeypatch.setattr(StandIn, "calls", [])
    monkeypatch.setattr(hub, "HfApi", StandIn)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    return StandIn


def test_the_hub_gets_the_folder_when_that_is_asked_only(
    run: Path, out: Path, stand_in: type[StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main([str(run), str(tmp_path / "kept")])
    assert stand_in.calls == []
    command.main([str(run), str(tmp_path / "sent"), "--push-to-hub", "me/listener", "--private"])
    (created, what), (uploaded, files) = stand_in.calls
    assert (created, what) == ("create", {"repository": "me/listener", "private": True, "exist_ok": True})
    assert (uploaded, files["repo_id"], files["folder_path"]) == ("upload", "me/listener", tmp_path / "sent")
    assert files["files"] == sorted(path.name for path in (tmp_path / "sent").iterdir())
    assert {"README.md", "model.safetensors", "heed"} <= set(files["files"])
    assert "https://hub.example/me/listener" in capsys.readouterr().out
    card = (tmp_path / "sent" / "README.md").read_text()
    assert "# listener" in card
    assert 'load_language_model("me/listener")' in card


def test_an_upload_that_cannot_be_is_told(
    run: Path,
    stand_in: type[StandIn],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def push(folder: str, repository: str) -> str:
        return refused([str(run), str(tmp_path / folder), "--push-to-hub", repository], capsys)

    assert "must be OWNER/NAME" in push("a", "listener")
    assert "cannot be a repository" in push("a", "me/--listener--")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in push("a", "me/listener")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "get_token", lambda: None)
    assert "run `hf auth login`, or set HF_TOKEN" in push("a", "me/listener")
    assert not (tmp_path / "a").exists()
    assert stand_in.calls == []
    monkeypatch.undo()
    monkeypatch.setattr(hub, "HfApi", StandIn)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    monkeypatch.setattr(StandIn, "fails", ConnectionError("no route to the hub"))
    told = push("b", "me/listener")
    assert "did not take it: no route to the hub Try again with: hf upload me/listener" in told
    assert load(tmp_path / "b").num_timesteps == 256


def test_the_card_of_an_adapter_says_how_peft_loads_it(tmp_path: Path) -> None:
    train_module.main([*FEW, "--adapter", "lora", "--steps", "64", "--run-dir", str(tmp_path / "run")])
    command.main([str(tmp_path / "run"), str(tmp_path / "out")])
    card = (tmp_path / "out" / "README.md").read_text()
    (code,) = [part.split("```")[0] for part in card.split("```python") if "PeftModel" in part]
    told: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for what transformers has renamed
        patch.chdir(tmp_path)
        exec(code, told)
    trained = load_file(tmp_path / "out" / "adapter_model.safetensors")
    loaded = told["model"].state_dict()
    for name, weight in trained.items():
        assert torch.equal(loaded[name.replace(".weight", ".default.weight")], weight)
    assert "--model ./out" not in card
