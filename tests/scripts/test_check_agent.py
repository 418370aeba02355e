"""`heed check-agent`: what it prints, the status that it ends with, and the options that it takes."""

from __future__ import annotations

import json

import pytest

from heed.envs.probes import PROBES
from heed.scripts.check_agent import CheckAgentConfig, main, run
from heed.training.errors import ConfigurationError

TABLE = ["--agent", "q-learning"]


def test_it_prints_a_line_for_each_probe(capsys: pytest.CaptureFixture[str]) -> None:
    main(TABLE)
    printed = capsys.readouterr().out
    assert "q-learning" in printed
    for name in PROBES:
        assert name in printed
    assert "7 of 10 probes passed, and none failed." in printed
    assert "skipped" in printed


def test_a_failure_is_its_status_and_told_last(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*TABLE, "--steps", "1", "--probes", "memory", "--probes", "delay"])
    assert end.value.code == 1
    assert f"The first that fails is 'delay'. {PROBES['delay'].broken[:20]}" in capsys.readouterr().out


def test_json_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    main([*TABLE, "--json", "--probes", "memory", "--probes", "value"])
    results = json.loads(capsys.readouterr().out)
    assert [(result["probe"], result["outcome"]) for result in results] == [("value", "passed"), ("memory", "passed")]
    assert all(0 < result["steps"] < 2000 and result["seconds"] > 0 for result in results)


@pytest.mark.parametrize(
    "options",
    [
        {"agent": "a2c", "head": "linear", "adapter": "lora", "value_learning_rate": 1e-2},
        {"agent": "ppo", "train_layers": 1, "batch_tokens": 2000, "n_envs": 8},
        {"agent": "grpo", "group_size": 4, "precision": "bfloat16"},
        {"agent": "dqn", "exploration": "boltzmann", "micro_batch_tokens": 500},
    ],
)
def test_it_takes_the_options_of_a_training(options: dict[str, object]) -> None:
    """They are put into the agent; it need not solve the probe."""
    [result] = run(CheckAgentConfig(**options, probes=("action",), steps=32))  # type: ignore[arg-type]
    assert result.steps in (32, 64, 128)
    assert "raised" not in result.detail
    assert "cannot be made" not in result.detail


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"env": "BabyAI-GoToObj-v0"}, "--env is no option of check-agent"),
        ({"resume": True}, "--resume is no option of check-agent"),
        ({"max_steps": 5}, "--max-steps is no option of check-agent"),
        ({"dagger_rounds": 1}, "no demonstrations"),
        ({"probes": ("sight",)}, "There is no probe 'sight': there are value, observation,"),
        ({"agent": "q-learning", "head": "linear"}, "--head is an option of language models"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        run(CheckAgentConfig(**options))  # type: ignore[arg-type]
