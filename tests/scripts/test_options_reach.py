"""An option of a training holds in all that a run does: training, DAgger, evaluation, estimate."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from heed.scripts import evaluate as evaluate_module
from heed.scripts.demos import DemosConfig
from heed.training import cloning
from heed.training.errors import ConfigurationError
from heed.training.memory import estimate as estimate_module
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
LIMITS: dict[str, Any] = {"max_steps": 6, "max_episode_steps": 9, "step_timeout": 7.0, "reset_timeout": 8.0}


class _SeenError(Exception):
    """Ends what would take long."""


def test_dagger_plays_within_the_limits_of_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    seen: dict[str, Any] = {}

    def look(_agent: Any, make_env: Any, *_: Any, **options: Any) -> None:
        seen.update(options, env=make_env())
        raise _SeenError

    monkeypatch.setattr(importlib.import_module("heed.agents.imitation.dagger"), "dagger", look)
    config = TrainConfig(env=LEVEL, dagger_rounds=1, **LIMITS).resolved()
    with pytest.raises(_SeenError):
        cloning.clone_into(None, (), config, RunFolder(tmp_path), Console(quiet=True))  # type: ignore[arg-type]
    assert {name: seen[name] for name in LIMITS if name != "max_steps"} == {
        name: limit for name, limit in LIMITS.items() if name != "max_steps"
    }
    env = seen["env"]
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(6)]
    assert ends == [(False, False)] * 5 + [(False, True)]


def test_an_evaluation_waits_as_long_for_a_step_as_the_training_did() -> None:
    assert evaluate_module._timeout({"step_timeout": 7.0, "reset_timeout": 90.0}) == 90.0
    assert evaluate_module._timeout({"step_timeout": None, "reset_timeout": 90.0}) is None
    assert evaluate_module._timeout({}) == 60.0  # a run of an earlier version does not say


def test_an_estimate_looks_at_the_environments_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def look(env_id: str, **options: Any) -> None:
        seen.update(options, env_id=env_id)
        raise _SeenError

    monkeypatch.setattr(importlib.import_module("heed.envs.make"), "make", look)
    config = TrainConfig(env=LEVEL, max_lost=3, instruction_changes="2-3", **LIMITS).resolved()
    with pytest.raises(_SeenError):
        estimate_module._prompts_of(config, None, None, None, segments=False)  # type: ignore[arg-type]
    assert (seen["max_steps"], seen["max_lost"], len(seen["wrappers"])) == (6, 3, 1)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (lambda: DemosConfig(out=Path("x.jsonl"), n_envs=3), "--n-envs is for trained agents"),
    ],
)
def test_options_of_other_commands_that_would_change_nothing_are_refused(config: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        config()


def test_the_same_options_are_taken_where_they_are_used() -> None:
    TrainConfig(clone_epochs=3, dagger_episodes=7, dagger_rounds=1)
    TrainConfig(normalization="sum")
    TrainConfig(agent="dqn", value_learning_rate=0.1)
