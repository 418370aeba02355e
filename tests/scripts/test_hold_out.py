"""`heed train --hold-out`: the run keeps its phrases, resumes with them, and learns from no demonstration of one."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from heed.agents import load
from heed.envs.demonstrations.demonstrations import DemonstrationError, read_demonstrations
from heed.envs.hold_out import names_one_of
from heed.envs.make import make
from heed.scripts import demos
from heed.scripts import train as train_module
from heed.training import cloning
from heed.training.cloning import read_for
from heed.training.comparison.options import command_of
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder

LEVEL = "BabyAI-GoToLocalS6N4-v0"
HELD_OUT = ("purple key", "yellow ball", "red box")
PHRASES = [word for phrase in HELD_OUT for word in ("--hold-out", phrase)]
FEW = ["--env", LEVEL, "--n-envs", "4", "--save-every", "256", "--eval-episodes", "0", "--device", "cpu"]


def test_a_run_keeps_its_phrases_and_resumes_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def listening(*arguments: Any, **options: Any) -> Any:
        env: Any = make(*arguments, **options)
        step = env.step_wait

        def step_wait() -> Any:
            result = step()
            heard.extend(result[0]["instruction"])
            return result

        env.step_wait = step_wait
        return env

    monkeypatch.setattr(sys.modules["heed.envs.make"], "make", listening)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train_module.main([*FEW, *PHRASES, "--steps", "512", "--run-dir", str(whole)])
    assert len(set(heard)) > 5
    assert not any(names_one_of(HELD_OUT, words) for words in heard)
    config = json.loads((whole / "config.json").read_text())
    assert config["hold_out"] == list(HELD_OUT)
    assert TrainConfig.from_json(config).hold_out == HELD_OUT

    # The same run, as if it had been stopped half-way.
    shutil.copytree(whole, stopped)
    shutil.rmtree(RunFolder(stopped).latest_checkpoint())
    assert load(RunFolder(stopped).latest_checkpoint()).num_timesteps == 256
    train_module.main(["--run-dir", str(stopped), "--resume", "--hold-out", "yellow ball"])  # it is one already
    assert RunFolder(stopped).read_curve() == RunFolder(whole).read_curve()
    with pytest.raises(SystemExit):
        train_module.main(["--run-dir", str(stopped), "--resume", "--hold-out", "grey box"])
    assert "was begun with --hold-out" in capsys.readouterr().err


def test_demonstrations_of_what_is_held_out_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "demos.jsonl.gz"
    demos.main(["--env", LEVEL, "--episodes", "30", "--out", str(file)])
    every = read_demonstrations(file).episodes
    named = [episode for episode in every if names_one_of(HELD_OUT, episode.instruction)]
    assert 0 < len(named) < 30
    config = TrainConfig(env=LEVEL, demonstrations=file, hold_out=HELD_OUT)
    assert list(read_for(config)) == [episode for episode in every if episode not in named]
    assert list(read_for(TrainConfig(env=LEVEL, demonstrations=file))) == list(every)
    with pytest.raises(DemonstrationError, match=r"All demonstrations in .* name what is held out: go to"):
        read_for(TrainConfig(env=LEVEL, demonstrations=file, hold_out=("go to",)))


def test_dagger_plays_without_them_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class StoppedError(Exception):
        """Enough was seen."""

    def look(agent: Any, make_env: Any, *_: Any, **__: Any) -> None:
        env = make_env()
        for seed in range(60):
            assert not names_one_of(HELD_OUT, env.reset(seed=seed)[0]["instruction"])
        raise StoppedError

    monkeypatch.setattr(
        sys.modules["heed.agents.imitation.dagger"], "dagger", look
    )  # the package has a function of that name
    config = TrainConfig(env=LEVEL, dagger_rounds=1, hold_out=HELD_OUT).resolved()
    with pytest.raises(StoppedError):
        cloning.clone_into(None, [], config, RunFolder(tmp_path), Console())  # type: ignore[arg-type]


def test_the_command_of_such_a_run_gives_it_again() -> None:
    config = TrainConfig(env=LEVEL, hold_out=HELD_OUT)
    command = command_of(config.resolved().as_json(), seeds=[0])
    assert "--hold-out 'purple key' --hold-out 'yellow ball'" in command
    parsed = train_module._parse(shlex.split(command)[2:])
    assert parsed == config
