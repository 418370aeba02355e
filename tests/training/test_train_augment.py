"""`heed train --augment`: what it takes, what the run keeps of it, and what its evaluations have."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from heed.agents import load
from heed.agents.distributed.ranks import ALONE
from heed.envs import Augmented, CannotBeDone, TwoParts
from heed.envs.contract import action_texts_of
from heed.envs.demonstrations.demonstrations import read_demonstrations
from heed.envs.make import make_env
from heed.envs.wording.kinds import NAMES
from heed.envs.wrappers.cannot_be_done import CANNOT_BE_DONE
from heed.evaluation import Suite, axis, evaluate
from heed.evaluation.playing.episode import read_episodes
from heed.scripts import check_env as check_env_module
from heed.scripts import demos
from heed.scripts import evaluate as evaluate_module
from heed.scripts import train as train_module
from heed.scripts.train import make_training_env
from heed.training.cloning import read_for
from heed.training.comparison.options import command_of
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from heed.training.wrappers import augmentations_for, wrappers_of_run, wrapping
from tests.ledger import name_of

LEVEL = "BabyAI-GoToLocalS6N4-v0"
MIXTURE = f"{LEVEL}+BabyAI-PickupLoc-v0"


def test_names_are_joined_by_commas_or_given_several_times() -> None:
    for given in (("typos,paraphrase", "injected"), ("injected", "paraphrase, typos,typos")):
        assert TrainConfig(augment=given).augment == ("paraphrase", "typos", "injected")
    assert TrainConfig(augment=("typos", "all")).augment == ("all",)
    assert TrainConfig().augment == ()
    with pytest.raises(ConfigurationError, match="--augment cannot be 'parafrase': there are paraphrase, synonyms, "):
        TrainConfig(augment=("parafrase",))


def test_all_is_what_an_environment_has_a_use_for() -> None:
    assert augmentations_for(("all",), LEVEL) == NAMES
    any_words = ("paraphrase", "typos", "case", "politeness", "injected")
    assert augmentations_for(("all",), "CartPole-v1") == any_words
    # It names colors that BabyAI names too, and lists what cannot be done.
    ledger = augmentations_for(("all",), name_of("A"))
    assert ledger == ("paraphrase", "words", "typos", "case", "politeness", "renamed", "impossible", "injected")
    with pytest.raises(ConfigurationError, match=r"--augment longer is of no use in CartPole-v1: .* `give_two_parts`"):
        augmentations_for(("typos", "longer"), "CartPole-v1")
    with pytest.raises(ConfigurationError, match=r"--augment languages is of no use .* not of BabyAI's grammar"):
        augmentations_for(("languages",), "CartPole-v1")
    with pytest.raises(ConfigurationError, match=r"--augment impossible is of no use .*impossible_instructions"):
        augmentations_for(("impossible",), "CartPole-v1")


def test_the_wrappers_stand_in_their_order() -> None:
    config = TrainConfig(env=LEVEL, n_envs=1, augment=("all",), instruction_changes="2-5", sub_instruction_reward=0.1)
    venv: Any = make_training_env(config, ALONE)
    env, found = venv.envs[0], []
    while hasattr(env, "env"):
        found.append(type(env).__name__)
        env = env.env
    order = ["Augmented", "CannotBeDone", "SubInstructionRewards", "ChangingInstruction", "TwoParts"]
    assert [name for name in found if name in order] == order
    assert wrapping(TrainConfig(augment=("typos",)))["wrappers"][0].func is Augmented
    assert wrapping(TrainConfig(augment=("longer", "impossible")))["wrappers"] == (TwoParts, CannotBeDone)


def test_a_run_keeps_its_wordings_resumes_exactly_and_is_evaluated_plainly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    few = ["--env", MIXTURE, "--n-envs", "4", "--save-every", "64", "--rollout-steps", "16", "--device", "cpu"]
    words = ["--augment", "all", "--history", "1", "--max-steps", "20"]
    train_module.main([*few, *words, "--steps", "128", "--eval-episodes", "4", "--run-dir", str(whole)])
    told = " ".join(capsys.readouterr().out.split())
    assert f"Its instructions are augmented: {', '.join(NAMES)}." in told
    config = json.loads((whole / "config.json").read_text())
    assert (config["augment"], config["augmentations"]) == (["all"], list(NAMES))
    assert "--augment all" in command_of(config, seeds=[0])
    assert "augment" in (whole / "report.html").read_text()

    agent = load(RunFolder(whole).latest_checkpoint())
    assert agent.action_space.texts[-1] == CANNOT_BE_DONE  # type: ignore[attr-defined]
    # The plain environment, with the action and without what cannot be done.
    true = [one for one in read_episodes(whole / "episodes.csv") if one.axis == "true"]
    assert all(one.instruction == one.shown for one in true)
    assert all(isinstance(one.said_impossible, bool) for one in true)
    assert not any(one.success for one in true if one.said_impossible)
    assert "said no" in told

    # The same run, as if it had been stopped half-way.
    shutil.copytree(whole, stopped)
    shutil.rmtree(RunFolder(stopped).latest_checkpoint())
    train_module.main(["--run-dir", str(stopped), "--resume", "--eval-episodes", "0"])
    assert RunFolder(stopped).read_curve() == RunFolder(whole).read_curve()

    # An evaluation of impossible instructions tells both: said where it is true, and where it is not.
    evaluate_module.main([str(whole), "--axis", "impossible", "--episodes", "4", "--out", str(tmp_path / "out")])
    cells = {
        one["axis"]: one["policies"]["sampled"]
        for one in json.loads((tmp_path / "out" / "evaluation.json").read_text())["environments"][0]["axes"]
    }
    assert cells["impossible"]["said_impossible"]["value"] == cells["impossible"]["success"]["value"]
    assert 0 <= cells["true"]["said_impossible"]["value"] <= 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Told to do something impossible, it says so in" in page
    with (tmp_path / "out" / "axes.csv").open() as file:
        assert all(row["said_impossible"] for row in csv.DictReader(file))

    # It can be a policy for the check of an environment.
    check_env_module.main([MIXTURE, "--policy", str(whole), "--reward-episodes", "2"])


def test_an_evaluation_in_python_is_given_the_wrapper(tmp_path: Path) -> None:
    config = TrainConfig(env=LEVEL, n_envs=2, augment=("impossible",), rollout_steps=8, steps=16, device="cpu")
    assert wrappers_of_run({}) == wrappers_of_run({"augmentations": ["typos"]}) == ()
    wrappers = wrappers_of_run({"augmentations": ["impossible"]})
    assert action_texts_of(make_env(LEVEL, wrappers=wrappers)) == action_texts_of(CannotBeDone(make_env(LEVEL)))

    def says_no(observation: Any) -> str:
        return CANNOT_BE_DONE

    suite = Suite(name="two", environments=(config.env,), axes=(axis("true"), axis("impossible")), episodes=5)
    played = evaluate(says_no, suite, wrappers=wrappers, references=False).episodes
    by_axis = {name: [one for one in played if one.axis == name] for name in ("true", "impossible")}
    assert [one.success for one in by_axis["true"]] == [False] * 5
    assert [one.success for one in by_axis["impossible"]] == [True] * 5
    assert all(one.said_impossible for one in played)


def test_demonstrations_are_cloned_in_other_words(tmp_path: Path) -> None:
    out = tmp_path / "demos.jsonl"
    demos.main(["--env", LEVEL, "--episodes", "40", "--out", str(out)])
    plain = read_for(TrainConfig(env=LEVEL, demonstrations=out))
    worded = read_for(TrainConfig(env=LEVEL, demonstrations=out, augment=("all",)))
    again = read_for(TrainConfig(env=LEVEL, demonstrations=out, augment=("all",)))
    assert list(worded) == list(again)
    changed = [one.instruction != other.instruction for one, other in zip(plain, worded, strict=True)]
    assert 0.4 < sum(changed) / len(changed) < 0.95
    for one, other in zip(plain, worded, strict=True):
        assert (one.observations, one.actions, one.rewards) == (other.observations, other.actions, other.rewards)


@pytest.mark.parametrize("env_id", [name_of("A"), name_of("A", changing=True)])
def test_an_agent_with_the_action_records_demonstrations_of_the_plain_environment(tmp_path: Path, env_id: str) -> None:
    run, out = tmp_path / "run", tmp_path / "demos.jsonl"
    few = ["--env", env_id, "--n-envs", "2", "--rollout-steps", "8", "--device", "cpu", "--eval-episodes", "0"]
    few += ["--model", "heed-tiny"]  # which knows nothing of this world yet: the default does all of it at once
    train_module.main([*few, "--steps", "16", "--augment", "impossible", "--run-dir", str(run)])
    words = ["--env", env_id, "--expert", str(run), "--episodes", "60", "--keep-failures", "--out", str(out)]
    demos.main(words)
    recorded = read_demonstrations(out)
    assert recorded.action_texts == (action_texts_of(make_env(env_id)) or ())
    assert 0 < len(recorded.episodes) < 60  # in others it said that it cannot be done
    for episode in recorded.episodes:
        lists = episode.admissible or [recorded.action_texts] * (len(episode.actions) + 1)
        assert all(action < len(texts) for action, texts in zip(episode.actions, lists, strict=False))
        assert not any(CANNOT_BE_DONE in texts for texts in lists)


@pytest.mark.parametrize("more", [["--dagger-rounds", "1", "--dagger-episodes", "4"], []])
def test_a_clone_has_the_action_too(tmp_path: Path, more: list[str]) -> None:
    out, run = tmp_path / "demos.jsonl", tmp_path / "run"
    demos.main(["--env", LEVEL, "--episodes", "12", "--out", str(out)])
    few = ["--env", LEVEL, "--n-envs", "2", "--rollout-steps", "8", "--device", "cpu", "--eval-episodes", "0"]
    few += ["--demonstrations", str(out), "--clone-epochs", "1", "--steps", "16", "--augment", "all"]
    train_module.main([*few, *more, "--run-dir", str(run)])
    agent = load(RunFolder(run).latest_checkpoint())
    assert agent.action_space.texts[-1] == CANNOT_BE_DONE  # type: ignore[attr-defined]
