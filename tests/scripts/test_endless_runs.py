"""Commands come to their end where episodes do not, and say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heed.evaluation.playing import read_episodes
from heed.scripts import check_env, demos
from heed.scripts import train as train_module
from heed.training.tracking import samples
from tests.endless import ENDLESS

TRAIN = ["--n-envs", "2", "--rollout-steps", "8", "--steps", "32", "--device", "cpu", "--env", ENDLESS]


def words_of(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_training_and_its_evaluation_end_and_tell_what_did_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "MAX_STEPS", 6)
    run = tmp_path / "run"
    limit = ["--max-episode-steps", "9", "--eval-episodes", "2", "--sample-every", "16"]
    train_module.main([*TRAIN, *limit, "--run-dir", str(run)])
    told = words_of(capsys)
    assert told.count("No episode came to its end in the training") == 2
    assert f"12 episodes of {ENDLESS} had not ended after 9 steps, and count as failed (true sampled 2," in told
    assert {(one.length, one.finished, one.success) for one in read_episodes(run / "episodes.csv")} == {
        (9, False, False)
    }
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["no_episode_ended"]
    assert {one["episodes"] for one in evaluation["unfinished"]} == {2}
    page = (run / "report.html").read_text()
    assert "had not ended after 9 steps" in page
    assert "No episode came to its end in the training" in page
    assert "Unfinished: “walk to the end”, 9 steps" in page


def test_where_episodes_end_nothing_is_said_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    few = ["--agent", "q-learning", "--n-envs", "2", "--steps", "32", "--env", ENDLESS]
    train_module.main([*few, "--max-steps", "5", "--eval-episodes", "2", "--run-dir", str(run)])
    told = words_of(capsys)
    assert "No episode came to its end" not in told
    assert "had not ended" not in told
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert not {"unfinished", "no_episode_ended"} & set(evaluation)


def test_demonstrations_that_do_not_end_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "some.jsonl"), "--env", ENDLESS, "--episodes", "2", "--max-episode-steps", "4"]
    with pytest.raises(SystemExit):
        demos.main(out)
    assert "2 that did not end (not over after 4 steps)" in " ".join(capsys.readouterr().err.split())


def test_a_check_of_an_environment_says_that_its_episodes_do_not_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check_env.main([ENDLESS, "--max-episode-steps", "7"])
    told = words_of(capsys).replace("│ ", "")
    assert "episode went on for more than 7 steps" in told
