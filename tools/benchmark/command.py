"""What `python -m tools.benchmark` can be told, and how it goes through its sections."""

from __future__ import annotations

import dataclasses
import importlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

from heed.training.errors import ConfigurationError, as_sentence

Section = Literal[
    "training",
    "scoring",
    "comparison",
    "growth",
    "reuse",
    "shortcuts",
    "verbalizing",
    "processes",
    "ranks",
    "savings",
    "gpu",
]
SECTIONS: tuple[Section, ...] = get_args(Section)
"""In this order, since the peak memory of the process, which `training` reports, would be that of any before it."""
EVERYWHERE: tuple[Section, ...] = tuple(section for section in SECTIONS if section not in ("savings", "gpu"))
"""Those that are measured unless others are asked for: the model of `savings` comes with another package, those of
`gpu` are too large for a processor."""

GPU = ("gpu_envs", "gpu_steps", "gpu_batch", "gpu_tokens", "gpu_product")
SAVINGS = ("savings_layers", "savings_envs", "savings_steps")
SLOW = ("processes", "slow_envs", "slow_steps")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Measure Heed: training, scores of actions, SB3 without Heed, growth, reuse, short cuts, words, several processes.

    Each section writes a JSON file of its name into the folder; benchmark.png shows all that are there.
    """

    out: Path = Path("runs/benchmark")
    """Folder for the results."""
    sections: tuple[Section, ...] = EVERYWHERE
    """What to measure (default: all but savings, whose model comes with another package, and gpu, which has models of
    billions of weights)."""
    device: str = "auto"
    """Where the language models run: cpu, cuda, or auto."""
    threads: int = 0
    """Threads that torch may use (0: all cores that this process may use; what is measured is to run alone)."""
    seed: int = 0
    """Seed of everything random."""
    repeats: int = 5
    """How often a scoring is timed, after one run that is not counted."""
    rounds: int = 3
    """How often a training, a rollout or an epoch is timed, after one that is not counted."""
    patience: float = 2.0
    """Seconds after which scoring one by one takes no further turn (five times as many in a training); it has one."""

    hidden: int = 256
    """Width of the larger model; heed-tiny is measured as it is."""
    layers: int = 4
    """Its layers."""
    vocabulary: int = 32_000
    """Its tokens where actions are scored (32000 are Llama's); with an environment it has heed-tiny's."""
    batch: int = 4
    """Prompts that are scored together."""
    prompts: tuple[int, ...] = (60, 150, 400)
    """scoring: prompt lengths, in tokens."""
    actions: tuple[int, ...] = (6, 12, 20, 40)
    """scoring: numbers of actions."""

    env: str = "BabyAI-GoToLocal-v0"
    """Environment of all trainings."""
    n_envs: int = 32
    """Environments side by side."""
    n_steps: int = 64
    """Steps of each environment in a rollout."""
    rollouts: int = 4
    """training: rollouts that are timed."""
    larger_steps: int = 16
    """comparison: steps of each environment in a rollout of the larger model, which are slower."""
    naive_steps: int = 2
    """comparison: the same where actions are scored one by one; minibatches are no larger than the rollout."""

    growth_prompts: tuple[int, ...] = (30, 60, 100, 150, 200, 300, 400)
    """growth: prompt lengths."""
    growth_actions: tuple[int, ...] = (2, 5, 10, 20, 40, 80)
    """growth: numbers of actions."""
    growth_hidden: tuple[int, ...] = (64, 128, 256, 512)
    """growth: widths of models."""
    growth_layers: tuple[int, ...] = (2, 4)
    """growth: layers of models."""
    growth_envs: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    """growth: environments side by side, in rollouts of the same size."""

    history: int = 8
    """reuse: the history that prompts show."""
    history_steps: int = 128
    """reuse: steps of each environment in a rollout with a history."""

    verbalizing_envs: tuple[str, ...] = (
        "BabyAI-GoToLocal-v0",
        "BabyAI-BossLevel-v0",
        "FrozenLake-v1",
        "Taxi-v4",
        "CliffWalking-v1",
        "Blackjack-v1",
        "CartPole-v1",
        "MountainCar-v0",
        "Acrobot-v1",
        "Pendulum-v1",
    )
    """verbalizing: environments that do not speak themselves."""
    verbalizing_steps: int = 3_000
    """verbalizing: steps that are timed each time."""
    processes: tuple[int, ...] = (1, 2, 4)
    """processes: over how many the environments are spread."""
    slow_envs: int = 8
    """processes: environments side by side."""
    slow_milliseconds: float = 5.0
    """processes: what a step of theirs takes."""
    slow_steps: int = 25
    """processes: steps of each environment that are timed together."""
    ranks: tuple[int, ...] = (1, 2)
    """ranks: how many processes train one agent together, with --threads each (0: one)."""

    savings_model: str = "smollm2"
    """savings: the language model."""
    savings_layers: int = 4
    """savings: how many of its top layers train, by an adapter."""
    savings_envs: int = 16
    """savings: environments side by side."""
    savings_steps: int = 8
    """savings: steps of each environment in a rollout."""

    gpu_models: tuple[str, ...] = ("heed-tiny", "0.5b", "7b")
    """gpu: what is trained: heed-tiny, or Qwen2.5's architecture of 0.5b, 1.5b or 7b with random weights (or tiny)."""
    gpu_envs: int = 64
    """gpu: environments side by side."""
    gpu_steps: int = 32
    """gpu: steps of each environment in a rollout."""
    gpu_batch: int = 512
    """gpu: steps in a minibatch."""
    gpu_tokens: int = 16_384
    """gpu: tokens in a part of a minibatch."""
    gpu_product: int = 8_192
    """gpu: rows of the square matrices by whose product the device's peak is measured."""
    gpu_checkpointing: bool = False
    """gpu: compute the layers of the large models again for the gradient, as --activation-checkpointing does."""
    gpu_patience: float = 20.0
    """gpu: seconds after which a model's training begins no further rollout."""
    gpu_seconds: float = 210.0
    """gpu: seconds after which no further model is begun."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        least_of = {
            0: ("slow_milliseconds",),
            1: (
                *GPU,
                *SAVINGS,
                "repeats",
                "rounds",
                "layers",
                "batch",
                "n_envs",
                "n_steps",
                "rollouts",
                "larger_steps",
            ),
            2: ("prompts", "actions", "naive_steps", "growth_prompts", "growth_actions", "history_steps"),
            100: ("vocabulary",),
        }
        positive = ("growth_layers", "growth_envs", "history", "verbalizing_steps", "ranks", *SLOW)
        for least, names in least_of.items():
            for name in (*names, *(positive if least == 1 else ())):
                value = getattr(self, name)
                if value in ((), None) or min(value if isinstance(value, tuple) else (value,)) < least:
                    raise ConfigurationError(f"--{name.replace('_', '-')} is {value}, but must be at least {least}.")
        for name in ("hidden", "growth_hidden"):
            value = getattr(self, name)
            if any(width < 8 or width % 8 for width in (value if isinstance(value, tuple) else (value,))):
                raise ConfigurationError(f"--{name.replace('_', '-')} is {value}, but must be a multiple of 8.")


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure the chosen sections, print them, and write their files and the plot into `config.out`.

    Returns:
        The results by section.
    """
    import torch
    from rich.console import Console

    from heed.agents.device import available_device
    from heed.agents.distributed.threads import available_cores
    from tools.benchmark.drawing import draw

    torch.set_num_threads(config.threads or available_cores())
    config = dataclasses.replace(config, device=str(available_device(config.device)))
    console = Console(highlight=False)
    config.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for section in SECTIONS:
        if section not in config.sections:
            continue
        module = importlib.import_module(f"tools.benchmark.{section}")
        with console.status(section):
            results[section] = module.measure(config)
        path = config.out / f"{section}.json"
        written = {"machine": _machine(config), "options": _options(config), "result": results[section]}
        path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        for part in module.report(results[section]):
            console.print(part)
        console.print(f"  {path}\n")
    draw({name: _read(config.out, name) for name in SECTIONS}, config.out / "benchmark.png")
    console.print(f"  {config.out / 'benchmark.png'}")
    return results


def _machine(config: BenchmarkConfig) -> dict[str, Any]:
    import torch

    return {
        "processor": platform.machine(),
        "device": torch.cuda.get_device_name() if config.device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _options(config: BenchmarkConfig) -> dict[str, Any]:
    return {**dataclasses.asdict(config), "out": str(config.out)}


def _read(folder: Path, section: str) -> Any:
    """Return the result of a section, now or in an earlier call, or None."""
    path = folder / f"{section}.json"
    return json.loads(path.read_text("utf-8"))["result"] if path.exists() else None


def main(arguments: list[str] | None = None) -> None:
    """Run `python -m tools.benchmark` with the command line's arguments."""
    with as_sentence():
        benchmark(tyro.cli(BenchmarkConfig, args=arguments, prog="python -m tools.benchmark"))


if __name__ == "__main__":
    main()
