"""`heed benchmark`: how fast actions are scored, and where the time of a training goes.

Everything runs in one process, the ways that are compared in turn, again and again, so a machine that is slow for a
while is slow for all of them. Figures are medians with their quartiles; ratios are what to compare across machines.
"""

from __future__ import annotations

import contextlib
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import tyro

from heed.scripts.errors import ConfigurationError, as_sentence

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from heed.policies.scoring import PackedScorer

BATCH = 16
"""Prompts that are scored together."""
ACTION_TOKENS = 3
"""Tokens of an action text in the benchmark; half of the actions share their first."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Measure the scoring of actions and the phases of a training; write benchmark.json and benchmark.png."""

    out: Path = Path("runs/benchmark")
    """Folder for the results."""
    prompts: tuple[int, ...] = (60, 150, 400)
    """Prompt lengths, in tokens."""
    actions: tuple[int, ...] = (6, 12, 20, 40)
    """Numbers of actions."""
    hidden: int = 128
    """Width of the model that is scored with."""
    layers: int = 4
    """Its layers."""
    repeats: int = 5
    """How often each figure is measured, after one run that is not counted."""
    env: str = "BabyAI-GoToLocal-v0"
    """Environment of the training."""
    rollouts: int = 4
    """PPO rollouts that are timed; each is 2048 steps."""
    threads: int = 0
    """Threads that torch may use (0: as many as it likes)."""
    seed: int = 0
    """Seed of prompts, actions and training."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        for name in ("hidden", "layers", "repeats", "rollouts"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name} is {getattr(self, name)}, but must be at least 1.")
        if min(*self.prompts, *self.actions, 2) < 2:
            raise ConfigurationError("--prompts and --actions must all be at least 2.")
        if self.hidden % 8:
            raise ConfigurationError(f"--hidden is {self.hidden}, but must be a multiple of 8.")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one measurement: the median and the quartiles over its repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Summarise repeats."""
        if len(seconds) == 1:
            return cls(median=seconds[0], low=seconds[0], high=seconds[0])
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median=median, low=low, high=high)


def time_in_turn(ways: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, Timing]:
    """Time each way `repeats` times, one after the other in turn, after one run of each that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return {name: Timing.of(times) for name, times in seconds.items()}


def benchmark_scoring(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """Time three ways to score actions, with and without gradients, for every prompt length and number of actions.

    - *naive*: one full forward for each prompt and action, log-softmax over every position, as published code does;
    - *packed*: what Heed does;
    - *ideal*: one forward over prompts and trie nodes as if they were one text, the vocabulary's logits only where a
      score is read. It scores nothing, and is what the work cannot be done in less than, but for the last layer.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from heed.policies.scoring import ActionTrie, PackedScorer

    torch.manual_seed(config.seed)
    llama = LlamaConfig(
        vocab_size=2000,
        hidden_size=config.hidden,
        intermediate_size=2 * config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=4,
        max_position_embeddings=max(config.prompts) + ACTION_TOKENS,
    )
    model: PreTrainedModel = LlamaForCausalLM._from_config(llama, attn_implementation="sdpa")
    model.train(False)
    rows = []
    for length in config.prompts:
        prompts = torch.randint(0, 2000, (BATCH, length))
        for count in config.actions:
            # Two actions to a first token, so the trie has something to merge.
            actions = [[10 + index // 2, 500 + index, 1000 + index] for index in range(count)]
            scorer = PackedScorer(ActionTrie.build(actions))
            ways: dict[str, Callable[[], Tensor]] = {
                "naive": partial(_naive, model, prompts, actions),
                "packed": partial(_packed, scorer, model, prompts),
                "ideal": partial(_ideal, model, prompts, scorer.n_nodes),
            }
            for backward in (False, True):
                timings = time_in_turn({n: _run(way, backward) for n, way in ways.items()}, repeats=config.repeats)
                rows.append(
                    {
                        "prompt_tokens": length,
                        "actions": count,
                        "backward": backward,
                        "seconds": {name: vars(timing) for name, timing in timings.items()},
                        "speed_up_over_naive": timings["naive"].median / timings["packed"].median,
                        "percent_of_ideal": 100 * timings["ideal"].median / timings["packed"].median,
                    }
                )
    return rows


def _run(way: Callable[[], Tensor], backward: bool) -> Callable[[], object]:
    import torch

    def forward_only() -> None:
        with torch.no_grad():
            way()

    return (lambda: way().sum().backward()) if backward else forward_only


def _naive(model: PreTrainedModel, prompts: Tensor, actions: list[list[int]]) -> Tensor:
    """Score each action with a batch of its own, every position's logits included."""
    import torch

    scores = []
    for action in actions:
        tokens = torch.cat([prompts, torch.tensor(action).expand(len(prompts), -1)], dim=1)
        log_probabilities = torch.log_softmax(model(input_ids=tokens, use_cache=False).logits, dim=-1)
        behind = log_probabilities[:, prompts.shape[1] - 1 : -1]
        scores.append(behind.gather(2, tokens[:, prompts.shape[1] :, None]).mean(dim=(1, 2)))
    return torch.stack(scores, dim=1)


def _packed(scorer: PackedScorer, model: PreTrainedModel, prompts: Tensor) -> Tensor:
    _, scores = scorer(model, prompts)
    return cast("Tensor", scores)


def _ideal(model: PreTrainedModel, prompts: Tensor, nodes: int) -> Tensor:
    """Forward as many tokens as there are, with no mask, and read as many logits as are needed."""
    import torch

    from heed.policies.scoring import token_logits

    tokens = torch.cat([prompts, prompts.new_ones(len(prompts), nodes)], dim=1)
    hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    return torch.log_softmax(token_logits(model, hidden[:, prompts.shape[1] - 1 :]), dim=-1)


def benchmark_training(config: BenchmarkConfig) -> dict[str, Any]:
    """Time PPO with `heed-tiny`, phase by phase.

    Returns:
        Steps per second, and each phase's share of the time, in percent.
    """
    import torch

    from heed.agents import PPO
    from heed.envs.make import make
    from heed.envs.verbalize import VerbalizedEnv
    from heed.policies.network import LanguageNetwork
    from heed.policies.prompt import PromptEncoder
    from heed.scripts.stopwatch import Stopwatch

    env = make(config.env, n_envs=32, seed=config.seed)
    agent = PPO(env=env, seed=config.seed, device="cpu" if not torch.cuda.is_available() else "cuda")
    rollout = agent.n_steps * agent.n_envs
    agent.learn(rollout)  # not counted: first calls, and prompts that are new to the encoder
    watch = Stopwatch()
    optimizer = agent.policy.optimizer
    began = time.perf_counter()
    with contextlib.ExitStack() as wrapped:
        for owner, method, name in (
            (type(env), "step_wait", "environment"),
            (VerbalizedEnv, "_words", "verbalise"),
            (PromptEncoder, "__call__", "tokenise"),
            (LanguageNetwork, "forward", lambda: "train forward" if torch.is_grad_enabled() else "rollout forward"),
            (torch.Tensor, "backward", "backward"),
            (optimizer, "step", "optimiser"),
        ):
            wrapped.enter_context(watch.around(owner, method, name))
        agent.learn(config.rollouts * rollout, reset_num_timesteps=False)
    seconds = time.perf_counter() - began
    env.close()
    phases = {**watch.seconds, "rest": seconds - sum(watch.seconds.values())}
    return {
        "env": config.env,
        "steps": config.rollouts * rollout,
        "steps_per_second": config.rollouts * rollout / seconds,
        "percent": {name: 100 * spent / seconds for name, spent in sorted(phases.items(), key=lambda item: -item[1])},
    }


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure everything, print it, and write `benchmark.json` and `benchmark.png` into `config.out`."""
    import json

    import torch
    from rich.console import Console

    if config.threads:
        torch.set_num_threads(config.threads)
    console = Console(highlight=False)
    with console.status("scoring"):
        scoring = benchmark_scoring(config)
    with console.status("training"):
        training = benchmark_training(config)
    result = {
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "model": {"hidden": config.hidden, "layers": config.layers, "batch": BATCH},
        "scoring": scoring,
        "training": training,
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_PER_MIB),
    }
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "benchmark.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _draw(result, config.out / "benchmark.png")
    _print(console, result)
    console.print(f"  {config.out / 'benchmark.json'}\n  {config.out / 'benchmark.png'}")
    return result


_RSS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kibibytes


def _print(console: Any, result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="scoring actions", title_justify="left")
    for column in ("prompt tokens", "actions", "", "packed, ms", "speed-up over naive", "percent of ideal"):
        table.add_column(column, justify="right")
    for row in result["scoring"]:
        packed = row["seconds"]["packed"]
        table.add_row(
            str(row["prompt_tokens"]),
            str(row["actions"]),
            "forward + backward" if row["backward"] else "forward",
            f"{1e3 * packed['median']:.1f} ({1e3 * packed['low']:.1f} to {1e3 * packed['high']:.1f})",
            f"{row['speed_up_over_naive']:.1f}x",
            f"{row['percent_of_ideal']:.0f} %",
        )
    console.print(table)
    training = result["training"]
    shares = ", ".join(f"{name} {share:.0f} %" for name, share in training["percent"].items())
    console.print(f"training on {training['env']}: {training['steps_per_second']:.0f} steps/s ({shares})")
    console.print(f"peak memory: {result['peak_memory_mib']} MiB")


def _draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for length in sorted({row["prompt_tokens"] for row in result["scoring"]}):
        for axes, backward, title in ((left, False, "forward"), (middle, True, "forward + backward")):
            rows = [r for r in result["scoring"] if r["prompt_tokens"] == length and r["backward"] == backward]
            speed_ups = [row["speed_up_over_naive"] for row in rows]
            axes.plot([row["actions"] for row in rows], speed_ups, marker="o", label=f"{length} tokens")
            axes.set_title(f"speed-up over naive, {title}", fontsize=10)
            axes.set_xlabel("actions")
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
    left.legend(fontsize=8, frameon=False)
    percent = result["training"]["percent"]
    right.barh(list(percent), list(percent.values()))
    right.invert_yaxis()
    right.set_title(f"training, {result['training']['steps_per_second']:.0f} steps/s: percent of time", fontsize=10)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    """Run `heed benchmark` with the command line's arguments."""
    with as_sentence():
        benchmark(tyro.cli(BenchmarkConfig, args=arguments, prog="heed benchmark"))


if __name__ == "__main__":
    main()
