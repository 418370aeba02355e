"""The kit for other people's test suites: used here on environments of ours, with pytest and with unittest."""

import functools
import os
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from examples.boxes import Boxes
from heed.envs import make_env
from heed.envs.checks import check_env
from heed.envs.testing import LanguageEnvTests
from tests.envs.test_checks_changing_actions import Doors
from tests.envs.walk import Walk, changed, step_with


class TestBoxes(LanguageEnvTests):
    notes_fail = True

    def make_env(self) -> gymnasium.Env[Any, Any]:
        return Boxes()


class TestLevel(LanguageEnvTests):
    episodes = 2

    def make_env(self) -> gymnasium.Env[Any, Any]:
        return make_env("BabyAI-GoToLocal-v0")


class DoorsTest(LanguageEnvTests, unittest.TestCase):
    """Actions that change, with unittest."""

    def make_env(self) -> gymnasium.Env[Any, Any]:
        return Doors()


def outcomes_of(env_class: Any, **attributes: Any) -> dict[str, str]:
    """Run the kit on an environment with unittest; return how each test ended."""
    methods = {"make_env": lambda self: env_class(), **attributes}
    kind: Any = type("KitTest", (LanguageEnvTests, unittest.TestCase), methods)
    result = unittest.TestResult()
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(kind)
    names = [test.id().rpartition(".")[2] for test in suite]  # type: ignore[union-attr]
    suite.run(result)
    assert result.errors == []
    ends = dict.fromkeys(names, "passed")
    for what, pairs in (("failed", result.failures), ("skipped", result.skipped)):
        ends.update({test.id().rpartition(".")[2]: what for test, _ in pairs})
    return ends


def test_a_fault_fails_its_own_test_and_skips_what_could_not_be_looked_at() -> None:
    ends = outcomes_of(changed(step=step_with(reward="much")))
    assert [name for name, end in ends.items() if end == "failed"] == ["test_reset_and_step"]
    assert ends["test_actions"] == "passed"
    assert ends["test_success_is_told"] == "skipped"


def test_notes_fail_where_they_shall() -> None:
    class Unvaried(Walk):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            self.target, self.place = 3, 0
            return self.perceive(), {}

    assert set(outcomes_of(Unvaried).values()) == {"passed"}
    strict = outcomes_of(Unvaried, notes_fail=True)
    failed = {name for name, end in strict.items() if end == "failed"}
    assert failed == {"test_instructions_vary", "test_other_seeds_other_episodes"}


def test_environment_is_played_once_for_all_tests() -> None:
    made = []

    def make() -> Walk:
        made.append(1)
        return Walk()

    outcomes_of(make)
    once = len(made)
    made.clear()
    check_env(make)
    assert len(made) == once


def test_every_check_has_a_test() -> None:
    """What `check_env` finds, the kit asks for: a fault in any check fails one of its tests."""
    asked: set[str] = set()

    class Listening(LanguageEnvTests):
        def _require(self, name: str, *, optional: bool = False) -> None:
            asked.add(name)

    for name in dir(Listening):
        if name.startswith("test_"):
            getattr(Listening(), name)()
    told = {check.name for check in check_env("BabyAI-GoToLocal-v0", episodes=2)}
    told |= {check.name for check in check_env(functools.partial(Doors), episodes=2)}
    assert told <= asked


def test_subclass_without_its_method_says_so() -> None:
    class Forgotten(LanguageEnvTests):
        pass

    with pytest.raises(AssertionError, match="can be made: NotImplementedError: Forgotten needs a method `make_env`"):
        Forgotten().test_can_be_made()


def test_pytest_of_a_stranger_finds_it(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from heed.envs import make_env\n"
        "from heed.envs.testing import LanguageEnvTests\n"
        "class TestMine(LanguageEnvTests):\n"
        "    def make_env(self):\n"
        "        return make_env('FrozenLake-v1')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    tests = [name for name in dir(LanguageEnvTests) if name.startswith("test_")]
    assert f"{len(tests)} passed" in result.stdout
