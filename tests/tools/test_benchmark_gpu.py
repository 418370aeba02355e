"""The figures of a GPU: what is counted is counted right, and what does not fit is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from heed.policies.models.loading import load_language_model
from heed.training.errors import ConfigurationError
from tools.benchmark import gpu
from tools.benchmark.command import EVERYWHERE, BenchmarkConfig
from tools.benchmark.large import Options, layer_weights, new_language_model
from tools.benchmark.large import measure as measure_training

SIZES: dict[str, Any] = {
    "device": "cpu",
    "rollouts": 1,
    "gpu_envs": 4,
    "gpu_steps": 4,
    "gpu_batch": 8,
    "gpu_tokens": 200,
    "gpu_product": 64,
}


def test_a_large_model_in_small_is_trained_and_counted() -> None:
    options = Options(n_envs=4, rollout_steps=4, batch_size=8, micro_batch_tokens=200, rollouts=1)
    found = measure_training("tiny", options)
    layers = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 64 + 32 * 2 + 3 * 64 * 128 + 2 * 64) + 64
    assert layer_weights(new_language_model("tiny", "cpu").model) == layers
    assert found["weights"] == 512 * 64 * 2 + layers
    assert found["steps"] == 16
    assert found["tokens_per_second"] > found["steps_per_second"] > 0, "a prompt has many tokens"
    # Each token is read by the policy and by its reference, and learned from once.
    tokens = found["tokens_per_second"] * found["seconds"]
    operations = found["tflops"] * 1e12 * found["seconds"]
    assert 2 * layers * tokens < operations < 4 * 1.2 * layers * tokens
    assert found["estimated_mib"] > 100, "the process is a part of it"


def test_the_rows_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(name: str, _: Options) -> dict[str, Any]:
        if name == "7b":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation.")
        rates = {"steps_per_second": 2.0, "tokens_per_second": 90.0, "peak_mib": 8.0, "estimated_mib": 9.0}
        return {"model": name, "weights": 10**6, "tflops": 0.5, **rates}

    monkeypatch.setattr(gpu, "measure_training", trained)
    monkeypatch.setattr(gpu, "peak_tflops", lambda device, rows: 2.0)
    result = gpu.measure(BenchmarkConfig(**SIZES, gpu_models=("tiny", "7b", "heed-tiny")))
    assert [row.get("share_of_peak") for row in result["models"]] == [0.25, None, 0.25]
    assert result["models"][1]["left_out"] == "CUDA out of memory. Tried to allocate 2.00 GiB."
    (table,) = gpu.report(result)
    assert not isinstance(table, str)
    assert table.row_count == 3
    late = gpu.measure(BenchmarkConfig(**SIZES, gpu_models=("tiny",), gpu_seconds=0.0))
    assert "seconds were over" in late["models"][0]["left_out"]

    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(gpu, "measure_training", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        gpu.measure(BenchmarkConfig(**SIZES, gpu_models=("tiny",)))
    with pytest.raises(ConfigurationError, match="--gpu-models has '8b'"):
        gpu.measure(BenchmarkConfig(**SIZES, gpu_models=("8b",)))


def test_a_product_of_matrices_has_a_speed_and_large_models_wait_to_be_asked_for() -> None:
    assert gpu.peak_tflops("cpu", 64) > 0
    assert "gpu" not in EVERYWHERE
    assert load_language_model("heed-tiny").model.dtype == torch.float32
