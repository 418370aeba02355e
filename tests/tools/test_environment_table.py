"""The table of all environments: what comes of an environment that works, fails, is not installed, hangs or dies."""

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from tools import environment_table
from tools.environment_table import Row, examine, examine_all, main, markdown, matching_ids, summary, write_table


def pretend(env_id: str) -> Row:
    """Do in a process what an environment in it might do."""
    if env_id == "Hanging-v0":
        time.sleep(600)
    if env_id == "Dying-v0":
        os._exit(7)
    return Row(env_id=env_id, result="pass")


def test_hanging_and_dying_environments_cost_their_own_row() -> None:
    ids = ["Hanging-v0", "Dying-v0", "Good-v0", "Better-v0"]
    rows = {row.env_id: row.result for row in examine_all(ids, jobs=2, time_limit=2, examiner=pretend)}
    assert rows == {
        "Hanging-v0": "hangs: not done after 2 s",
        "Dying-v0": "fails: its process died (exit status 7)",
        "Good-v0": "pass",
        "Better-v0": "pass",
    }


def test_what_comes_of_one_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    lake = examine("FrozenLake-v1")
    assert lake == Row(env_id="FrozenLake-v1", observation="Discrete(16)", actions="Discrete(4)", result="pass")
    pendulum = examine("Pendulum-v1")  # the linear head
    assert (pendulum.observation, pendulum.actions, pendulum.passed) == ("Box(3)", "Box(1)", True)

    class Needy(gymnasium.Env[Any, Any]):
        def __init__(self) -> None:
            raise gymnasium.error.DependencyNotInstalled("no_such_engine is not installed")

    class Endless(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Discrete(2)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return 0, {}

        def step(self, action: Any) -> Any:
            return 1, 0.0, False, False, {}

    for kind in (Needy, Endless):
        spec = gymnasium.envs.registration.EnvSpec(f"Table{kind.__name__}-v0", lambda kind=kind, **_: kind())
        monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    monkeypatch.setattr(environment_table, "LONGEST_EPISODE", 100)
    assert examine("TableNeedy-v0").result == "not installed: no_such_engine is not installed"
    assert examine("TableEndless-v0").result == "fails: episodes end: an episode went on for more than 100 steps"


def test_what_passed_is_kept_and_the_rest_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def pretended(env_ids: list[str], **_: Any) -> Any:
        for env_id in env_ids:
            asked.append(env_id)
            yield Row(
                env_id=env_id,
                observation="Box(2 | 3)",
                actions="",
                result="fails: | is told" if "8" in env_id else "pass",
            )

    monkeypatch.setattr(environment_table, "examine_all", pretended)
    out = tmp_path / "docs" / "table.md"
    main(["--pattern", "FrozenLake*", "--out", str(out)])
    assert asked == matching_ids("FrozenLake*") == ["FrozenLake-v1", "FrozenLake8x8-v1"]
    text = out.read_text()
    assert "| `FrozenLake8x8-v1` | Box(2 \\| 3) |  | fails: \\| is told |" in text
    assert "**2 environments: 1 pass, 0 need what is not installed, 1 fail.**" in text
    assert "## Gymnasium: toy text" in text
    asked.clear()
    rows = write_table(pattern="FrozenLake*", out=out, jobs=1, time_limit=1)
    assert asked == ["FrozenLake8x8-v1"]
    assert [row.passed for row in rows] == [True, False]
    assert out.read_text() == text


def test_no_machines_paths_in_the_table() -> None:
    folder = os.path.dirname(os.path.dirname(gymnasium.__file__))
    assert environment_table._short(f"No such file: '{folder}/minigrid/x.png'") == "No such file: 'minigrid/x.png'"
    assert len(environment_table._short("word " * 1000)) <= environment_table.LONGEST_REASON


def test_summary_and_page() -> None:
    rows = [
        Row(env_id="A-v0", result="pass, words cut at 256 tokens"),
        Row(env_id="B-v0", result="not installed: x"),
        Row(env_id="C-v0", result="hangs: not done after 5 s"),
    ]
    assert summary(rows) == "3 environments: 1 pass, 1 need what is not installed, 1 fail."
    assert "`python -m tools.environment_table --out FILE`" in markdown("*", rows)
    assert "`python -m tools.environment_table --pattern 'A*' --out FILE`" in markdown("A*", rows)


def test_families_are_the_packages_that_ids_come_from() -> None:
    ids = [
        "FrozenLake-v1",
        "Ant-v2",
        "BabyAI-GoToLocal-v0",
        "MiniGrid-Empty-8x8-v0",
        "Heed/DeepSea-v0",
        "NobodyHasRegistered-v0",
    ]
    families = [environment_table._family(env_id) for env_id in ids]  # Ant-v2's entry point is a function
    assert families == ["Gymnasium: toy text", "Gymnasium: moved elsewhere", "BabyAI", "MiniGrid", "Heed", "others"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pattern", "NoSuch*"], "No environment that is registered has an id like 'NoSuch*'"),
        (["--jobs", "0"], "--jobs is 0, but must be at least 1"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
