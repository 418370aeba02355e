"""A run outlives kills, signals, full disks and damaged files, and ends as if nothing had happened."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import SafetensorError
from safetensors.torch import save_file

from examples.kill_and_resume import differences, survive
from heed.agents import CheckpointError, load
from heed.agents.persistence.checkpoint import CheckpointFormatError, write_checkpoint
from heed.scripts import train as train_module
from heed.scripts.evaluate import EvaluateConfig, evaluate_run
from heed.training import progress
from heed.training.run_checkpoints import RunCheckpoints, Worth
from heed.training.run_folder import RunFolder, RunFolderError

TABLE = ["--agent", "q-learning", "--env", "FrozenLake-v1", "--steps", "1000", "--save-every", "200"]
PPO = ["--env", "BabyAI-GoToRedBallNoDists-v0", "--n-envs", "4", "--steps", "384", "--save-every", "128"]
PPO += ["--rollout-steps", "16", "--sample-every", "0"]


def run(arguments: list[str], folder: Path) -> int:
    """Run `heed train` in this process, without an evaluation; return its exit status."""
    try:
        train_module.main([*arguments, "--eval-episodes", "0", "--device", "cpu", "--run-dir", str(folder)])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1
    return 0


def resume(folder: Path) -> int:
    return run(["--resume"], folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(TABLE, folder) == 0
    return folder


@pytest.fixture
def stopped(whole: Path, tmp_path: Path) -> Path:
    """Return the same run with checkpoints at 600 and 800 of 1000 steps, as a kill would have left it."""
    folder = tmp_path / "run"
    assert run([*TABLE, "--keep-checkpoints", "3"], folder) == 0
    shutil.rmtree(RunFolder(folder).checkpoint_path(1000))
    return folder


def told(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


# -- which checkpoint --------------------------------------------------------------------------------------------------


def fill(folder: Path) -> None:
    (folder / "agent.json").write_text("{}")


def made(saved: RunCheckpoints, *steps: int) -> None:
    for number in steps:
        write_checkpoint(saved.place(number), fill)


def steps_of(saved: RunCheckpoints) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in saved.all()]


def judged(success: float, mean: float, *, episodes: int = 200, steps: int = 0) -> Any:
    """Return an agent whose last episodes went like this."""
    successes = [1.0] * round(success * episodes) + [0.0] * (episodes - round(success * episodes))
    infos = [{"r": mean}] * episodes
    return SimpleNamespace(ep_success_buffer=successes, ep_info_buffer=infos, num_timesteps=steps)


def test_the_best_is_the_one_with_most_success_then_return_then_the_earlier_and_needs_episodes() -> None:
    worth = Worth.of(judged(0.5, 0.25, steps=7))
    assert worth == Worth(steps=7, success_rate=0.5, mean_return=0.25, episodes=200)
    assert worth.beats(None)
    assert not worth.beats(worth)
    assert not worth.beats(Worth.of(judged(0.6, 0.1)))
    assert worth.beats(Worth.of(judged(0.5, 0.2)))
    assert worth.beats(Worth.of(judged(0.4, 0.9)))
    assert Worth.of(judged(1.0, 1.0, episodes=99)) is None
    assert Worth.of(SimpleNamespace(ep_success_buffer=None, ep_info_buffer=None, num_timesteps=0)) is None


def test_the_newest_few_and_the_best_are_kept(tmp_path: Path) -> None:
    saved = RunCheckpoints(tmp_path / "checkpoints", tmp_path / "best.json")
    assert saved.newest() is saved.best() is None
    for steps, success in ((10, 0.2), (20, 0.9), (30, 0.5), (40, 0.6), (50, 0.9)):
        made(saved, steps)
        saved.note(Worth.of(judged(success, 0.1, steps=steps)))
        saved.remove_old(2)
    assert steps_of(saved) == [20, 40, 50]
    newest, best = saved.newest(), saved.best()
    assert newest is not None
    assert best is not None
    assert (newest.path, best.path) == (saved.place(50), saved.place(20))
    assert json.loads((tmp_path / "best.json").read_text())["success_rate"] == 0.9
    # A note that leads elsewhere, or that nobody can read, is none.
    for note in ('{"steps": "../../etc"}', "[", '{"steps": 30, "success_rate": 1, "mean_return": 1, "episodes": 1}'):
        (tmp_path / "best.json").write_text(note)
        assert saved.worth_of_best() is None


def test_what_a_crash_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    saved = RunCheckpoints(tmp_path / "checkpoints", tmp_path / "best.json")
    made(saved, 10)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in (".step-000000000020.0123abcd.partial", ".step-000000000005.removed", ".ssh", "notes"):
        (saved.path / name).mkdir()
    (saved.path / ".step-000000000030.0123abcd.partial").symlink_to(elsewhere)
    (saved.path / "step-000000000040").symlink_to(saved.place(10))
    saved.remove_old(1)
    names = {path.name for path in saved.path.iterdir()}
    assert {".ssh", "notes", "step-000000000010", "step-000000000040"} <= names
    assert not {".step-000000000020.0123abcd.partial", ".step-000000000005.removed"} & names
    assert elsewhere.is_dir()
    assert steps_of(saved) == [10]


def test_damaged_checkpoints_are_passed_over_and_said_and_newer_formats_are_not(tmp_path: Path) -> None:
    saved = RunCheckpoints(tmp_path / "checkpoints", tmp_path / "best.json")
    made(saved, 10, 20, 30)
    (saved.place(30) / "agent.json").write_text("[]")
    (saved.place(20) / "manifest.json").unlink()
    found = saved.newest()
    assert found is not None
    assert found.path == saved.place(10)
    assert found.damaged == (saved.place(30), saved.place(20))
    assert "agent.json was changed since" in found.passed_over[0]
    assert "manifest.json is missing" in found.passed_over[1]
    assert all(
        sentence.endswith("The last good checkpoint is used: step-000000000010.") for sentence in found.passed_over
    )
    assert len(list(saved.set_aside(found.damaged))) == 2
    assert steps_of(saved) == [10]
    (saved.place(10) / "agent.json").unlink()
    with pytest.raises(CheckpointError, match=r"agent\.json is missing.*no other checkpoint that is whole"):
        saved.newest()
    made(saved, 40, 50)
    manifest = saved.place(50) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 9, "heed": "3.1"}))
    with pytest.raises(CheckpointFormatError, match=r"Install heed 3\.1, which wrote it"):
        saved.newest()


def test_heed_evaluate_takes_the_newest_the_best_or_one_of_some_steps(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[str] = []

    def take(path: Path) -> None:
        taken.append(path.name)
        raise KeyError("enough")

    monkeypatch.setattr("heed.agents.load", take)
    RunFolder(stopped).saved.note(Worth(steps=600, success_rate=0.5, mean_return=0.5, episodes=200))
    for which in ("newest", "best", "800"):
        with pytest.raises(KeyError, match="enough"):
            evaluate_run(EvaluateConfig(run_dir=stopped, checkpoint=which))
    assert taken == ["step-000000000800", "step-000000000600", "step-000000000800"]
    with pytest.raises(RunFolderError, match=r"no checkpoint '77'.*there are: .*600, 800"):
        evaluate_run(EvaluateConfig(run_dir=stopped, checkpoint="77"))
    (RunFolder(stopped).checkpoint_path(800) / "agent.json").write_text("[]")
    with pytest.raises(KeyError, match="enough"):
        evaluate_run(EvaluateConfig(run_dir=stopped))
    assert taken[-1] == "step-000000000600"
    assert "The last good checkpoint is used: step-000000000600" in told(capsys)


# -- kills and signals -------------------------------------------------------------------------------------------------


def test_a_training_that_is_killed_again_and_again_ends_as_the_one_that_was_not(tmp_path: Path) -> None:
    """The small variant of `examples/kill_and_resume.py`."""
    arguments = ["--env", "BabyAI-GoToRedBallNoDists-v0", "--n-envs", "4", "--steps", "1024", "--save-every", "128"]
    outcome = survive(
        [*arguments, "--epochs", "2", "--sample-every", "0", "--eval-episodes", "0", "--device", "cpu"],
        tmp_path,
        kills=3,
        seed=1,
    )
    assert len(outcome.kills) == 3
    assert outcome.differences == []


def test_the_comparison_finds_a_difference(whole: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(whole, tmp_path / "other"))
    assert differences(whole, other) == []
    path = RunFolder(other).latest_checkpoint() / "table.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    checkpoint_of = RunFolder(other).newest_checkpoint_path()
    write_manifest_again(checkpoint_of)
    assert differences(whole, other) == ["table.safetensors"]


def write_manifest_again(folder: Path) -> None:
    content = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}

    def fill(to: Path) -> None:
        for name, data in content.items():
            (to / name).write_bytes(data)

    write_checkpoint(folder, fill)


def send(monkeypatch: pytest.MonkeyPatch, numbers: dict[int, list[signal.Signals]]) -> None:
    """Have this process receive signals at the first step from some number of steps on."""
    show = progress.ProgressBar._on_step

    def show_and_send(bar: Any) -> bool:
        for steps in [steps for steps in numbers if bar.num_timesteps >= steps]:
            for number in numbers.pop(steps):
                os.kill(os.getpid(), number)
        return show(bar)

    monkeypatch.setattr(progress.ProgressBar, "_on_step", show_and_send)


def test_a_signal_ends_a_training_after_its_rollout_and_it_goes_on_as_if_it_had_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(PPO, tmp_path / "whole") == 0
    send(monkeypatch, {150: [signal.SIGTERM]})
    assert run(PPO, tmp_path / "run") == 128 + signal.SIGTERM
    output = " ".join("".join(capfd.readouterr()).split())
    assert "SIGTERM: the training ends after this rollout, with a checkpoint. Again: at once." in output
    assert "Stopped and saved. Continue with: heed train --run-dir" in output
    newest = load(RunFolder(tmp_path / "run").latest_checkpoint())
    rollout = newest.n_steps * 4  # type: ignore[attr-defined]
    assert newest.num_timesteps >= 150
    assert newest.num_timesteps % rollout == 0
    assert resume(tmp_path / "run") == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_a_second_signal_ends_it_at_once_and_the_last_checkpoint_is_good(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    send(monkeypatch, {500: [signal.SIGINT, signal.SIGTERM]})
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run(TABLE, tmp_path / "run") == 128 + signal.SIGINT
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    output = " ".join("".join(capfd.readouterr()).split())
    assert "Ended at once. Its last good checkpoint is step-000000000400. Continue with: heed train" in output
    assert resume(tmp_path / "run") == 0
    assert differences(whole, tmp_path / "run") == []


def test_a_run_without_a_checkpoint_begins_again(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(folder / "checkpoints")
    (folder / "best.json").unlink(missing_ok=True)
    (folder / ".config.json.0123abcd.partial").write_text("{")
    assert resume(folder) == 0
    assert "has no checkpoint yet: the run begins again" in told(capsys)
    assert differences(whole, folder) == []
    assert not list(folder.glob(".*"))


def test_a_run_that_was_killed_before_it_had_a_configuration_can_begin(tmp_path: Path) -> None:
    (tmp_path / ".config.json.0123abcd.partial").write_text('{"en')
    RunFolder(tmp_path).begin({"steps": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json"]


def test_a_run_that_was_killed_after_its_last_step_takes_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    solved = [*TABLE, "--stop-at-success", "0.001", "--steps", "20000"]
    assert run(solved, folder) == 0
    steps = load(RunFolder(folder).latest_checkpoint()).num_timesteps
    assert steps < 20000
    assert resume(folder) == 0
    assert load(RunFolder(folder).latest_checkpoint()).num_timesteps == steps


# -- damaged files -----------------------------------------------------------------------------------------------------


def test_a_half_written_checkpoint_and_a_half_written_line_are_nothing(
    whole: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = stopped / "checkpoints" / ".step-000000001000.0123abcd.partial"
    partial.mkdir()
    (partial / "agent.json").write_text('{"class": "QLe')
    with (stopped / "curve.jsonl").open("a") as file:
        file.write('{"steps": 99')
    assert all(point["steps"] <= 1000 for point in RunFolder(stopped).read_curve())
    assert resume(stopped) == 0
    assert not partial.exists()
    assert differences(whole, stopped) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "manifest"])
def test_a_checkpoint_that_was_damaged_later_is_set_aside_and_the_one_before_is_used(
    damage: str, whole: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = RunFolder(stopped).latest_checkpoint()
    assert newest.name == "step-000000000800"
    file = newest / ("manifest.json" if damage == "manifest" else "table.safetensors")
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[:-9] if damage != "flipped" else content[:-9] + b"\xff" + content[-8:])
    assert resume(stopped) == 0
    output = told(capsys)
    assert f"{file.name} is " in output or f"{file.name} was changed" in output
    assert "The last good checkpoint is used: step-000000000600." in output
    assert "The damaged checkpoint is set aside as" in output
    assert (stopped / "checkpoints" / "damaged-step-000000000800").is_dir()
    assert differences(whole, stopped) == []


def test_links_in_a_run_are_not_written_through(stopped: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.txt"
    theirs.write_text("dear diary\n")
    (stopped / "curve.jsonl").unlink()
    (stopped / "curve.jsonl").symlink_to(theirs)
    assert resume(stopped) == 2
    with pytest.raises(RunFolderError, match=r"curve\.jsonl is a symbolic link"):
        evaluate_run(EvaluateConfig(run_dir=stopped))
    assert theirs.read_text() == "dear diary\n"


# -- disks -------------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_in_the_middle_of_a_write_ends_the_run_with_its_last_good_checkpoint(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"

    def full(tensors: Any, path: Path) -> None:
        if "000000000600" in str(path) and path.name == "random.safetensors":
            path.write_bytes(b"half of it")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save_file(tensors, path)

    monkeypatch.setattr("heed.agents.persistence.checkpoint.save_file", full)
    assert run(TABLE, folder) == 2
    output = told(capsys)
    assert "The run could not be written on: No space left on device" in output
    assert "Its last good checkpoint is step-000000000400. Continue with: heed train --run-dir" in output
    assert sorted(path.name for path in (folder / "checkpoints").iterdir())[-1] == "step-000000000400"
    assert not list((folder / "checkpoints").glob(".*"))
    monkeypatch.undo()
    assert resume(folder) == 0
    assert differences(whole, folder) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a disk of 400 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_really_fills_up(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_disk / "run"
    assert run([*TABLE, "--save-every", "50", "--keep-checkpoints", "99", "--steps", "5000"], folder) == 2
    assert "No space left on device" in told(capsys)
    newest = RunFolder(folder).latest_checkpoint()
    assert load(newest).num_timesteps == int(newest.name.removeprefix("step-")) > 0
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(10**6))
    with pytest.raises(RunFolderError, match=r"No space left on device.*make room there"):
        RunFolder(folder).require_writable()


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot be written into \(Not a directory\)"):
        RunFolder(tmp_path / "file" / "run").require_writable()
    RunFolder(tmp_path / "new" / "run").require_writable()
    assert not (tmp_path / "new").exists()

    def read_only(**_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr(train_module, "make_training_env", lambda config: pytest.fail("the training had begun"))
    assert run(TABLE, tmp_path / "run") == 2
    assert "cannot be written into (Read-only file system)" in told(capsys)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_user_is_refused() -> None:
    place = Path(tempfile.mkdtemp())  # pytest's own are closed to other users
    place.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:  # whom no permission holds back
            os.seteuid(65534)
        with pytest.raises(RunFolderError, match=r"cannot be written into \(Permission denied\)"):
            RunFolder(place / "run").require_writable()
    finally:
        os.seteuid(user)
        place.rmdir()
