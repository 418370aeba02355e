"""What is saved by keeping what was computed: histories in rollouts, and frozen layers in updates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.table import Table

from heed.policies.caches import frozen, prefixes
from heed.policies.models.language_model import LanguageModel
from heed.policies.networks import text_network as network
from tools.benchmark.building import language_models, network_of, new_agent, new_env, steps_in_rollout
from tools.benchmark.timing import Timing, seconds_of, time_in_turn, wait_for_device
from tools.stopwatch import Stopwatch

if TYPE_CHECKING:
    from heed.agents import PPO
    from tools.benchmark.command import BenchmarkConfig

PROMPT_TOKENS = 1024
"""How long prompts with a history may be."""


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure with and without what is kept: tokens and seconds of rollouts, seconds of epochs."""
    models = language_models(config)
    return {
        "history": measure_history(config),
        "frozen": {name: measure_frozen(config, model, train_layers=0) for name, model in models.items()},
        "partly frozen": {name: measure_frozen(config, model, train_layers=1) for name, model in models.items()},
    }


def measure_history(config: BenchmarkConfig) -> dict[str, Any]:
    """Count the tokens that rollouts with a history put through heed-tiny, its weights standing still.

    Returns:
        Beside the tokens, the seconds of a rollout and those of its policy network: what else a rollout takes,
        above all the tokeniser's work on prompts that are new at every step, is the same with the memory and without.
    """
    ways = ("kept", "recomputed")
    tokens: dict[str, int] = {}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    network_seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(config.rounds):
        for way in ways:
            env = new_env(config, history=config.history)
            agent = new_agent(env, config, n_steps=config.history_steps, max_prompt_tokens=PROMPT_TOKENS)
            if way == "recomputed":
                network_of(agent).prefixes = None
            watch = Stopwatch(wait_for_device)
            with counted_tokens() as count, watch.around(network.LanguageNetwork, "forward", "network"):
                seconds[way].append(seconds_of(rollout_of(agent)))
            network_seconds[way].append(watch.seconds["network"])
            tokens[way] = count[0]
            env.close()
    timings = {way: Timing.of(seconds[way]) for way in ways}
    network_timings = {way: Timing.of(network_seconds[way]) for way in ways}
    return {
        "steps": config.history_steps * config.n_envs,
        "tokens": tokens,
        "tokens_ratio": tokens["recomputed"] / tokens["kept"],
        "seconds": {way: timing.as_json() for way, timing in timings.items()},
        "ratio": timings["recomputed"].median / timings["kept"].median,
        "network_seconds": {way: timing.as_json() for way, timing in network_timings.items()},
        "network_ratio": network_timings["recomputed"].median / network_timings["kept"].median,
    }


def rollout_of(agent: PPO) -> Callable[[], object]:
    """Return what collects a rollout and trains nothing, with new episodes in all environments."""
    _, callback = agent._setup_learn(steps_in_rollout(agent))
    assert agent.env is not None
    return partial(agent.collect_rollouts, agent.env, callback, agent.rollout_buffer, agent.n_steps)


@contextlib.contextmanager
def counted_tokens() -> Iterator[list[int]]:
    """Count the tokens, padding and nodes of tries included, that go through `read_hidden_states` inside."""
    count = [0]
    # Each of these modules has the function under a name of its own.
    originals = [(module, module.read_hidden_states) for module in (network, prefixes, frozen)]

    def counting(original: Callable[..., Any], model: Any, tokens: Any, *args: Any, **kwargs: Any) -> Any:
        count[0] += tokens.numel()
        return original(model, tokens, *args, **kwargs)

    for module, original in originals:
        setattr(module, "read_hidden_states", partial(counting, original))  # noqa: B010 - mypy knows it as a function
    try:
        yield count
    finally:
        for module, original in originals:
            setattr(module, "read_hidden_states", original)  # noqa: B010


def measure_frozen(config: BenchmarkConfig, model: LanguageModel, *, train_layers: int) -> dict[str, Any]:
    """Time epochs over a rollout with only the heads or the top layer training.

    With nothing of the model training the whole readings of prompts are kept, otherwise the states below.
    """
    env = new_env(config)
    agent = new_agent(
        env,
        config,
        n_steps=config.n_steps,
        n_epochs=1,
        model=model,
        train_layers=train_layers,
        head="score" if train_layers else "linear",
    )
    agent.learn(steps_in_rollout(agent))
    reader = network_of(agent)
    where = "frozen" if train_layers else "memory"
    kept = getattr(reader, where)

    def train(memory: object) -> None:
        setattr(reader, where, memory)
        agent.train()

    ways = {"kept": partial(train, kept), "recomputed": partial(train, None)}
    timings = time_in_turn(ways, repeats=config.rounds)
    env.close()
    return {
        "seconds": {way: timing.as_json() for way, timing in timings.items()},
        "ratio": timings["recomputed"].median / timings["kept"].median,
    }


def report(result: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what to print."""
    history = result["history"]
    table = Table(title="seconds with what is kept, and without", title_justify="left")
    for column in ("", "kept", "recomputed", "ratio"):
        table.add_column(column, justify="right")
    measured = {
        "rollout with a history": history,
        "its policy network": {"seconds": history["network_seconds"], "ratio": history["network_ratio"]},
    }
    for what in ("frozen", "partly frozen"):
        measured |= {f"epoch, {what}, {model}": figures for model, figures in result[what].items()}
    for name, figures in measured.items():
        seconds = [f"{figures['seconds'][way]['median']:.3f}" for way in ("kept", "recomputed")]
        table.add_row(name, *seconds, f"{figures['ratio']:.1f}x")
    yield table
    tokens = history["tokens"]
    yield (
        f"tokens of {history['steps']} steps with a history: {tokens['kept']:,} with the memory of prefixes, "
        f"{tokens['recomputed']:,} without, {history['tokens_ratio']:.1f}x"
    )
