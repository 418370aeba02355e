"""Environments of a Python file, named by its path: which one is meant, when it is imported, and what can be wrong."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from heed.envs import environment_file
from heed.envs.contract import UnknownEnvironmentError
from heed.envs.environment_file import parts_of, weight_of, with_absolute_paths, without_folders
from heed.envs.make import make, make_env, make_plain_env
from heed.envs.words.verbalize import VerbalizedEnv
from heed.envs.wrappers.mixture import Level, levels_of

DOOR = """
import gymnasium
from heed.envs import TextActions, language_space

class Door(gymnasium.Env):
    observation_space = language_space()
    action_texts = ("open", "wait")
    action_space = TextActions(action_texts)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.color = "COLOR"
        return self.words(), {}

    def words(self):
        return {"instruction": f"open the {self.color} door", "observation": "a door"}

    def step(self, action):
        return self.words(), float(action == 0), True, False, {"is_success": action == 0}
"""
REGISTERED = DOOR + "\ngymnasium.register('FileDoor-v0', Door)\n"
SECOND = "\nclass Gate(Door):\n    pass\n"


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave neither registered ids nor modules nor folders behind."""
    before = dict(gymnasium.registry)
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(environment_file, "_imported", {})
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "Door", None) is not None:
            del sys.modules[name]


def write(path: Path, source: str, color: str = "red") -> str:
    path.write_text(source.replace("COLOR", color))
    return str(path)


def instruction(env_id: str) -> str:
    env = make_env(env_id)
    words: str = env.reset(seed=0)[0]["instruction"]
    env.close()
    return words


@pytest.mark.parametrize("name", [":FileDoor-v0", ":FileDoor", ":Door", ""])
def test_a_registered_id_by_any_name(tmp_path: Path, name: str) -> None:
    assert instruction(write(tmp_path / "doors.py", REGISTERED) + name) == "open the red door"


def test_class_gets_an_id_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "my-doors.py", DOOR + SECOND)
    for _ in range(2):
        env = make_plain_env(f"{path}:Gate")
        assert env.spec is not None
        assert env.spec.id == "my_doors/Gate-v0"
        assert type(env.unwrapped).__name__ == "Gate"
    assert "my_doors/Gate-v0" in gymnasium.registry
    assert instruction(f"{path}:my_doors/Gate-v0") == "open the red door"


def test_only_class_needs_no_name(tmp_path: Path) -> None:
    assert instruction(write(tmp_path / "doors.py", DOOR)) == "open the red door"


def test_path_may_be_relative_or_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "doors.py", REGISTERED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("./doors.py", "doors.py", f"../{tmp_path.name}/doors.py", "~/doors.py"):
        assert instruction(f"{path}:FileDoor-v0") == "open the red door"
    assert len(environment_file._imported) == 1


def test_plain_environment_gets_words(tmp_path: Path) -> None:
    source = "from gymnasium.envs.classic_control import CartPoleEnv\nclass Pole(CartPoleEnv):\n    pass\n"
    assert isinstance(make_env(write(tmp_path / "poles.py", source)), VerbalizedEnv)


def test_file_is_imported_once_until_it_changes(tmp_path: Path) -> None:
    count = "\nimport builtins\nbuiltins.heed_test_imports = getattr(builtins, 'heed_test_imports', 0) + 1\n"
    import builtins

    path = write(tmp_path / "doors.py", REGISTERED + count)
    try:
        for _ in range(3):
            assert instruction(path) == "open the red door"
        assert builtins.heed_test_imports == 1  # type: ignore[attr-defined]
        stamp = os.stat(path)
        write(tmp_path / "doors.py", REGISTERED + count, color="tan")  # as long as it was, and as old
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert instruction(path) == "open the tan door"  # and no warning that an id is registered twice
        assert builtins.heed_test_imports == 2  # type: ignore[attr-defined]
    finally:
        del builtins.heed_test_imports  # type: ignore[attr-defined]


def test_two_files_may_register_the_same_id(tmp_path: Path) -> None:
    paths = []
    for color in ("red", "blue"):
        (tmp_path / color).mkdir()
        paths.append(write(tmp_path / color / "doors.py", REGISTERED, color))
    red, blue = paths
    assert instruction(red) == "open the red door"
    with pytest.warns(UserWarning, match="Overriding environment FileDoor-v0"):
        assert instruction(blue) == "open the blue door"
    assert instruction(f"{red}:FileDoor-v0") == "open the red door"


def test_entry_point_may_name_the_file_itself(tmp_path: Path) -> None:
    for entry_point in ("'own_doors:Door'", "f'{__name__}:Door'"):
        path = write(tmp_path / "own_doors.py", f"{DOOR}\ngymnasium.register('FileDoor-v0', {entry_point})\n")
        assert instruction(f"{path}:FileDoor-v0") == "open the red door"
    assert "own_doors" not in sys.modules


def test_file_may_import_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "neighbour_of_doors.py", REGISTERED)
    assert instruction(write(tmp_path / "doors.py", "import neighbour_of_doors\n")) == "open the red door"


def test_mixture_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "c++ @ home").mkdir()
    path = write(tmp_path / "c++ @ home" / "doors.py", REGISTERED + "\ngymnasium.register('Other-v0', Door)\n")
    env_id = f"{path}:FileDoor-v0@3+{path}:Other-v0"
    assert levels_of(env_id) == (
        Level(env_id=f"{path}:FileDoor-v0", weight=3.0),
        Level(env_id=f"{path}:Other-v0"),
    )
    assert levels_of(f"{path}:FileDoor-v0") == (Level(env_id=f"{path}:FileDoor-v0"),)
    levels = {make_env(env_id).reset(seed=seed)[1]["level"] for seed in range(9)}
    assert levels == {f"{path}:FileDoor-v0", f"{path}:Other-v0"}


def test_processes_import_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "doors.py", REGISTERED)
    monkeypatch.chdir(tmp_path)
    env = make("./doors.py:FileDoor-v0", n_envs=2, processes=2, seed=0)
    try:
        assert list(env.reset()["instruction"]) == ["open the red door"] * 2  # type: ignore[call-overload]
        assert env.step(np.array([0, 1]))[1].tolist() == [1.0, 0.0]
    finally:
        env.close()


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (None, ":Door-v0", "There is no file .*doors.py. Was it moved"),
        ("1 / 0", "", "Importing .*doors.py failed in line 1: ZeroDivisionError: division by zero.$"),
        ("\nimport no_such_package", "", "failed in line 2: ModuleNotFoundError: No module named 'no_such_package'.$"),
        ("x = 1\ny = (", "", "failed in line 2: SyntaxError: '\\(' was never closed.$"),
        ("raise SystemExit", "", "Importing .*doors.py failed in line 1: SystemExit.$"),
        ("pass", ":Door-v0", "doors.py has no environment 'Door-v0': it registers none, and has no class that is a"),
        ("pass", "", "does not say which environment is meant: it registers none"),
        (REGISTERED, ":Dor-v0", "has no environment 'Dor-v0': it registers FileDoor-v0 and it has the class Door.$"),
        (
            DOOR + SECOND,
            "",
            "is meant: it has the classes Door, Gate. Name one, as in doors.py:MyEnv",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(tmp_path: Path, source: str | None, name: str, message: str) -> None:
    path = tmp_path / "doors.py"
    if source is not None:
        path.write_text(source)
    with pytest.raises(UnknownEnvironmentError, match=message) as caught:
        make_env(f"{path}{name}")
    assert "\n" not in str(caught.value)


def test_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "doors.py").mkdir()
    with pytest.raises(UnknownEnvironmentError, match="Is a directory: cannot read"):
        make_env(f"{tmp_path}/doors.py")


def test_failed_import_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "doors.py"
    path.write_text(REGISTERED + "\n1 / 0\n")
    for _ in range(2):
        with pytest.raises(UnknownEnvironmentError, match="ZeroDivisionError"):
            make_env(f"{path}")
    assert "FileDoor-v0" not in gymnasium.registry


def test_parts_and_weights() -> None:
    assert parts_of("A-v0+B-v0") == ["A-v0", "B-v0"]
    assert parts_of("./c++/x.py:A-v0+B-v0") == ["./c++/x.py:A-v0", "B-v0"]
    assert parts_of("B-v0@2+ ~/a+b.py") == ["B-v0@2", " ~/a+b.py"]
    assert weight_of(" /me@work/x.py:A-v0@3 ") == ("/me@work/x.py:A-v0", "3")
    assert weight_of("/me@work/x.py") == ("/me@work/x.py", None)
    assert weight_of("B-v0@0.5") == ("B-v0", "0.5")


def test_ids_for_any_folder_and_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = os.path.realpath(tmp_path)
    absolute = with_absolute_paths("./x.py:A-v0@3+B-v0@2+sub/y.py")
    assert absolute == f"{here}/x.py:A-v0@3+B-v0@2+{here}/sub/y.py"
    assert with_absolute_paths(absolute) == absolute
    assert without_folders(absolute) == "x.py:A-v0@3+B-v0@2+y.py"
    assert with_absolute_paths("package.module:A-v0") == "package.module:A-v0"
