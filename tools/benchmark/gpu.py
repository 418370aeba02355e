"""How fast a GPU trains, small models and large ones, and how much of its arithmetic that is.

What a GPU can do at most is measured on the spot: a product of two large matrices in bfloat16.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from heed.policies.out_of_memory import is_out_of_memory, release_memory
from heed.training.errors import ConfigurationError
from tools.benchmark.large import MODELS, TINY, Options
from tools.benchmark.large import measure as measure_training
from tools.benchmark.timing import seconds_of

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

PRODUCTS = 10
"""Products of matrices that are timed together, after three that are not counted."""


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure the peak, and train one model after the other.

    Returns:
        `peak_tflops`, and under `models` a row for each: what its training took (`tools.benchmark.large`) with
        its `share_of_peak`, or `left_out`, the reason why there are no figures.

    Raises:
        ConfigurationError: if there is no such model.
    """
    for name in config.gpu_models:
        if name not in (TINY, *MODELS):
            raise ConfigurationError(f"--gpu-models has {name!r}, but must be of {', '.join((TINY, *MODELS))}.")
    began = time.monotonic()
    peak = peak_tflops(config.device, config.gpu_product)
    options = Options(
        device=config.device,
        n_envs=config.gpu_envs,
        rollout_steps=config.gpu_steps,
        batch_size=config.gpu_batch,
        micro_batch_tokens=config.gpu_tokens,
        activation_checkpointing=config.gpu_checkpointing,
        rollouts=config.rollouts,
        patience=config.gpu_patience,
    )
    rows = []
    for name in config.gpu_models:
        if time.monotonic() - began > config.gpu_seconds:
            rows.append({"model": name, "left_out": f"{config.gpu_seconds:.0f} seconds were over"})
            continue
        rows.append(_row(name, options, peak))
        gc.collect()
        release_memory()
    return {"peak_tflops": peak, "models": rows}


def _row(name: str, options: Options, peak: float) -> dict[str, Any]:
    try:
        row = measure_training(name, options)
    except (RuntimeError, ImportError) as error:
        if not is_out_of_memory(error) and not isinstance(error, ImportError):
            raise
        return {"model": name, "left_out": str(error).splitlines()[0]}
    return {**row, "share_of_peak": row["tflops"] / peak}


def peak_tflops(device: str, rows: int) -> float:
    """Return how many 10**12 operations a second a product of square matrices in bfloat16 makes."""
    generator = torch.Generator(device).manual_seed(0)  # zeros would be faster than numbers are
    first, second = (
        torch.randn(rows, rows, generator=generator, device=device, dtype=torch.float32).bfloat16() for _ in range(2)
    )

    def multiply(times: int) -> None:
        for _ in range(times):
            torch.mm(first, second)

    multiply(3)
    return PRODUCTS * 2 * rows**3 / seconds_of(lambda: multiply(PRODUCTS)) / 1e12


def report(result: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what to print."""
    table = Table(title=f"PPO on one device whose products of matrices reach {result['peak_tflops']:.3g} TFLOP/s")
    for heading in ("model", "weights", "steps/s", "tokens/s", "peak MiB", "estimated MiB", "TFLOP/s", "of the peak"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in result["models"]:
        if "left_out" in row:
            table.add_row(row["model"], "-", f"left out: {row['left_out']}")
            continue
        table.add_row(
            row["model"],
            f"{row['weights'] / 1e6:.1f} M",
            f"{row['steps_per_second']:.1f}",
            f"{row['tokens_per_second']:.0f}",
            f"{row['peak_mib']:.0f}",
            f"{row['estimated_mib']:.0f}",
            f"{row['tflops']:.2f}",
            f"{row['share_of_peak']:.2%}",
        )
    yield table
