"""What a large language model saves on a training, by doing without one saving at a time: steps and tokens per second.

PPO trains an adapter in the top layers of the model. Its frozen weights are in bfloat16 where the processor is faster
so; what prompts begin with goes through the frozen layers once; what these give is computed once for each prompt;
readings are kept while the weights stand still; equal prompts are read once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from heed.agents import PPO
from heed.policies import Adapter
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from tools.benchmark.building import network_of, new_agent, new_env, steps_in_rollout
from tools.benchmark.shortcuts import WITHOUT as SHORTCUTS
from tools.benchmark.timing import time_in_turn

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

EQUAL_PROMPTS = "without reading equal prompts once"


def _forget_prefixes(network: LanguageNetwork) -> None:
    assert network.frozen is not None
    network.frozen.prefixes = None


def _forget_frozen_layers(network: LanguageNetwork) -> None:
    network.frozen = None


def _forget_readings(network: LanguageNetwork) -> None:
    network.memory = None


def _leave(network: LanguageNetwork) -> None:
    pass


WITHOUT: dict[str, Callable[[LanguageNetwork], None]] = {
    "all": _leave,
    "without bfloat16": _leave,
    "without prefixes": _forget_prefixes,
    "without frozen layers kept": _forget_frozen_layers,
    "without readings kept": _forget_readings,
    EQUAL_PROMPTS: _leave,
}
"""For each way what its network is to do without."""


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Time rollout and update of PPO with a language model, with all savings and without each of them, in turn.

    Returns:
        For each way its steps per second, the tokens per second of prompts that the network was given and did not know,
        and how many times as long a step takes as with all.
    """
    models = {
        "float32": load_language_model(config.savings_model),
        "bfloat16": load_language_model(config.savings_model, dtype=torch.bfloat16),
    }
    agents: dict[str, PPO] = {}
    for name, leave_out in WITHOUT.items():
        kind: Any = "float32" if name == "without bfloat16" else "bfloat16"
        agents[name] = new_agent(
            new_env(config, n_envs=config.savings_envs),
            config,
            n_steps=config.savings_steps,
            model=models[kind],
            adapter=Adapter(rank=8),
            train_layers=config.savings_layers,
            precision=kind,
            weights=kind,
        )
        leave_out(network_of(agents[name]))
    steps = steps_in_rollout(agents["all"])
    tokens: dict[str, list[int]] = {name: [] for name in agents}

    def learn(name: str) -> None:
        before = network_of(agents[name]).tokens_read
        with SHORTCUTS[name]() if name == EQUAL_PROMPTS else contextlib.nullcontext():
            agents[name].learn(steps, reset_num_timesteps=False)
        tokens[name].append(network_of(agents[name]).tokens_read - before)

    ways: dict[str, Callable[[], object]] = {name: partial(learn, name) for name in agents}
    timings = time_in_turn(ways, repeats=config.rounds)
    for agent in agents.values():
        assert agent.env is not None
        agent.env.close()
    return {
        name: {
            "seconds": timing.as_json(),
            "steps_per_second": timing.per_second(steps),
            "tokens_per_second": timing.per_second(sum(tokens[name][1:]) / config.rounds),
            "times_as_long": timing.median / timings["all"].median,
        }
        for name, timing in timings.items()
    }


def report(result: dict[str, Any]) -> Iterator[Table]:
    """Yield what to print."""
    table = Table(title="training with all savings, and without one", title_justify="left")
    for column in ("", "steps/s", "tokens/s", "time of a step"):
        table.add_column(column, justify="right")
    for name, measured in result.items():
        steps, tokens = measured["steps_per_second"], measured["tokens_per_second"]
        table.add_row(
            name,
            f"{steps['median']:.1f} ({steps['low']:.1f} to {steps['high']:.1f})",
            f"{tokens['median']:.0f}",
            f"{measured['times_as_long']:.2f}x",
        )
    yield table
