"""A training in an environment of a Python file: its run folder, and how it goes on in another working directory."""

from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from heed.envs import environment_file
from heed.evaluation.command_line import env_for_any_folder
from heed.scripts.demos import DemosConfig, record
from heed.scripts.evaluate import EvaluateConfig, evaluate_run
from heed.scripts.train import main
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from tests.envs.test_environment_file import REGISTERED

EXPERT = REGISTERED.replace("    def words", "    def expert_action(self):\n        return 0\n\n    def words")
LITTLE = ["--n-envs", "2", "--rollout-steps", "32", "--sample-every", "0", "--eval-episodes"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with doors.py, and another beside it; the working directory is the first."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / "doors.py").write_text(EXPERT)
    monkeypatch.setattr(environment_file, "_imported", {})
    monkeypatch.chdir(tmp_path / "home")
    yield tmp_path / "home"
    gymnasium.registry.pop("FileDoor-v0", None)


def test_run_goes_on_and_is_evaluated_elsewhere(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--env", "./doors.py:FileDoor-v0", "--steps", "64", *LITTLE, "0"])
    (run,) = (home / "runs").iterdir()
    assert run.name == "doors-FileDoor-v0-ppo-seed0"
    assert RunFolder(run).read_config()["env"] == f"{home.resolve()}/doors.py:FileDoor-v0"
    main(["--env", "./doors.py:FileDoor-v0", "--run-dir", str(run), "--resume", "--steps", "128"])
    monkeypatch.chdir(home.parent / "elsewhere")
    main(["--run-dir", str(run), "--resume", "--steps", "192", "--eval-episodes", "1"])
    assert RunFolder(run).read_curve()[-1]["steps"] == 192
    evaluate_run(EvaluateConfig(run_dir=run, episodes=2, references=False, viewed=0))
    (home / "doors.py").rename(home.parent / "elsewhere" / "moved.py")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--run-dir", str(run), "--resume", "--steps", "1024"])
    told = capsys.readouterr().err
    assert "There is no file" in told
    assert told.count("\n") == 1
    gymnasium.registry.pop("FileDoor-v0")
    report = evaluate_run(
        EvaluateConfig(run_dir=run, episodes=2, env="./moved.py:FileDoor-v0", out=home.parent / "elsewhere" / "out")
    )
    assert report.is_file()


def test_demonstrations_in_it(home: Path) -> None:
    file = record(DemosConfig(env="./doors.py:FileDoor-v0", episodes=3, out=home / "demos.jsonl"))
    assert file.read_text().count("open the COLOR door") == 3


def test_folder_names_and_ids() -> None:
    def folder(env: str) -> str:
        run_dir = TrainConfig(env=env).resolved().run_dir
        assert run_dir is not None
        return run_dir.name

    assert folder("./sub/my.world.py:A-v0") == "my-world-A-v0-ppo-seed0"
    assert folder("/x/y.py+B-v0@2") == "y+B-v0@2-ppo-seed0"
    assert folder("a.b:C-v0") == "a.b-C-v0-ppo-seed0"
    assert env_for_any_folder("a.b:C-v0") == "a.b:C-v0"
