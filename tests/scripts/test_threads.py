"""Threads follow from the model and the cores, a run remembers them, and `--threads` has the last word."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from heed.agents.distributed import threads
from heed.envs.vectorize.workers.pipes import start_worker
from heed.evaluation import playing as evaluation
from heed.scripts import demos
from heed.scripts import evaluate as evaluating
from heed.scripts import train as train_module
from heed.training.errors import ConfigurationError
from heed.training.threads import WAITING, wait_asleep

FEW = ["--env", "BabyAI-GoToRedBallNoDists-v0", "--n-envs", "2", "--rollout-steps", "8", "--device", "cpu"]
FEW += ["--eval-episodes", "0", "--sample-every", "0", "--save-every", "16", "--max-steps", "8"]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _without_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def model_of(millions: float) -> nn.Module:
    """A model of so many weights beside its embeddings, which are tied to what is never multiplied with all tokens."""
    embedding = nn.Embedding(30_000, 100, device="meta")
    head = nn.Linear(100, 30_000, bias=False, device="meta")
    head.weight = embedding.weight
    return nn.Sequential(embedding, nn.Linear(1000, int(millions * 1000), bias=False, device="meta"), head)


@pytest.mark.parametrize(
    ("millions", "cores", "expected"),
    [(0.14, 64, 1), (1.9, 64, 1), (2.6, 64, 2), (10.6, 64, 10), (10.6, 2, 2), (500, 16, 16), (500, 1, 1)],
)
def test_each_thread_has_enough_to_do(
    millions: float, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: cores)
    model = model_of(millions)
    assert threads.threads_for(model, "cpu") == expected
    assert threads.threads_for(model, "cuda:0") == threads.threads_for(None, "cpu") == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert threads.threads_for(model, "cpu") == min(3, max(1, int(millions)))
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert threads.threads_for(model, "cpu") == expected


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("6400000 100000", 8), ("?", 8), (None, 8)],
)
def test_a_container_has_the_cores_of_its_quota(
    quota: str | None, cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert threads.available_cores() == cores


def test_threads_wait_asleep_unless_it_is_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("KMP_BLOCKTIME", "200")
    wait_asleep()
    assert "OMP_WAIT_POLICY" not in os.environ


def test_a_run_says_its_threads_and_goes_on_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    run = tmp_path / "run"

    def recorded() -> Any:
        return json.loads((run / "config.json").read_text())["threads"]

    torch.set_num_threads(4)
    train_module.main([*FEW, "--steps", "16", "--run-dir", str(run)])
    assert (recorded(), torch.get_num_threads()) == (1, 1), "heed-tiny is small"
    assert "1 thread on 4 cores (--threads for another number)" in " ".join(capsys.readouterr().out.split())
    train_module.main(["--run-dir", str(run), "--resume", "--threads", "2"])
    assert (recorded(), torch.get_num_threads()) == (2, 2)
    torch.set_num_threads(1)
    monkeypatch.setattr(threads, "available_cores", lambda: 8)
    train_module.main(["--run-dir", str(run), "--resume", "--steps", "32"])
    assert (recorded(), torch.get_num_threads()) == (2, 2), "as many as before, whatever the machine has now"

    def played(*_: Any, **__: Any) -> None:
        raise ConfigurationError(f"played with {torch.get_num_threads()} threads")

    monkeypatch.setattr(evaluation, "evaluate", played)
    with pytest.raises(SystemExit):
        evaluating.main([str(run), "--threads", "3"])
    assert "played with 3 threads" in capsys.readouterr().err
    few = ["--env", FEW[1], "--expert", str(run), "--episodes", "1", "--keep-failures"]
    demos.main([*few, "--out", str(tmp_path / "demos.jsonl")])
    assert torch.get_num_threads() == 1


def test_a_number_that_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "none")
    for command, arguments in (
        (train_module.main, ["--run-dir", out]),
        (evaluating.main, [out]),
        (demos.main, ["--out", out]),
    ):
        with pytest.raises(SystemExit):
            command([*arguments, "--threads", "0"])
        assert "--threads is 0, but must be at least 1" in capsys.readouterr().err


def test_a_process_of_environments_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    seen: list[tuple[str | None, str | None]] = []

    class Started:
        """In place of a process."""

        def __init__(self, **_: Any) -> None:
            pass

        def start(self) -> None:
            seen.append((os.environ.get("OMP_NUM_THREADS"), os.environ.get("MKL_NUM_THREADS")))

    start_worker(SimpleNamespace(Process=Started), lambda: None, ())  # type: ignore[arg-type]
    assert seen == [("1", "1")]
    assert (os.environ["OMP_NUM_THREADS"], os.environ.get("MKL_NUM_THREADS")) == ("7", None)
