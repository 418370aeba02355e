"""Trainings with Heed against trainings with Stable-Baselines3 and transformers alone (`references.py`).

The same model, environments and settings of PPO. The larger model has shorter rollouts, and the way that scores
actions one by one shorter ones still, with minibatches no larger than they are: what it does for a step is the same,
but a full rollout would take it minutes and its minibatches tens of gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.table import Table
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.vec_env import VecEnv

from heed.policies.models.language_model import LanguageModel
from heed.policies.prompts.prompt import PromptVecEnv
from tools.benchmark.building import (
    batch_size,
    language_models,
    new_agent,
    new_env,
    ppo_defaults,
    steps_in_rollout,
)
from tools.benchmark.references import LastHiddenState, ScoringPolicy
from tools.benchmark.timing import time_in_turn

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

RATIOS = {
    "heed linear / sb3 linear": ("heed linear", "sb3 linear"),
    "heed score / sb3 linear": ("heed score", "sb3 linear"),
    "heed score / sb3 score": ("heed score", "sb3 score"),
}
VALUE_HIDDEN = 64
"""Width of the value network's hidden layer, which is the default of Heed's policy."""


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Time rollout and update of all ways in turn, with heed-tiny and with the larger model."""
    results = {}
    for model, n_steps in zip(language_models(config).values(), (config.n_steps, config.larger_steps), strict=True):
        agents = new_agents(config, model, n_steps)
        steps = {name: steps_in_rollout(agent) for name, agent in agents.items()}
        ways: dict[str, Callable[[], object]] = {
            name: partial(agent.learn, steps[name], reset_num_timesteps=False) for name, agent in agents.items()
        }
        timings = time_in_turn(ways, repeats=config.rounds, patience={"sb3 score": 5 * config.patience})
        for agent in agents.values():
            agent.env.close()
        speeds = {name: timing.per_second(steps[name]) for name, timing in timings.items()}
        results[model.name] = {
            "steps": steps,
            "seconds": {name: timing.as_json() for name, timing in timings.items()},
            "steps_per_second": speeds,
            "ratios": {
                name: speeds[ours]["median"] / speeds[theirs]["median"] for name, (ours, theirs) in RATIOS.items()
            },
        }
    return results


def new_agents(config: BenchmarkConfig, model: LanguageModel, n_steps: int) -> dict[str, Any]:
    """Return an agent of each way, every one with environments and weights of its own."""
    env = new_env(config)
    actions = model.action_tokens(env.action_space.texts)  # type: ignore[attr-defined]
    env.close()
    linear = {"features_extractor_class": LastHiddenState, "features_extractor_kwargs": {"model": model.copy().model}}
    scoring = {"model": model.copy().model, "actions": actions}
    naive_steps = min(config.naive_steps, n_steps)
    return {
        "heed score": new_agent(new_env(config), config, n_steps=n_steps, model=model, head="score"),
        "heed linear": new_agent(new_env(config), config, n_steps=n_steps, model=model, head="linear"),
        "sb3 linear": _plain_agent(config, new_env(config), model, "MlpPolicy", linear, n_steps),
        "sb3 score": _plain_agent(config, new_env(config), model, ScoringPolicy, scoring, naive_steps),
    }


def _plain_agent(
    config: BenchmarkConfig, env: VecEnv, model: LanguageModel, policy: Any, policy_kwargs: dict[str, Any], n_steps: int
) -> SB3PPO:
    settings = {**ppo_defaults(), "batch_size": batch_size(env, n_steps)}
    heads = {"net_arch": {"pi": [], "vf": [VALUE_HIDDEN]}, "ortho_init": False}
    return SB3PPO(
        policy,
        PromptVecEnv(env, model.encoder()),
        n_steps=n_steps,
        policy_kwargs={**policy_kwargs, **heads},
        seed=config.seed,
        device=config.device,
        **settings,
    )


def report(result: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what to print."""
    table = Table(title="training, steps/s", title_justify="left")
    ways = list(next(iter(result.values()))["steps_per_second"])
    for column in ("", *result):
        table.add_column(column, justify="right")
    for way in ways:
        speeds = [measured["steps_per_second"][way] for measured in result.values()]
        table.add_row(way, *(f"{s['median']:.1f} ({s['low']:.1f} to {s['high']:.1f})" for s in speeds))
    yield table
    for model, measured in result.items():
        yield f"{model}: " + ", ".join(f"{name} {ratio:.1f}x" for name, ratio in measured["ratios"].items())
