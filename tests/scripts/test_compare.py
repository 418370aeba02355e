"""`heed compare`: runs that differ in their seed only are one group, and its figures are worked out by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from heed.evaluation.playing import EpisodesError
from heed.evaluation.report.data import VERSION
from heed.scripts import compare as compare_module
from heed.training.comparison.drawing import add_legend
from heed.training.comparison.groups import Run, grouped
from heed.training.comparison.numbers import numbers_of, summarised
from heed.training.comparison.options import command_of, given_options
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from heed.training.training_time import TrainingTime


def write_run(
    folder: Path,
    *,
    sampled: float = 0.9,
    steps: int = 2000,
    seconds: float | None = 10.0,
    episodes: int = 500,
    swapped: float | None = 0.4,
    rates: tuple[float, ...] = (0.2, 0.6, 0.8),
    hyperparameters: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write what `heed train` and `heed evaluate` leave in a run folder, as far as a comparison reads it."""
    config = TrainConfig(run_dir=folder, **options).resolved()
    run = RunFolder(folder)
    run.begin({**config.as_json(), "hyperparameters": {"gamma": 0.95, "seed": config.seed, **(hyperparameters or {})}})
    points = [steps * (number + 1) // len(rates) for number in range(len(rates))]
    curve = [{"steps": at, "rollout/success_rate": rate} for at, rate in zip(points, rates, strict=True)]
    run.curve.write_text("".join(json.dumps(point) + "\n" for point in curve))
    if seconds is not None:
        times = [{"steps": at, "seconds": seconds * at / steps} for at in points]
        run.times.write_text("".join(json.dumps(point) + "\n" for point in times))
    (run.checkpoint_path(steps)).mkdir(parents=True)
    (run.checkpoint_path(steps) / "manifest.json").write_text("{}")

    def cell(rate: float) -> dict[str, Any]:
        return {"success": {"value": rate, "ci95": [rate - 0.05, rate + 0.05]}}

    rates_of = {"true": {"sampled": sampled, "greedy": 0.8, "random": 0.25}, "blank": {"sampled": 0.3}}
    rates_of |= {} if swapped is None else {"swapped": {"sampled": swapped}}
    axes = [
        {"axis": axis, "policies": {name: cell(rate) for name, rate in policies.items()}}
        for axis, policies in rates_of.items()
    ]
    evaluation = {
        "version": VERSION,
        "episodes": episodes,
        "seed": 0,
        "trained_steps": steps,
        "environments": [{"env": config.env, "axes": axes}],
    }
    run.evaluation.write_text(json.dumps(evaluation))
    return folder


def run_compare(*arguments: Path | str) -> None:
    compare_module.main([str(argument) for argument in arguments])


def three_seeds_and_another(tmp_path: Path) -> list[Path]:
    """Return three runs of PPO, their seeds out of order, and one of A2C."""
    return [
        write_run(tmp_path / "c", seed=2, sampled=0.9, steps=1000, seconds=4.0),
        write_run(tmp_path / "a", seed=0, sampled=0.8, steps=3000, seconds=10.0),
        write_run(tmp_path / "other", agent="a2c", sampled=0.5),
        write_run(tmp_path / "b", seed=1, sampled=1.0, steps=2000, seconds=7.0),
    ]


def test_runs_that_differ_in_their_seed_only_are_one_group(tmp_path: Path) -> None:
    folders = three_seeds_and_another(tmp_path)
    groups = grouped([Run.read(folder) for folder in folders])
    assert [group.label for group in groups] == ["ppo", "a2c"]
    assert [[run.seed for run in group.runs] for group in groups] == [[0, 1, 2], [0]]
    ppo = numbers_of(groups)["groups"][0]
    assert ppo["mean"]["sampled"] == pytest.approx(0.9)
    assert ppo["mean"]["steps"] == pytest.approx(2000)
    assert ppo["mean"]["seconds"] == pytest.approx(7)
    assert [run["sampled"] for run in ppo["runs"]] == [0.8, 1.0, 0.9]
    assert ppo["runs"][0]["ci95"]["greedy"] == [pytest.approx(0.75), pytest.approx(0.85)]


def test_options_and_hyperparameters_keep_runs_apart_and_name_them(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "plain"),
        write_run(tmp_path / "history", history=4),
        write_run(tmp_path / "level", env="BabyAI-PickupLoc-v0"),
        write_run(tmp_path / "saved", seed=1, save_every=77, keep_checkpoints=9, eval_episodes=0),
    ]
    groups = grouped([Run.read(folder) for folder in folders])
    assert [group.label for group in groups] == [
        "BabyAI-GoToLocal-v0, ppo",
        "BabyAI-GoToLocal-v0, ppo, history 4",
        "BabyAI-PickupLoc-v0, ppo",
    ]
    assert [run.folder.name for run in groups[0].runs] == ["plain", "saved"]
    other = write_run(tmp_path / "version", seed=1, hyperparameters={"gamma": 0.99})
    labels = [group.label for group in grouped([Run.read(folders[0]), Run.read(other)])]
    assert labels == ["ppo, gamma 0.95", "ppo, gamma 0.99"]


def test_the_same_number_written_otherwise_makes_no_group_of_its_own(tmp_path: Path) -> None:
    given = [("gae_lambda=1", "vf_coef=0.5"), ("vf_coef=5e-1", "gae_lambda=1.0"), ("gae_lambda=0.9", "vf_coef=0.5")]
    folders = []
    for seed, named in enumerate(given):
        own = {name: float(value) for name, value in (text.split("=") for text in named)}
        own["gae_lambda"] = 1 if seed == 0 else own["gae_lambda"]
        folders.append(
            write_run(tmp_path / str(seed), seed=seed, set=named, env_kwargs=("size=6.0",), hyperparameters=own)
        )
    groups = grouped([Run.read(folder) for folder in folders])
    assert [[run.seed for run in group.runs] for group in groups] == [[0, 1], [2]]
    assert [group.label for group in groups] == ["ppo, gae_lambda=1, vf_coef=0.5", "ppo, gae_lambda=0.9, vf_coef=0.5"]


def test_a_run_of_an_earlier_version_lacks_options_and_times(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", seconds=None)
    config = json.loads((old / "config.json").read_text())
    del config["history"]
    (old / "config.json").write_text(json.dumps(config))
    groups = grouped([Run.read(old), Run.read(write_run(tmp_path / "new", seed=1))])
    assert len(groups) == 1
    numbers = numbers_of(groups)["groups"][0]
    assert numbers["mean"]["seconds"] is None
    assert numbers["over_seconds"] is None
    assert numbers["over_steps"] is not None


def test_a_curve_is_worked_out_by_hand() -> None:
    early, late = [(10.0, 0.4), (30.0, 0.8)], [(20.0, 0.2), (40.0, 0.4)]
    curve = summarised([early, late])
    assert curve is not None
    # From 20, where the later one begins, to 40, where it ends; the earlier one stays at 0.8 from 30 on.
    assert (curve["x"][0], curve["x"][-1]) == (20, 40)
    assert (curve["lowest"][0], curve["highest"][0]) == (0.2, 0.6)
    assert curve["mean"][0] == pytest.approx(0.4)
    assert (curve["lowest"][-1], curve["highest"][-1]) == (0.4, 0.8)
    assert curve["mean"][-1] == pytest.approx(0.6)
    assert summarised([early, []]) is None
    assert summarised([]) is None


def test_the_command_is_the_one_that_was_given() -> None:
    def command(**options: Any) -> str:
        return command_of(TrainConfig(**options).resolved().as_json(), seeds=[3])

    assert command() == "heed train --env BabyAI-GoToLocal-v0 --seed 3"
    assert command(seed=3, run_dir=Path("x"), save_every=5) == "heed train --env BabyAI-GoToLocal-v0 --seed 3"
    assert command(agent="dqn", compiled=True, steps=500, model="my models/m") == (
        "heed train --env BabyAI-GoToLocal-v0 --agent dqn --steps 500 --model 'my models/m' --compiled --seed 3"
    )
    # What follows from another option is not given.
    config = TrainConfig(history=4, agent="dqn").resolved()
    assert config.max_prompt_tokens != TrainConfig().resolved().max_prompt_tokens
    assert given_options(config.as_json()) == {"agent": "dqn", "history": 4}
    assert command_of(config.as_json(), seeds=[0, 1]).startswith("for seed in 0 1; do heed train --env ")


def test_the_files_hold_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders, out = three_seeds_and_another(tmp_path), tmp_path / "out"
    run_compare(*folders, "--out", out)
    page = (out / "comparison.md").read_text()
    assert "| **ppo** | mean | **0.900** | **0.800** | **0.250** | **0.300** | **0.400** | **2000** | **7** |" in page
    assert "|  | 1 | 1.000 | 0.800 | 0.250 | 0.300 | 0.400 | 2000 | 7 |" in page
    assert "| **a2c** | 0 | 0.500 |" in page
    assert "for seed in 0 1 2; do heed train --env BabyAI-GoToLocal-v0 --seed $seed; done" in page
    assert "--episodes 500 --out" in page
    numbers = json.loads((out / "comparison.json").read_text())
    assert numbers["episodes"] == 500
    picture = (out / "curves.png").read_bytes()
    assert len(picture) < 200_000
    width, height = struct.unpack(">II", picture[16:24])
    assert (width, height) == (960, 340)  # over steps, and over seconds
    assert "curves.png" in capsys.readouterr().out.replace("\n", "")


def test_what_a_run_does_not_know_is_a_dash(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_compare(write_run(tmp_path / "a", seconds=None, swapped=None, rates=()), "--out", out)
    assert "| **ppo** | 0 | 0.900 | 0.800 | 0.250 | 0.300 | - | 2000 | - |" in (out / "comparison.md").read_text()
    assert (out / "curves.png").is_file()


def test_of_a_mixture_every_level_has_its_means(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), env="A-v0+B-v0", seed=seed) for seed in range(2)]
    for folder, rate in zip(folders, (0.5, 0.7), strict=True):
        content = json.loads(RunFolder(folder).evaluation.read_text())
        figures = {"sampled": rate, "random": 0.2}
        cells = {
            name: {"episodes": 240, "success": {"value": value, "ci95": [0.1, 0.9]}} for name, value in figures.items()
        }
        content["environments"][0]["levels"] = [{"level": "A-v0", "axes": {"true": cells}}]
        RunFolder(folder).evaluation.write_text(json.dumps(content))
    run_compare(*folders, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "| ppo | A-v0 | 240 | 0.600 | - | 0.200 | - | - |" in page


def test_runs_that_need_it_are_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[str] = []

    def evaluate(config: Any) -> None:
        evaluated.append(config.run_dir.name)
        path = RunFolder(config.run_dir).evaluation
        content = json.loads(path.read_text()) if path.is_file() else json.loads(whole)
        path.write_text(json.dumps({**content, "episodes": config.episodes, "trained_steps": 2000}))

    monkeypatch.setattr("heed.scripts.evaluate.evaluate_run", evaluate)
    done, few, never, went_on = (write_run(tmp_path / name, seed=n) for n, name in enumerate(("a", "b", "c", "d")))
    whole = RunFolder(done).evaluation.read_text()
    RunFolder(few).evaluation.write_text(whole.replace('"episodes": 500', '"episodes": 200'))
    RunFolder(never).evaluation.unlink()
    RunFolder(went_on).evaluation.write_text(whole.replace('"trained_steps": 2000', '"trained_steps": 1000'))
    run_compare(done, few, never, went_on, "--episodes", "500", "--out", tmp_path / "out")
    assert evaluated == ["b", "c", "d"]


def test_an_evaluation_of_another_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = RunFolder(write_run(tmp_path / "old")).evaluation
    path.write_text(path.read_text().replace(f'"version": {VERSION}', '"version": 0'))
    with pytest.raises(EpisodesError, match=r"is of version 0 of the format.*evaluate the run again"):
        Run.read(tmp_path / "old")
    with pytest.raises(SystemExit):
        run_compare(tmp_path / "old", "--out", tmp_path / "out")
    assert "was evaluated by another version of Heed: give --episodes" in capsys.readouterr().err


def test_what_cannot_be_compared_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_run(tmp_path / "one")
    twin = write_run(tmp_path / "twin")
    few = write_run(tmp_path / "few", seed=1, episodes=200)
    never = write_run(tmp_path / "never", seed=2)
    RunFolder(never).evaluation.unlink()
    out = tmp_path / "out"
    for arguments, sentence in (
        ([], "Give the folders of runs"),
        ([one, twin], "are the same training with the same seed"),
        ([one, few], "evaluated on different episodes (200 episodes of seed 0, 500 episodes of seed 0)"),
        ([one, never], "is not evaluated yet: give --episodes 500"),
        ([tmp_path], "holds no run"),
        ([one, "--episodes", "0"], "--episodes is 0, but must be at least 1"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_compare(*arguments, "--out", out)
        assert stop.value.code == 2
        assert sentence in " ".join(capsys.readouterr().err.split())
        assert not out.exists()


def test_seconds_are_counted_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    run = RunFolder(tmp_path)
    first = TrainingTime(run, steps=0)
    for steps in (50, 100, 150):
        now += 2.0
        first.note(steps)
    now += 1000.0  # the training was killed, and goes on from its checkpoint at 100 steps
    second = TrainingTime(run, steps=100)
    now += 3.0
    second.note(150)
    assert run.read_times() == [
        {"steps": 50, "seconds": 2.0},
        {"steps": 100, "seconds": 4.0},
        {"steps": 150, "seconds": 7.0},
    ]


@pytest.mark.parametrize("label", ["ppo", "dqn, hindsight 0, steps 16000, exploration start 0.1", "word " * 60])
def test_a_legend_of_long_names_stays_within_its_picture(label: str) -> None:
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number in range(5):
        axes.plot([0, 1], [0, number], label=f"{label} {number}")
    add_legend(figure)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.y0 >= 0
    assert axes.bbox.height > 0.4 * 3.4 * figure.dpi


def test_how_and_where_a_training_runs_makes_no_group_of_its_own(tmp_path: Path) -> None:
    changed: list[dict[str, Any]] = [
        {"processes": 4},
        {"device": "cpu"},
        {"step_timeout": 5.0, "reset_timeout": None, "max_lost": 3},
        {"eval_episodes": 7, "max_episode_steps": 100},
        {"save_every": 77, "keep_checkpoints": 5},
        {"csv": True, "sample_every": 0},
        {"micro_batch_tokens": 512, "activation_checkpointing": True},
    ]
    runs = [
        Run.read(
            write_run(
                tmp_path / str(seed),
                seed=seed,
                hyperparameters={"micro_batch_tokens": options.get("micro_batch_tokens")},
                **options,
            )
        )
        for seed, options in enumerate([{}, *changed])
    ]
    assert len(grouped(runs)) == 1
    longer = Run.read(write_run(tmp_path / "longer", seed=99, history=2))
    stopping = Run.read(write_run(tmp_path / "stopping", seed=98, stop_at_success=0.5))
    assert len(grouped([*runs, longer, stopping])) == 3
