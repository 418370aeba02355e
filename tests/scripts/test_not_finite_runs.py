"""A run whose numbers are not finite ends in a sentence, with its last good checkpoint as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heed.agents import PPO
from heed.agents.persistence.checkpoint import verify_checkpoint
from heed.scripts import train as train_module
from heed.training.errors import STATUS

OPTIONS = ["--env", "BabyAI-GoToRedBallNoDists-v0", "--n-envs", "4", "--rollout-steps", "16", "--eval-episodes", "0"]


def train(folder: Path, *more: str) -> Any:
    with pytest.raises(SystemExit) as end:
        train_module.main([*OPTIONS, "--device", "cpu", "--run-dir", str(folder), *more])
    return end.value.code


def test_a_loss_that_is_nan_ends_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = PPO._loss

    def broken(self: Any, batch: Any) -> Any:
        value, measures = loss(self, batch)
        factor = float("nan") if self.num_timesteps > 128 else 1.0
        return value * factor, {**measures, "policy_gradient_loss": measures["policy_gradient_loss"] * factor}

    monkeypatch.setattr(PPO, "_loss", broken)
    assert train(tmp_path / "run", "--steps", "512", "--save-every", "64") == STATUS
    told = capsys.readouterr().err
    assert told.startswith("The policy gradient loss is NaN, although all weights are finite.")
    assert "after 192 steps and 8 updates. Its last good checkpoint is step-000000000128." in told
    assert f"train --run-dir {tmp_path / 'run'} --resume" in told
    saved = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in saved] == ["step-000000000064", "step-000000000128"]
    for path in saved:
        verify_checkpoint(path)
    # Resumed, it ends in the same way; without the fault it goes on.
    with pytest.raises(SystemExit):
        train_module.main(["--run-dir", str(tmp_path / "run"), "--resume"])
    monkeypatch.setattr(PPO, "_loss", loss)
    train_module.main(["--run-dir", str(tmp_path / "run"), "--resume", "--steps", "256"])
    assert (tmp_path / "run" / "checkpoints" / "step-000000000256").is_dir()


def test_the_last_update_is_not_saved_with_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No rollout follows it in which its scores would be found out."""
    update = PPO.train

    def broken(self: Any) -> None:
        update(self)
        if self.num_timesteps == 128:
            next(self.policy.parameters()).data.fill_(float("inf"))

    monkeypatch.setattr(PPO, "train", broken)
    assert train(tmp_path / "run", "--steps", "128", "--save-every", "64") == STATUS
    told = capsys.readouterr().err
    assert told.startswith("The weight network.model.")
    assert "Its last good checkpoint is step-000000000064." in told
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000000064"]


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_options_that_are_not_finite_are_refused(
    number: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", "--learning-rate", number) == STATUS
    assert f"--learning-rate is {number}, but must be finite" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
