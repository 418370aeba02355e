"""A command that a person is told to run can be copied into a shell, whatever its folders and ids are called."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from heed.evaluation.command_line import tell, told_command
from heed.scripts import new_env
from heed.scripts.evaluate import EvaluateConfig
from heed.scripts.evaluate import command_of as command_of_evaluation
from heed.training.comparison.options import command_of
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder, RunFolderError
from heed.training.sharing.card import _templates
from tools.environment_table import markdown
from tools.pretrain import PretrainConfig, _command

NAMES = [
    "runs/plain",
    "my runs/first one",
    "o'neil",
    'say "hi"',
    "[bold]x[/bold]",
    "a;rm -rf $HOME & `b`",
    "*?~",
    "é ü",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_told_command_gives_back_its_words(name: str) -> None:
    run = RunFolder(Path(name))
    again = ["heed", "train", "--run-dir", name, "--resume"]
    assert shlex.split(run.told_how_to_continue().removeprefix("Continue with: ")) == again
    run.command = "torchrun --nproc-per-node 2 --no-python heed"
    assert shlex.split(run.command_to_continue()) == [*run.command.split(), *again[1:]]
    assert shlex.split(run.told_last_good().partition("Continue with: ")[2])[-2] == name

    assert shlex.split(command_of_evaluation(EvaluateConfig(run_dir=Path(name), env=name)))[2:] == [name, "--env", name]
    config = TrainConfig(env=name, model=name).resolved()
    assert shlex.split(command_of(config.as_json(), seeds=[3])) == [
        *["heed", "train", "--env", name, "--model", name],
        *["--seed", "3"],
    ]
    assert shlex.split(_command(PretrainConfig(out=Path(name)))) == ["python", "-m", "tools.pretrain", "--out", name]
    assert told_command("python", "-m", "tools.environment_table", "--pattern", name) in markdown(name, [])
    card = _templates().from_string("{{ name | quoted }}\n{{ name | literal }}").render(name=name)
    assert shlex.split(card.splitlines()[0]) == [name]
    assert eval(card.splitlines()[1]) == name

    text = io.StringIO()
    tell(Console(file=text, width=20), f"Continue with: {run.command_to_continue()}")
    assert shlex.split(text.getvalue().removeprefix("Continue with: "))[-2] == name


def test_a_new_environment_in_a_folder_with_a_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my environments"
    folder.mkdir()
    new_env.main(["red_doors", "--folder", str(folder)])
    check, train = [shlex.split(line) for line in capsys.readouterr().out.splitlines()[-2:]]
    assert check == ["heed", "check-env", str(folder / "red_doors.py")]
    assert train == ["heed", "train", "--env", str(folder / "red_doors.py"), "--steps", "30000"]


def test_a_shared_agent_is_named_in_a_command_too(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "my agent")
    run.is_shared = True
    with pytest.raises(RunFolderError, match=r"--model '.*my agent'"):
        run.require_training()
