"""What the user can correct comes out as a sentence; a bug of ours keeps its traceback, and the run is closed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO as SB3PPO

from heed.agents import PPO
from heed.agents.policy_gradient import PolicyGradient
from heed.scripts import train as train_module
from heed.training.errors import ConfigurationError, is_refusal
from heed.training.run_folder import RunFolder
from tests.buttons import make_buttons
from tests.endless import ENDLESS

TRAIN = ["--env", ENDLESS, "--max-steps", "4", "--n-envs", "2", "--eval-episodes", "0", "--device", "cpu"]


def _unpack() -> None:
    _, _ = (1, 2, 3)  # type: ignore[misc]


def _assert_nothing() -> None:
    raise AssertionError


REFUSALS: dict[str, Callable[[], Any]] = {
    "Heed refuses an argument": lambda: PPO(env=make_buttons(1), n_epochs=0, device="cpu"),
    "SB3 refuses one with an error": lambda: SB3PPO("NoPolicy", make_buttons(1)),
    "SB3 refuses one with an assertion": lambda: PPO(env=make_buttons(1), batch_size=1, device="cpu"),
}
BUGS: dict[str, Callable[[], Any]] = {
    "an expression fails": lambda: int("no number"),
    "unpacking fails": _unpack,
    "json fails": lambda: json.loads("{"),
    "an assertion of ours": _assert_nothing,
    "another class": lambda: PPO(env=make_buttons(1), no_such_argument=1),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("name", [*REFUSALS, *BUGS])
def test_a_refusal_is_told_from_a_bug(name: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of any class
        {**REFUSALS, **BUGS}[name]()
    assert is_refusal(raised.value) == (name in REFUSALS)


@pytest.mark.parametrize(
    "error", [AssertionError("shapes differ"), RuntimeError("index out of range"), ValueError("x")]
)
def test_a_bug_while_an_agent_is_made_keeps_its_class(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(PPO, "_setup_model", fails)
    with pytest.raises(type(error), match=str(error)):
        train_module.main([*TRAIN, "--run-dir", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_what_an_agent_refuses_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train_module.main([*TRAIN, "--agent", "a2c", "--target-kl", "0.1", "--run-dir", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "target_kl ends a rollout's updates early" in capsys.readouterr().err
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize("error", [AssertionError("shapes differ"), RuntimeError("index out of range")])
def test_a_bug_in_a_training_closes_the_run_and_tells_what_is_saved(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "my run")
    real = PolicyGradient.train
    calls: list[None] = []

    def fails_later(self: Any) -> None:
        calls.append(None)
        if len(calls) == 2:
            raise error
        real(self)

    monkeypatch.setattr(PolicyGradient, "train", fails_later)
    options = ["--steps", "32", "--rollout-steps", "8", "--save-every", "16", "--sample-every", "0"]
    with pytest.raises(type(error)):
        train_module.main([*TRAIN, *options, "--run-dir", str(run.path)])
    told = " ".join(capsys.readouterr().out.split())
    assert "The training has ended with an error. Its last good checkpoint is step-000000000016." in told
    assert f"Continue with: heed train --run-dir '{run.path}' --resume" in told
    assert [point["steps"] for point in run.read_curve()][-1] == 32  # logged before the update, written and closed
    monkeypatch.setattr(PolicyGradient, "train", real)
    train_module.main([*TRAIN, *options, "--run-dir", str(run.path), "--resume"])
    assert run.latest_checkpoint() == run.checkpoint_path(32)
