"""How the commands read their options: panels of the help, YAML files, name=value, and closed pipes."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heed.agents import ALGORITHMS
from heed.scripts import check_env, demos, export, memory, train
from heed.scripts.check_agent import CheckAgentConfig
from heed.scripts.compare import CompareConfig, compare
from heed.scripts.evaluate import EvaluateConfig
from heed.scripts.evaluate import main as evaluate
from heed.training.ablation.plan import Plan
from heed.training.command_line.constructor_defaults import constructor_defaults
from heed.training.command_line.named_values import as_texts, environment_arguments, named_values
from heed.training.command_line.panels import CONSTRUCTOR_OPTIONS, FIRST, shown_defaults
from heed.training.command_line.parsing import parse
from heed.training.comparison.groups import Run, grouped
from heed.training.errors import ConfigurationError
from heed.training.option_groups import POLICY_GRADIENTS
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder

LEVEL = "BabyAI-GoToObjS4-v0"


def help_of(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, columns: int = 100) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        train.main([*arguments, "--help"])
    told: str = capsys.readouterr().out
    return told


@pytest.mark.parametrize("columns", [80, 120])
def test_the_help_has_panels_within_the_width_and_no_default_twice(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    told = help_of(monkeypatch=monkeypatch, capsys=capsys, columns=columns)
    titles = re.findall(r"^[ ╭─]*([A-Z][A-Za-z ]*?) options[ ─╮]*$", told, re.MULTILINE)
    assert titles[0] == "First"
    assert titles[1:] == [
        *("Run", "Environment", "Language model", "Adapter", "Policy gradient", "Minibatch", "DQN", "Exploration"),
        "Tracking",
    ]
    assert max(map(len, told.splitlines()[4:])) <= columns
    first = told.partition("Run options")[0]
    options = re.findall(r"^[│ ] {1,2}(--[a-z][a-z-]*)", first, re.MULTILINE)
    assert options == ["--config", *(f"--{name.replace('_', '-')}" for name in FIRST)]
    words = " ".join(told.replace("│", " ").split())
    assert "(default: None)" not in words
    entries = re.split(r" --(?=[a-z-]+(?: [A-Z{]|, --no-))", words)
    assert [entry for entry in entries if entry.count("default:") > 1] == []


def test_the_help_of_an_agent_shows_its_own_options_and_defaults(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    told = " ".join(help_of("--agent", "dqn", monkeypatch=monkeypatch, capsys=capsys).replace("│", " ").split())
    assert re.search(r"--steps INT Environment steps[^(]*\(default: 48000\)", told)
    assert re.search(r"--batch-size INT [^(]*\(default: 64\)", told)
    assert "--stop-at-success FLOAT Stop early" in told
    assert "(default: never)" in told
    assert "(default: runs/BabyAI-GoToLocal-v0-dqn-seed0)" in told
    assert "--rollout-steps" not in told
    assert "--dueling" in told


def test_the_defaults_that_the_help_shows_are_those_of_the_agents() -> None:
    arguments = {"rollout_steps": "n_steps", "epochs": "n_epochs"}
    count = 0
    for agent, algorithm in ALGORITHMS.items():
        shown = shown_defaults(TrainConfig, {"agent": agent})
        own = inspect.signature(algorithm.agent_class).parameters
        for option in CONSTRUCTOR_OPTIONS:
            default = getattr(own.get(arguments.get(option, option)), "default", None)
            if option == "rollout_steps" and agent not in POLICY_GRADIENTS:  # dqn's n_steps are of its returns
                default = None
            if callable(default):
                default = f"{default(1.0)}, falling to {default(0.0):.1g}"
            assert shown.get(option) == (None if default is None else str(default)), (option, agent)
            count += default is not None
    assert count == 29


def test_a_constructors_defaults_are_read_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = "self, a, b=2, *, c=Cosine(0.1, 0.5), d=None, e='x', f, g=len"
    source = f"raise SystemExit\nclass Mine:\n    def __init__({arguments}):\n        pass\n"
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert constructor_defaults("mine:Mine") == {"b": "2", "c": "0.1, rising to 0.5", "e": "x"}
    assert constructor_defaults("mine:Other") == constructor_defaults("none_such:Mine") == {}


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["nothing"]])
def test_a_closed_pipe_ends_a_command_quietly(words: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read(); from heed.scripts.cli import main; main()", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before it has begun to write
    process.stdin.close()
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == (2 if words == ["nothing"] else 141)
    assert "Error" not in told


def test_a_file_gives_options_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "env: BabyAI-GoToRedBall-v0\nsteps: 1e3\nlearning-rate: 1e-4\nhold_out: [red ball, blue key]\n"
        "set: {gae_lambda: 0.9, value_hidden: 8}\nactivation_checkpointing: true\nstep_timeout: null\n"
    )
    config = parse(TrainConfig, ["--config", str(file)], command="heed train")
    assert (config.env, config.steps, config.learning_rate) == ("BabyAI-GoToRedBall-v0", 1000, 1e-4)
    assert config.hold_out == ("red ball", "blue key")
    assert config.set == ("gae_lambda=0.9", "value_hidden=8")
    assert config.activation_checkpointing
    assert config.step_timeout is None
    words = ["--steps", "7", f"--config={file}", "--no-activation-checkpointing", "--hold-out", "grey box"]
    config = parse(TrainConfig, [*words, "--set", "gae_lambda=0.8"], command="heed train")
    assert (config.steps, config.activation_checkpointing, config.hold_out) == (7, False, ("grey box",))
    assert config.set == ("gae_lambda=0.8", "value_hidden=8")


def test_a_file_serves_every_command_also_for_what_has_no_name(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("run-dir: runs/a\nepisodes: 7\nbaseline: [a.py:one, b.py:two]\nreferences: false\n")
    expected = EvaluateConfig(
        run_dir=Path("runs/a"), episodes=7, baseline=("a.py:one", "b.py:two"), references=False, viewed=1
    )
    assert parse(EvaluateConfig, ["--config", str(file), "--viewed", "1"], command="heed evaluate") == expected
    assert parse(EvaluateConfig, ["runs/b", "--config", str(file)], command="heed evaluate").run_dir == Path("runs/b")
    file.write_text("runs: [a, b]\nout: c\n")
    compared = parse(CompareConfig, ["--config", str(file)], command="heed compare")
    assert compared == CompareConfig(runs=(Path("a"), Path("b")), out=Path("c"))
    file.write_text("agent: dqn\nprobes: [memory]\njson: true\n")
    checked = parse(CheckAgentConfig, ["--config", str(file)], command="heed check-agent")
    assert (checked.agent, checked.probes, checked.json) == ("dqn", ("memory",), True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("step: 5", r"has no such thing as 'step'. Did you mean steps\?"),
        ("steps: many", "steps cannot be 'many'"),
        ("agent: pppo", "agent cannot be 'pppo'"),
        ("[1, 2]", "must hold options and their values, but holds list"),
        ("a: [", "is no YAML"),
        ("set: {gae_lamda: 1}", "Did you mean gae_lambda"),
    ],
)
def test_what_a_file_cannot_say_is_told(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence):
        parse(TrainConfig, ["--config", str(file)], command="heed train")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config"], "needs the path"),
        (["--config", "--steps"], "needs the path"),
        (["--config", "no/such.yaml"], "no/such.yaml cannot be read"),
        (["--config", "a.yaml", "--config", "b.yaml"], "given twice"),
    ],
)
def test_a_file_that_is_not_there_is_told(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        parse(TrainConfig, words, command="heed train")


@pytest.mark.parametrize(
    "value",
    [0.9, 1e-5, 5, True, None, "mean", "1e-3", "true", "null", "2020-01-01", "a b", "a: b", "é", "", [1, [2.5, "x"]]],
)
def test_values_come_back_from_their_texts(value: Any) -> None:
    values = {"name": value, "other": {"nested": value}}
    assert named_values("--set", as_texts(values)) == values
    hash(tuple(environment_arguments(as_texts(values)).values()))  # as caches of instructions want it


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"set": ("gae_lambda",)}, "must be name=value"),
        ({"set": ("gae_lambda=[",)}, "is no YAML"),
        ({"set": ("gae_lamda=1",)}, "neither ppo nor its policy has such an argument. Did you mean gae_lambda"),
        ({"set": ("gae_lambda=high",)}, "must be a number, but is 'high'"),
        ({"set": ("gae_lambda=.nan",)}, "must be a number, but is nan"),
        ({"set": ("value_hidden=8.5",)}, "must be a whole number, but is 8.5"),
        ({"set": ("normalize_advantage=1",)}, "must be true or false"),
        ({"set": ("n_steps=8",)}, "--rollout-steps"),
        ({"set": ("n_epochs=8",)}, "--epochs"),
        ({"set": ("model=x",)}, "--model"),
        ({"set": ("learning_rates=x",)}, "--head-learning-rate"),
        ({"set": ("verbose=1",)}, "such an argument"),
        ({"set": ("optimizer_class=Adaam",)}, "torch.optim has no optimizer 'Adaam'"),
        ({"set": ("double=true",)}, "neither ppo"),
        ({"agent": "q-learning", "set": ("temperature=2",)}, "neither q-learning"),
        ({"agent": "dqn", "set": ("exploration=1",)}, "--exploration"),
        ({"env_kwargs": ("size",)}, "--env-kwargs is 'size', but must be name=value"),
    ],
)
def test_what_cannot_be_set_is_refused_at_once(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        TrainConfig(**options)


def test_what_is_set_reaches_agent_policy_and_estimate(tmp_path: Path, capsys: Any) -> None:
    from heed.training.agent_arguments import agent_arguments

    given = agent_arguments(TrainConfig(set=("gae_lambda=0.5", "temperature=2", "optimizer_class=SGD")).resolved())
    assert given["gae_lambda"] == 0.5
    assert given["policy_kwargs"]["temperature"] == 2
    assert given["policy_kwargs"]["optimizer_class"].__name__ == "SGD"
    given = agent_arguments(TrainConfig(agent="dqn", set=("n_steps=3", "exploration_fraction=0.1")).resolved())
    assert given["n_steps"] == 3
    assert given["exploration"].schedule.fraction == 0.1
    sizes = []
    for more in ([], ["--set", "value_hidden=4096"]):
        memory.main(["--env", LEVEL, "--n-envs", "2", "--device", "cpu", "--no-smaller", *more])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "heads" in line]
        sizes.append(float(re.findall(r"[\d.]+", line)[0]))
    assert sizes[1] > 10 * sizes[0]


def test_arguments_of_an_environment_are_checked_before_anything_is_made(tmp_path: Path, capsys: Any) -> None:
    run_dir = tmp_path / "run"
    cases = {
        "room=5": "has no argument 'room'. Did you mean room_size?",
        "room_size=1": "cannot be made with room_size=1: AssertionError",
        "max_steps=5": "Heed has options for it",
    }
    for text, sentence in cases.items():
        for main, words in (
            (train.main, ["--env", LEVEL, "--run-dir", str(run_dir)]),
            (demos.main, ["--env", LEVEL, "--out", str(tmp_path / "demos.jsonl")]),
            (check_env.main, [LEVEL]),
            (memory.main, ["--env", LEVEL]),
        ):
            with pytest.raises(SystemExit):
                main([*words, "--env-kwargs", text])
            assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_arguments_of_an_environment_reach_demonstrations_and_checks(tmp_path: Path, capsys: Any) -> None:
    from heed.envs.demonstrations.demonstrations import read_demonstrations

    shapes = {}
    for text in ("room_size=4", "room_size=20"):
        out = tmp_path / f"{text}.jsonl"
        demos.main(["--env", LEVEL, "--out", str(out), "--episodes", "8", "--env-kwargs", text])
        shapes[text] = sum(map(len, read_demonstrations(out).episodes))
    assert shapes["room_size=20"] > 2 * shapes["room_size=4"]
    with pytest.raises(SystemExit):  # too few steps to leave the room, and the check says so
        check_env.main([LEVEL, "--env-kwargs", "room_size=20", "--max-episode-steps", "2"])


def test_everything_together_trains_resumes_evaluates_and_is_compared(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        f"env: {LEVEL}\nn-envs: 2\nsteps: 64\neval-episodes: 1\nrollout-steps: 16\ndevice: cpu\nlearning-rate: 1e-3\n"
        "max-steps: 16\n"
    )
    named = ["--set", "gae_lambda=0.5", "--env-kwargs", "room_size=6"]
    unseen, briefly = ["--eval-episodes", "0"], ["--episodes", "1", "--viewed", "0", "--no-references"]
    whole, other, stopped = tmp_path / "whole", tmp_path / "other", tmp_path / "stopped"
    train.main(["--config", str(file), "--run-dir", str(whole), *named])
    # The configuration of the one is a file for the other.
    train.main(["--config", str(whole / "config.json"), "--run-dir", str(other), "--seed", "1", *unseen])
    evaluate([str(other), *briefly])
    train.main(["--config", str(file), "--run-dir", str(stopped), *named, "--steps", "32", "--processes", "2", *unseen])
    train.main(["--config", str(file), "--run-dir", str(stopped), "--resume", *unseen])
    assert RunFolder(stopped).read_curve() == RunFolder(whole).read_curve()
    for folder in (whole, other, stopped):
        config = json.loads((folder / "config.json").read_text())
        assert config["set"] == ["gae_lambda=0.5"]
        assert config["env_kwargs"] == ["room_size=6"]
        assert config["hyperparameters"]["gae_lambda"] == 0.5
    with pytest.raises(SystemExit):
        train.main(["--run-dir", str(stopped), "--resume", "--env-kwargs", "room_size=7"])
    assert "was begun with --env-kwargs ('room_size=6',)" in capsys.readouterr().err

    train.main(["--config", str(file), "--run-dir", str(tmp_path / "plain"), *unseen])
    evaluate([str(tmp_path / "plain"), *briefly])
    runs = [Run.read(tmp_path / name) for name in ("whole", "other", "plain")]
    groups = grouped(runs)
    assert [group.label for group in groups] == ["ppo, gae_lambda=0.5, room_size=6", "ppo"]
    assert [run.seed for run in groups[0].runs] == [0, 1]
    assert "--set gae_lambda=0.5" in groups[0].command
    assert "--env-kwargs room_size=6" in groups[0].command

    capsys.readouterr()
    export.main([str(whole), str(tmp_path / "shared")])
    evaluate([str(tmp_path / "shared"), *briefly])
    assert "room_size" not in json.loads((tmp_path / "shared" / "evaluation.json").read_text())["command"]
    evaluate([str(whole), *briefly, "--env-kwargs", "room_size=12"])
    assert "--env-kwargs room_size=12" in json.loads((whole / "evaluation.json").read_text())["command"]
    with pytest.raises(ConfigurationError, match="in another world than the training's"):
        compare(CompareConfig(runs=(whole, other), out=tmp_path / "compared"))


def test_an_evaluation_makes_the_worlds_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heed.envs.make import make_env
    from heed.evaluation.axes import axis
    from heed.evaluation.suites import Suite
    from heed.scripts.evaluate import arguments_of

    suite = Suite(name="x", environments=(LEVEL, "BabyAI-GoToLocal-v0"), axes=(axis("true"),), episodes=1)
    trained = {"env": LEVEL, "env_kwargs": ["room_size=6"]}
    config = EvaluateConfig(run_dir=tmp_path)
    assert arguments_of(config, trained, suite) == {LEVEL: {"room_size": 6}, "BabyAI-GoToLocal-v0": {}}
    larger: Any = axis("larger-rooms").make_env(LEVEL, room_size=5)
    assert larger.unwrapped.room_size == 6  # the axis's own
    assert axis("blank").make_env(LEVEL, room_size=5).unwrapped.room_size == 5  # type: ignore[attr-defined]
    made: Any = make_env(LEVEL, hold_out=("red ball",), **environment_arguments(["room_size=5"]))
    assert made.unwrapped.room_size == 5


def test_variants_of_an_ablation_may_set_what_has_no_option(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "base: {set: {gae_lambda: 0.9}, env-kwargs: {room_size: 6}, env: BabyAI-GoToObjS4-v0}\n"
        "variants:\n  usual: {}\n  narrow: {set: {value_hidden: 8}}\n  short: {set: {gae_lambda: 0.5}}\n"
    )
    plan = Plan.read(path, out=tmp_path, episodes=1)
    assert [training.config.set for training in plan.trainings] == [
        ("gae_lambda=0.9",),
        ("gae_lambda=0.9", "value_hidden=8"),
        ("gae_lambda=0.5",),
    ]
    assert {training.config.env_kwargs for training in plan.trainings} == {("room_size=6",)}
    path.write_text("variants: {a: {set: {gae_lamda: 1}}}")
    with pytest.raises(ConfigurationError, match="variant 'a': --set gae_lamda"):
        Plan.read(path, out=tmp_path, episodes=1)
