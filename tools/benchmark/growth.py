"""How time grows with the length of prompts, the number of actions, the model and the number of environments.

One at a time, the others standing still. All but the environments are measured by scoring with gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tools.benchmark.building import new_agent, new_env, steps_in_rollout
from tools.benchmark.scoring import Scoring, new_model
from tools.benchmark.timing import exponent, time_in_turn

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

PROMPT_TOKENS, ACTIONS = 150, 12
"""What stands still."""


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Time each of the four, all sizes of one in turn.

    Returns:
        By what grows, `points` of `size` and `milliseconds`, for a prompt or for an environment step, and the
        `exponent` x of milliseconds ~ size^x. For a model, the size is the number of weights in its layers.
    """
    prompt_tokens = min(PROMPT_TOKENS, max(config.growth_prompts))
    model = new_model(config)
    by_prompt = {length: Scoring(config, length, ACTIONS, model) for length in config.growth_prompts}
    by_actions = {count: Scoring(config, prompt_tokens, count, model) for count in config.growth_actions}
    by_model = {}
    for layers in config.growth_layers:
        for hidden in config.growth_hidden:
            grown = new_model(config, hidden=hidden, layers=layers)
            weights = sum(p.numel() for p in grown.base_model.parameters()) - config.vocabulary * hidden
            by_model[weights] = Scoring(config, prompt_tokens, ACTIONS, grown)
    return {
        "prompt tokens": _time_scoring(config, by_prompt),
        "actions": _time_scoring(config, by_actions),
        "weights": _time_scoring(config, by_model),
        "environments": _time_environments(config),
    }


def _time_scoring(config: BenchmarkConfig, scorings: Mapping[int, Scoring]) -> dict[str, Any]:
    ways = {
        size: partial(scoring.run, partial(scoring.ours, scoring.chosen), True) for size, scoring in scorings.items()
    }
    return _time(ways, repeats=config.repeats, count=config.batch)


def _time_environments(config: BenchmarkConfig) -> dict[str, Any]:
    """Time rollout and update with different numbers of environments, in rollouts of the same size."""
    steps = config.n_envs * config.n_steps
    agents = {}
    for n_envs in config.growth_envs:
        agents[n_envs] = new_agent(new_env(config, n_envs=n_envs), config, n_steps=max(2, steps // n_envs))
    # With numbers of environments that do not divide the rollout it comes out a little smaller, for all the same.
    ways = {
        n_envs: partial(agent.learn, steps_in_rollout(agent), reset_num_timesteps=False)
        for n_envs, agent in agents.items()
    }
    measured = _time(ways, repeats=config.rounds, count=steps)
    for agent in agents.values():
        assert agent.env is not None
        agent.env.close()
    return measured


def _time(ways: Mapping[int, Callable[[], object]], *, repeats: int, count: int) -> dict[str, Any]:
    timings = time_in_turn({str(size): way for size, way in ways.items()}, repeats=repeats)
    sizes, points = sorted(ways), []
    for size in sizes:
        seconds = timings[str(size)].as_json()
        points.append({"size": size, "milliseconds": {n: 1e3 * seconds[n] / count for n in ("median", "low", "high")}})
    return {"points": points, "exponent": exponent(sizes, [timings[str(size)].median for size in sizes])}


def report(result: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what to print."""
    for name, grown in result.items():
        unit = "an environment step" if name == "environments" else "a prompt, forward + backward"
        power = "" if grown["exponent"] is None else f": they grow as {name} to the power of {grown['exponent']:.2f}"
        yield f"milliseconds for {unit}{power}"
        table = Table()
        table.add_column(name, justify="right")
        table.add_column("ms", justify="right")
        for point in grown["points"]:
            spent = point["milliseconds"]
            table.add_row(f"{point['size']:,}", f"{spent['median']:.2f} ({spent['low']:.2f} to {spent['high']:.2f})")
        yield table
