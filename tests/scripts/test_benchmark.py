"""The benchmark adds phases up right, compares like with like, and writes what it says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from heed.policies.scoring import ActionTrie, PackedScorer
from heed.scripts import benchmark as benchmark_module
from heed.scripts.benchmark import BenchmarkConfig, Timing, benchmark
from heed.scripts.errors import ConfigurationError
from heed.scripts.stopwatch import Stopwatch
from tests.small_models import VOCABULARY, build


def test_a_phase_inside_another_is_taken_off_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    watch = Stopwatch()

    class Work:
        def inner(self) -> str:
            now[0] += 2.0
            return "done"

        def outer(self) -> str:
            now[0] += 1.0
            return self.inner()

    with watch.around(Work, "outer", "outside"), watch.around(Work, "inner", lambda: "inside"):
        assert [Work().outer(), Work().outer()] == ["done", "done"]
    Work().outer()  # no longer timed
    assert watch.seconds == {"inside": 4.0, "outside": 2.0}


def test_medians_and_quartiles() -> None:
    assert Timing.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Timing(median=3.0, low=2.0, high=4.0)
    assert Timing.of([7.0]) == Timing(median=7.0, low=7.0, high=7.0)


def test_the_naive_way_computes_what_the_packed_way_computes() -> None:
    model = build("llama")
    prompts = torch.randint(0, VOCABULARY, (3, 8), generator=torch.Generator().manual_seed(0))
    actions = [[1, 2, 3], [1, 4, 5], [6, 7, 8]]
    scorer = PackedScorer(ActionTrie.build(actions))
    with torch.no_grad():
        naive = benchmark_module._naive(model, prompts, actions)
        torch.testing.assert_close(benchmark_module._packed(scorer, model, prompts), naive, atol=1e-9, rtol=0)
        ideal = benchmark_module._ideal(model, prompts, scorer.n_nodes)
    assert ideal.shape == (3, 1 + scorer.n_nodes, VOCABULARY)


def test_it_writes_figures_and_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = BenchmarkConfig(
        out=tmp_path, prompts=(12,), actions=(4, 6), hidden=16, layers=1, repeats=2, rollouts=1, threads=1
    )
    benchmark(config)
    result = json.loads((tmp_path / "benchmark.json").read_text())
    assert len(result["scoring"]) == 4
    for row in result["scoring"]:
        assert row["speed_up_over_naive"] == pytest.approx(
            row["seconds"]["naive"]["median"] / row["seconds"]["packed"]["median"]
        )
    assert sum(result["training"]["percent"].values()) == pytest.approx(100)
    assert {"environment", "verbalise", "tokenise", "rollout forward", "train forward", "backward", "optimiser"} <= set(
        result["training"]["percent"]
    )
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert "steps/s" in capsys.readouterr().out


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="multiple of 8"):
        BenchmarkConfig(hidden=13)
    with pytest.raises(ConfigurationError, match="at least 2"):
        BenchmarkConfig(actions=(1,))
