"""`heed check-env`: what it prints, and the status that it ends with."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from heed.scripts import check_env, train
from heed.training import errors
from tests.forked import start_main


def test_good_environment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    check_env.main(["BabyAI-GoToRedBallNoDists-v0", "--episodes", "2", "--seed", "3"])
    printed = capsys.readouterr().out
    assert "2 episodes" in printed
    assert "failed" not in printed
    assert "go to the red ball" in printed
    assert "turn left, turn right, go forward" in printed


def test_broken_environment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    from heed.envs import checks

    broken = checks.Check(name="actions", passed=False, detail="[bold]two", fix="Give it [one].")
    monkeypatch.setattr(checks, "check_env", lambda *_, **__: [broken])
    with pytest.raises(SystemExit) as caught:
        check_env.main(["CartPole-v1"])
    assert caught.value.code == 1
    printed = capsys.readouterr().out
    assert "failed" in printed
    assert "[bold]two" in printed  # not read as markup
    assert "Fix: Give it [one]." in printed
    assert "What the agent reads" not in printed


def test_notes_are_told_and_do_not_fail(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = "--reward-episodes 2 --episodes 2 --max-prompt-tokens 40 --model heed-tiny"
    check_env.main(["FrozenLake-v1", *options.split()])
    printed = capsys.readouterr().out
    assert "Note: The instruction is always the same" in printed
    assert "2 episodes; rewards 0 to 0" in printed
    assert "of heed-tiny, where 40 are read" in printed
    assert "Note: The end of long observations is cut off: train with --max-prompt-tokens" in printed
    assert "failed" not in printed


def test_a_trained_agent_shows_that_the_reward_can_be_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run = tmp_path / "run"
    boxes = "examples.boxes:Boxes-v0"
    train.main(["--env", boxes, "--steps", "64", "--n-envs", "2", "--eval-episodes", "0", "--run-dir", str(run)])
    check_env.main([boxes, "--policy", str(run), "--reward-episodes", "8"])
    assert re.search(r"the given policy succeeds in \d of 8 episodes", capsys.readouterr().out)
    with pytest.raises(SystemExit):
        check_env.main(["FrozenLake-v1", "--policy", str(run)])
    assert "open left" in capsys.readouterr().err


def test_environment_of_a_file_and_a_language_model_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("from examples.boxes import Boxes\nclass Mine(Boxes):\n    pass\n")
    check_env.main([f"{tmp_path}/mine.py:Mine"])
    assert "Mine, as it is" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        check_env.main(["FrozenLake-v1", "--model", "./no-such-model"])
    assert "There is no model folder './no-such-model'" in capsys.readouterr().err


def test_help_is_fast_and_names_every_option() -> None:
    code = (
        "import sys; from heed.scripts import check_env\n"
        "try: check_env.main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules, 'gymnasium' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert all(word in printed for word in ("heed check-env", "--episodes", "--seed", "package.module:Id-v0"))
    assert printed.endswith("False False\n")


def test_script_tells_an_unknown_id_in_one_sentence(tmp_path: Path) -> None:
    out, error = tmp_path / "out", tmp_path / "error"
    process = start_main("heed.scripts.check_env", ["BabyAI-GoToLoca-v0"], variables=os.environ, out=out, error=error)
    process.join()
    assert process.exitcode == 2
    assert out.read_text() == ""
    told = error.read_text()
    assert told.startswith("There is no environment 'BabyAI-GoToLoca-v0'. Did you mean BabyAI-GoToLocal-v0")
    assert told.count("\n") == 1


def test_known_errors_become_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, errors.as_sentence():
        check_env.main(["CartPole-v1", "--episodes", "1"])
    assert caught.value.code == errors.STATUS == 2
    assert capsys.readouterr().err == "--episodes must be at least 2, to compare them, but is 1.\n"


def test_other_errors_are_let_through() -> None:
    with pytest.raises(ValueError, match="a bug"), errors.as_sentence():
        raise ValueError("a bug")


@pytest.mark.parametrize("module", errors.KNOWN_ERRORS)
def test_every_known_error_is_one_of_ours(module: str) -> None:
    for name in errors.KNOWN_ERRORS[module]:
        error = getattr(importlib.import_module(module), name)
        assert issubclass(error, Exception)
        assert error.__module__ == module
        assert error in errors.known_errors()
