"""The page on extending Heed is tried: its files are written, its commands run, and a package has all of them."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import gymnasium
import pytest

from heed.envs.words import verbalize
from heed.evaluation.axes import AxisError, axis, axis_names, registry
from heed.policies import LanguageModelError, load_language_model
from heed.policies.models import registry as models
from heed.scripts import evaluate, train
from tests.envs.test_environment_file import as_it_was
from tests.forked import start_main

__all__ = ["as_it_was"]  # a fixture

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "extend.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"In `(\w+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [shlex.split(line) for line in re.findall(r"^```\n(heed .*)\n```$", PAGE, re.MULTILINE)]
ENTRY_POINTS = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
LITTLE = ["--steps", "64", "--n-envs", "4", "--eval-episodes", "0", "--sample-every", "0"]


@pytest.fixture
def pages_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verbalize, "_registry", {})
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    monkeypatch.setattr(models, "_registry", {})
    for name, source in FILES.items():
        (tmp_path / name).write_text(source)
    return tmp_path


@pytest.mark.usefixtures("as_it_was")
def test_every_command_of_the_page_runs(pages_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(FILES) == ["my_world.py", "my_axis.py", "my_words.py", "my_model.py"]
    assert max(len(re.findall(r"^.*\S.*$", source, re.MULTILINE)) for source in FILES.values()) <= 13
    for _, command, *arguments in COMMANDS:
        if command == "train":
            train.main([*arguments, *LITTLE])
        else:
            assert command == "evaluate"
            evaluate.main([*arguments, "--episodes", "2", "--viewed", "0", "--no-references"])
    assert "shouting" in (pages_files / "runs" / "lamp" / "axes.csv").read_text()
    assert (pages_files / "runs" / "lake" / "config.json").is_file()
    # What was trained is loaded without the file that made its model.
    (pages_files / "my_model.py").unlink()
    evaluate.main(["runs/mine", "--episodes", "2", "--viewed", "0", "--no-references"])
    capsys.readouterr()


@pytest.mark.usefixtures("as_it_was")
def test_an_axis_of_a_file(pages_files: Path) -> None:
    shouting = axis("./my_axis.py:Shouting", times=3)
    assert (shouting.label, "shouting" in axis_names()) == ("shouting(times=3)", True)
    assert shouting == axis("shouting", times=3)
    (pages_files / "suite.yaml").write_text(
        "name: loud\nenvironments: [CartPole-v1]\naxes: [./my_axis.py:Shouting, ./my_axis.py:Shouting: {times: 2}]\n"
    )
    from heed.evaluation import load_suite

    assert [one.label for one in load_suite("suite.yaml").axes] == ["shouting", "shouting(times=2)"]
    (pages_files / "my_axis.py").write_text(FILES["my_axis.py"].replace('"shouting"', '"blank"'))
    with pytest.raises(AxisError, match="is 'blank', which is another axis: call it otherwise"):
        axis("./my_axis.py:Shouting")
    for name, told in (
        ("my_axis.py:Loud", "defines no 'Loud'"),
        ("no.py:A", "There is no file"),
        ("my_words.py:1", "no"),
    ):
        with pytest.raises(AxisError, match=told):
            axis(f"./{name}")
    with pytest.raises(AxisError, match="must be a class that inherits"):
        axis("./my_words.py:LakeVerbalizer")


def test_a_models_file_runs_for_the_command_line_only(pages_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pages_files / "my_model.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(LanguageModelError, match="runs only where `--model` names it on the command line"):
        load_language_model("./my_model.py:load")
    for source, told in (("", "defines no 'load'"), ("load = 3", "names no function"), ("1 / 0", "ZeroDivisionError")):
        (pages_files / "my_model.py").write_text(source)
        with pytest.raises(SystemExit):
            train.main(["--model", "./my_model.py:load", *LITTLE])
        assert told in capsys.readouterr().err


def test_a_runs_configuration_does_not_run_its_models_file(
    pages_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(["--model", "./my_model.py:load", "--run-dir", "runs/first", *LITTLE])
    again = ["--config", "runs/first/config.json", "--run-dir", "runs/second", "--seed", "1"]
    (pages_files / "copy.yaml").write_text((pages_files / "runs" / "first" / "config.json").read_text())
    source = (pages_files / "my_model.py").read_text()
    (pages_files / "my_model.py").write_text("raise SystemExit('it ran')")
    capsys.readouterr()
    for words in (again, ["--config", "copy.yaml", *again[2:]]):
        with pytest.raises(SystemExit):
            train.main(words)
        told = " ".join(capsys.readouterr().err.split())
        assert "only the command line may name such a file: add --model" in told
    (pages_files / "my_model.py").write_text(source)
    train.main([*again, "--model", "./my_model.py:load"])
    assert (pages_files / "runs" / "second" / "config.json").is_file()
    # What somebody writes themselves is a command line in a file.
    (pages_files / "own.yaml").write_text(
        "model: ./my_model.py:load\nsteps: 64\nn-envs: 4\neval-episodes: 0\nsample-every: 0\n"
    )
    train.main(["--config", "own.yaml", "--run-dir", "runs/third"])


@pytest.mark.parametrize(
    ("load", "told"),
    [(lambda _: 3, "returned int: it must return"), (lambda _: 1 / 0, "failed: ZeroDivisionError: division by zero")],
)
@pytest.mark.usefixtures("pages_files")
def test_a_loader_that_gives_no_model(load: models.Loader, told: str) -> None:
    models.register_language_model("mine", load)
    with pytest.raises(LanguageModelError, match=f"The loader of the language model 'mine' {told}"):
        load_language_model("mine")
    with pytest.raises(LanguageModelError, match="knows no revision"):
        load_language_model("mine@main")


USE = """
import contextlib
import sys
from pathlib import Path
from heed.agents import load
from heed.envs import make, make_env
from heed.evaluation import axis, axis_names
from heed.policies import load_language_model
from heed.training.memory.estimate import estimate_memory
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from heed.scripts import train

def main():
    assert "shouting" in axis_names()
    print(axis("shouting").make_env("FrozenLake-v1").reset(seed=0)[0]["instruction"])
    print(load_language_model("my-model").name)
    assert "my_package.my_ppo" not in sys.modules
    words = "--agent my-ppo --env FrozenLake-v1 --n-envs 2 --rollout-steps 16 --batch-size 16 --eval-episodes 0"
    with contextlib.redirect_stdout(sys.stderr):
        train.main([*words.split(), "--sample-every", "0", "--run-dir", "run"])
    print(type(load(RunFolder(Path("run")).latest_checkpoint())).__name__)
    assert estimate_memory(TrainConfig(model="my-model", env="MyPackage/Lamp-v0")).new > 0
    for name in ("MyPackage/Lamp-v0", "FrozenLake-v1"):
        env = make(name, n_envs=2, processes=2, seed=0)
        print(env.reset()["observation"][1])
        env.close()
"""


def test_a_package_has_them_all_and_worker_processes_find_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, metadata = tmp_path / "my_package", tmp_path / "my_package-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    for name, source in FILES.items():
        (package / name.removeprefix("my_")).write_text(source)
    (package / "__init__.py").write_text(
        'from heed.agents import Algorithm\n\nMY_PPO = Algorithm(place="my_package.my_ppo:MyPPO", steps=64)\n'
    )
    (package / "my_ppo.py").write_text("from heed.agents import PPO\n\n\nclass MyPPO(PPO):\n    pass\n")
    registered = 'gymnasium.register("MyPackage/Lamp-v0", entry_point="my_package.world:Lamp")\n'
    (package / "world.py").write_text(f"{FILES['my_world.py']}\n{registered}")
    assert ENTRY_POINTS is not None
    groups = re.sub(r'project.entry-points."(.*)"', r"\1", ENTRY_POINTS[1]).replace('"', "")
    (metadata / "entry_points.txt").write_text(groups)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (tmp_path / "use.py").write_text(USE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    out, error = tmp_path / "out", tmp_path / "error"
    process = start_main("use", [], variables=os.environ, out=out, error=error)
    process.join()
    assert process.exitcode == 0, error.read_text()
    assert out.read_text().splitlines() == [
        "WALK TO THE FAR CORNER OF THE FROZEN LAKE, AROUND THE HOLES!",
        "my-model",
        "MyPPO",
        "a lamp",
        "row 0; column 0",
    ]
    assert "MyPackage/Lamp-v0" not in gymnasium.registry
