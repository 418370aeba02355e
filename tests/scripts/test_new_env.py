"""`heed new-env`: what it writes passes every check and can be trained on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from heed.envs import ChangingActions, make_env
from heed.envs.checks import check_env
from heed.scripts import train
from heed.scripts.check_env import reader_of
from heed.scripts.new_env import NewEnvConfig, main, words_of, write_new_env
from heed.training.errors import ConfigurationError
from tests.envs.test_environment_file import as_it_was

__all__ = ["as_it_was"]  # a fixture


@pytest.mark.parametrize("actions", ["discrete", "changing"])
def test_what_is_written_passes_every_check(actions: str, tmp_path: Path) -> None:
    path = write_new_env(NewEnvConfig(name="RedDoors", actions=actions, folder=tmp_path / "worlds"))  # type: ignore[arg-type]
    assert path == tmp_path / "worlds" / "red_doors.py"
    env_id = f"{path}:RedDoors-v0"
    checks = check_env(env_id, reader=reader_of("heed-tiny", 256))
    assert [check for check in checks if check.outcome != "pass"] == []
    env = make_env(env_id)
    assert isinstance(env.action_space, ChangingActions) == (actions == "changing")
    assert "$" not in path.read_text()
    assert all(len(line) <= 120 for line in path.read_text().splitlines())


def test_its_expert_always_succeeds(tmp_path: Path) -> None:
    path = write_new_env(NewEnvConfig(name="tiles", folder=tmp_path))
    env = make_env(f"{path}")
    expert = env.get_wrapper_attr("expert_action")
    for seed in range(20):
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(expert())
            over = terminated or truncated
        assert info["is_success"]


def test_what_is_written_can_be_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["my-tiles"])
    commands = ["  heed check-env ./my_tiles.py", "  heed train --env ./my_tiles.py --steps 30000"]
    assert capsys.readouterr().out.splitlines()[2:] == commands
    train.main(["--env", "./my_tiles.py", "--steps", "256", "--n-envs", "4", "--eval-episodes", "2"])
    assert (tmp_path / "runs" / "my_tiles-ppo-seed0" / "report.html").is_file()


def test_one_whose_actions_change_can_be_trained_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["my-tiles", "--actions", "changing"])
    train.main(["--env", "./my_tiles.py", "--steps", "256", "--n-envs", "4", "--eval-episodes", "2"])
    assert (tmp_path / "runs" / "my_tiles-ppo-seed0" / "report.html").is_file()


def test_its_hint_how_to_test_it_is_a_test(tmp_path: Path) -> None:
    path = write_new_env(NewEnvConfig(name="Tiles", folder=tmp_path))
    _, _, hint = path.read_text().partition("each rule becomes a test.\n#\n")
    source = "\n".join(line.removeprefix("#     ").removeprefix("#") for line in hint.splitlines())
    assert source.startswith("from heed.envs import make_env\nfrom heed.envs.testing import LanguageEnvTests\n")
    assert "class TestTiles(LanguageEnvTests):\n    def make_env(self):" in source
    space: dict[str, type] = {}
    exec(source, space)
    kit = space["TestTiles"]()
    kit.make_env = lambda: make_env(f"{path}:Tiles-v0")
    kit.test_same_seed_same_episode()
    kit.test_expert()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RedDoors", ["red", "doors"]),
        ("red_doors", ["red", "doors"]),
        ("red-doors.py", ["red", "doors"]),
        ("Red doors", ["red", "doors"]),
        ("HTTPDoor2", ["http", "door2"]),
        ("tiles", ["tiles"]),
    ],
)
def test_words_of_a_name(name: str, words: list[str]) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize("name", ["", "2doors", "a/b", "../doors", "red.doors", "rød", "_", "lambda", "Class", "heed"])
def test_bad_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot name an environment|means something to Python"):
        write_new_env(NewEnvConfig(name=name, folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiles.py").write_text("mine")
    with pytest.raises(SystemExit) as caught:
        main(["Tiles", "--folder", str(tmp_path)])
    assert caught.value.code == 2
    assert "tiles.py exists already: give another name, or remove it." in capsys.readouterr().err
    assert (tmp_path / "tiles.py").read_text() == "mine"


def test_it_is_fast() -> None:
    code = (
        "import sys; from heed.scripts import new_env\n"
        "try: new_env.main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules, 'gymnasium' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.endswith("False False\n")
