"""The `heed` command hands on to its subcommands, and is quick to say what there is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heed.scripts import cli


def heed(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "heed.scripts.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)


def test_help_names_every_command() -> None:
    result = heed("--help")
    assert result.returncode == 0
    for command in cli.COMMANDS:
        assert f"heed {command}" in result.stdout


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_explains_its_options_without_loading_torch(command: str) -> None:
    code = (
        "import sys; from heed.scripts import cli; sys.argv = ['heed', sys.argv[1], '--help']\n"
        "try: cli.main()\n"
        "finally: assert 'torch' not in sys.modules, 'help must be quick'"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, command], capture_output=True, text=True, check=True, timeout=60
    )
    assert "--help" in result.stdout
    assert len(result.stdout.splitlines()) > 8


def test_an_unknown_command_and_a_misspelt_option_are_told() -> None:
    result = heed("trian")
    assert result.returncode == 2
    assert "there is no command 'trian'" in result.stderr
    result = heed("train", "--step", "5")
    assert result.returncode == 2
    assert "--steps" in result.stderr + result.stdout


def test_a_module_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_world.py").write_text(
        "import gymnasium\ngymnasium.register(id='Mine-v0', entry_point='my_buttons:Buttons')\n"
    )
    shutil.copy(Path(__file__).parents[1] / "buttons.py", tmp_path / "my_buttons.py")
    monkeypatch.chdir(tmp_path)
    # As where the installed `heed` starts: there Python itself looks nowhere but among what is installed.
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # the command sets it, and monkeypatch takes it back
    monkeypatch.setattr(sys, "argv", ["heed", "check-env", "my_world:Mine-v0"])
    cli.main()
    assert "press red" in capsys.readouterr().out
