"""`heed train --curriculum` and its like: what is trained on, what resumes, and what an evaluation keeps of it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from heed.agents.distributed.ranks import ALONE
from heed.envs import ChangingInstruction, Curriculum, CurriculumVecEnv, SubInstructionRewards
from heed.scripts import train as train_module
from heed.scripts.train import make_training_env
from heed.training.comparison.options import command_of
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from heed.training.wrappers import wrapping

MIXTURE = "BabyAI-GoToLocalS6N4-v0+BabyAI-PickupLoc-v0"
OPTIONS: dict[str, Any] = {
    "max_steps": 12,
    "curriculum": "progress",
    "sub_instruction_reward": 0.125,
    "instruction_changes": "2-5",
}
WORDS = ["--max-steps", "12", "--curriculum", "progress", "--sub-instruction-reward", "0.125"]
WORDS += ["--instruction-changes", "2-5"]


def test_the_options_make_the_wrappers() -> None:
    given = wrapping(TrainConfig(env=MIXTURE, **OPTIONS))
    assert given["max_steps"] == 12
    assert given["curriculum"] == Curriculum(scheme="progress")
    env: Any = make_training_env(TrainConfig(env=MIXTURE, n_envs=1, **OPTIONS), ALONE)
    assert isinstance(env, CurriculumVecEnv)
    around = env.venv.envs[0].env.env  # type: ignore[attr-defined]  # within Monitor and Detached
    assert isinstance(around, SubInstructionRewards)
    assert around.reward == 0.125
    assert env.env_is_wrapped(ChangingInstruction) == [True]
    assert all("<StepLimit<" in str(level) for level in env.get_attr("envs")[0])
    assert wrapping(TrainConfig()) == {"max_steps": None, "curriculum": None, "wrappers": ()}


def test_a_run_keeps_its_options_resumes_exactly_and_is_evaluated_in_the_plain_environment(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    few = ["--env", MIXTURE, "--n-envs", "4", "--save-every", "64", "--rollout-steps", "16", "--device", "cpu"]
    train_module.main([*few, *WORDS, "--steps", "128", "--eval-episodes", "2", "--run-dir", str(whole)])
    config = json.loads((whole / "config.json").read_text())
    assert {name: config[name] for name in OPTIONS} == OPTIONS
    command = command_of(config, seeds=[0])
    assert all(" ".join(WORDS[place : place + 2]) in command for place in range(0, len(WORDS), 2))
    *_, point = RunFolder(whole).read_curve()
    weights = [point[f"curriculum/{level}/sampling_weight"] for level in MIXTURE.split("+")]
    assert sum(weights) == pytest.approx(1)

    # Evaluated as it was told: with the limit, and without what only a training has.
    with (whole / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    true = [row for row in rows if row["axis"] == "true"]
    assert len(true) > 3
    assert max(int(row["length"]) for row in rows) <= 12
    assert all(row["instruction"] == row["shown"] for row in true)

    # The same run, as if it had been stopped half-way.
    shutil.copytree(whole, stopped)
    shutil.rmtree(RunFolder(stopped).latest_checkpoint())
    train_module.main(["--run-dir", str(stopped), "--resume", "--eval-episodes", "0"])
    assert RunFolder(stopped).read_curve() == RunFolder(whole).read_curve()
