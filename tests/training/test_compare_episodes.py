"""`heed compare` of runs that kept their episodes: differences pair by pair, profiles, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heed.evaluation.playing import Episode, Evaluation, write_episodes
from heed.evaluation.report.numbers import numbers_of as evaluation_numbers
from heed.scripts import compare as compare_module
from heed.training.comparison.groups import Run, grouped
from heed.training.comparison.numbers import numbers_of
from heed.training.run_folder import RunFolder
from tests.scripts.test_compare import write_run

LEVEL = "BabyAI-GoToLocal-v0"
CELLS = (("true", "sampled"), ("true", "greedy"), ("true", "expert"), ("blank", "sampled"))


def write_evaluated(folder: Path, outcomes: str, *, seed: int = 0, agent: str = "ppo", blank: str = "") -> Path:
    """Write a run whose sampled episodes, by the true instruction, ended as the letters say: + or -."""
    write_run(folder, seed=seed, agent=agent)
    ends = {"sampled": outcomes, "greedy": outcomes, "expert": "+" * len(outcomes)}
    episodes = [
        Episode(
            env=LEVEL,
            axis=axis,
            policy=policy,
            seed=number,
            instruction="go to the red ball",
            shown="go to the red ball",
            success=end == "+",
            shown_success=None,
            episode_return=0.5 * (end == "+"),
            length=4,
            activity=0.5,
        )
        for axis, policy in CELLS
        for number, end in enumerate(ends[policy] if axis == "true" else blank or "-" * len(outcomes))
    ]
    run = RunFolder(folder)
    write_episodes(run.episodes, episodes)
    evaluation = Evaluation(suite="instructions", seed=0, episodes=tuple(episodes), missing=())
    run.evaluation.write_text(json.dumps(evaluation_numbers(evaluation, command="", trained_steps=2000)))
    return folder


def test_differences_are_of_the_same_episodes(tmp_path: Path) -> None:
    folders = [
        write_evaluated(tmp_path / "a0", "+++++-----"),
        write_evaluated(tmp_path / "a1", "++++++----", seed=1),
        write_evaluated(tmp_path / "b0", "++++++++--", agent="a2c"),
        write_evaluated(tmp_path / "b1", "+++++++---", agent="a2c", seed=1),
    ]
    numbers = numbers_of(grouped([Run.read(folder) for folder in folders]))
    ppo, a2c = numbers["groups"]
    assert (ppo["mean"]["sampled"], a2c["mean"]["sampled"]) == (pytest.approx(0.55), pytest.approx(0.75))
    assert ppo["axes"]["true"]["value"] == pytest.approx(0.55)
    assert a2c["following"]["value"] == pytest.approx(0.75)  # of an expert who always succeeds, and nothing when blank
    assert a2c["interquartile_mean"]["value"] == pytest.approx(0.75)
    (true, blank) = numbers["differences"]
    assert (true["one"], true["other"], true["axis"]) == ("a2c", "ppo", "true")
    assert true["difference"]["value"] == pytest.approx(0.2)
    low, high = true["difference"]["ci95"]
    assert low < 0.2 < high
    # Of the four pairs of runs on ten episodes, a2c is better on 3, 2, 2 and 1 and nowhere worse; ties count half.
    assert true["better"]["value"] == pytest.approx(0.5 + 0.5 * (3 + 2 + 2 + 1) / 40)
    assert blank["difference"]["value"] == 0
    shares = {group["label"]: group["share"][0] for group in numbers["profile"]["groups"]}
    assert shares == {"ppo": pytest.approx(0.55), "a2c": pytest.approx(0.75)}  # with a return above 0


def test_the_files_tell_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folders = [write_evaluated(tmp_path / "a", "+-+-"), write_evaluated(tmp_path / "b", "++++", agent="a2c")]
    compare_module.main([*map(str, folders), "--out", str(out)])
    page = (out / "comparison.md").read_text()
    assert "| a2c | true | +0.500 (" in page
    assert "| axis | ppo | a2c |" in page
    assert "| true | 0.500 (" in page
    assert "| *following score* | 0.500 (" in page
    assert (out / "profile.png").is_file()
    assert "a2c" in (out / "comparison.html").read_text()


def test_groups_may_be_named(tmp_path: Path) -> None:
    folders = [write_evaluated(tmp_path / name, "+-", seed=seed) for seed, name in enumerate(("a", "b"))]
    names = {folders[0]: "with", folders[1]: "without"}
    groups = grouped([Run.read(folder) for folder in folders], names)
    assert [(group.label, len(group.runs)) for group in groups] == [("with", 1), ("without", 1)]


def test_runs_without_their_episodes_have_means_only(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "old"), write_evaluated(tmp_path / "new", "++--", agent="a2c")]
    for folder in folders:  # on as many episodes
        path = RunFolder(folder).evaluation
        path.write_text(path.read_text().replace('"episodes": 500', '"episodes": 4'))
    numbers = numbers_of(grouped([Run.read(folder) for folder in folders]))
    assert numbers["differences"] == []
    assert numbers["profile"] is None
    assert [group["mean"]["sampled"] for group in numbers["groups"]] == [0.9, 0.5]
    assert "axes" not in numbers["groups"][0]


def test_a_damaged_run_is_missing_and_the_others_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, worse = (write_evaluated(tmp_path / name, "+-", seed=n) for n, name in enumerate(("a", "b", "c")))
    RunFolder(bad).config.write_text("{")
    RunFolder(worse).episodes.write_text("nonsense\n1\n")
    out = tmp_path / "out"
    compare_module.main([str(good), str(bad), str(worse), "--out", str(out)])
    told = " ".join(capsys.readouterr().out.split())
    numbers = json.loads((out / "comparison.json").read_text())
    assert [Path(one["run"]).name for one in numbers["missing"]] == ["b", "c"]
    assert len(numbers["groups"][0]["runs"]) == 1
    for text in (told, (out / "comparison.md").read_text(), (out / "comparison.html").read_text()):
        assert "config.json" in text
        assert "holds no episodes of an evaluation" in text
