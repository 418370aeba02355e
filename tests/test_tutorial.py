"""What the tutorial shows is tried as a new user would: its blocks are written to files, and its commands run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from heed.agents import PPO
from heed.envs import make_env
from heed.envs.checks import check_env
from heed.envs.testing import LanguageEnvTests
from heed.scripts import check_env as check_env_script
from heed.scripts import demos, evaluate, new_env, train
from tests.envs.test_environment_file import as_it_was

__all__ = ["as_it_was"]  # a fixture

REPOSITORY = Path(__file__).resolve().parent.parent
TUTORIAL = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TUTORIAL, re.MULTILINE | re.DOTALL))
TEN_LINES = re.findall(r"in `(\w+\.py)`.*?```python\n(.*?)```\n\n```\n(.*?)\n```", SECTIONS["In ten lines"], re.DOTALL)
FEW = ["--n-envs", "4", "--eval-episodes", "2", "--max-steps", "8"]


def commands_of(section: str) -> list[list[str]]:
    """Return the words behind `heed` of each command of a section, in its order."""
    return [shlex.split(line)[1:] for line in re.findall(r"^heed .*$", SECTIONS[section], re.MULTILINE)]


def little(arguments: list[str]) -> list[str]:
    """Return the arguments of a training with few steps."""
    at = arguments.index("--steps")
    return [*arguments[:at], "--steps", "256", *arguments[at + 2 :], *FEW]


def test_there_are_three() -> None:
    assert [name for name, *_ in TEN_LINES] == ["dial.py", "heater.py", "lamp.py"]


@pytest.mark.parametrize(("name", "source", "command"), TEN_LINES)
def test_ten_lines_from_nothing_to_training(
    name: str, source: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line for line in [*source.splitlines(), *command.splitlines()] if line.strip()]
    assert len(lines) <= 10
    assert all(len(line) <= 120 for line in lines)
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(source)
    program, subcommand, *arguments = shlex.split(command)
    assert (program, subcommand) == ("heed", "train")
    train.main(little(arguments))
    assert (tmp_path / "runs" / f"{Path(name).stem}-ppo-seed0" / "report.html").is_file()
    assert [check.name for check in check_env(f"./{name}") if not check.passed] == []


def test_the_same_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dial.py").write_text(TEN_LINES[0][1])
    source = re.findall(r"```python\n(from heed.agents.*?)```", SECTIONS["In ten lines"], re.DOTALL)[0]
    space: dict[str, object] = {}
    exec(source.replace("40_000, progress_bar=True", "64"), space)
    assert isinstance(space["agent"], PPO)


def test_a_world_with_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mains: dict[str, Callable[[list[str]], None]] = {
        "new-env": new_env.main,
        "check-env": check_env_script.main,
        "train": lambda arguments: train.main(little(arguments)),
        "evaluate": lambda arguments: evaluate.main([*arguments, "--episodes", "2"]),
    }
    played = []
    for name, *arguments in commands_of("A world with instructions"):
        mains[name](arguments)
        played.append(name)
    assert played == list(mains)
    assert "failed" not in capsys.readouterr().out
    # What is shown of the file is what is in it.
    shown = re.findall(r"```python\n(.*?)```", SECTIONS["A world with instructions"], re.DOTALL)[0]
    written = [line.strip() for line in (tmp_path / "red_doors.py").read_text().splitlines()]
    assert [line for line in shown.splitlines() if line.strip() not in written] == []
    new_env.main(["Rooms", "--actions", "changing"])
    assert check_env("./rooms.py")[0].passed


def test_demonstrations_of_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    file = demos.record(demos.DemosConfig(env="./examples/errands.py", episodes=8, out=tmp_path / "errands.jsonl"))
    errands = ["--env", "./examples/errands.py", "--run-dir", str(tmp_path / "run"), "--steps", "64", *FEW]
    train.main([*errands, "--demonstrations", str(file), "--clone-epochs", "1"])
    assert (tmp_path / "run" / "report.html").is_file()


class TestErrands(LanguageEnvTests):
    notes_fail = True

    def make_env(self) -> object:  # type: ignore[override]
        return make_env(f"{REPOSITORY}/examples/errands.py")
