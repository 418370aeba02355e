"""`heed train --help`: the options in titled panels, what a beginner needs first, with the defaults of the agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heed.training.errors import ConfigurationError
from heed.training.option_groups import (
    ALL_AGENTS,
    LANGUAGE_AGENTS,
    AdapterOptions,
    DeepQOptions,
    EnvironmentOptions,
    ExplorationOptions,
    LanguageModelOptions,
    MinibatchOptions,
    PolicyGradientOptions,
    RunOptions,
    TrackingOptions,
)
from heed.training.options import TrainConfig

FIRST = ("env", "agent", "model", "steps", "run_dir", "resume", "seed", "n_envs", "learning_rate", "eval_episodes")
"""What a beginner needs, in this order."""
ORDER = [
    *(RunOptions, EnvironmentOptions, LanguageModelOptions, AdapterOptions, PolicyGradientOptions, MinibatchOptions),
    *(DeepQOptions, ExplorationOptions, TrackingOptions),
]
"""The panels behind it."""

AGENT_DEFAULTS: dict[str, dict[str, Any]] = {
    "learning_rate": {"ppo": 1e-3, "a2c": 1e-3, "reinforce": 1e-3, "grpo": 1e-3, "dqn": 5e-4, "q-learning": 0.5},
    "gamma": dict.fromkeys(ALL_AGENTS, 0.95),
    "rollout_steps": {"ppo": 64, "a2c": 16, "reinforce": 64, "grpo": 64},
    "epochs": {"ppo": 4, "a2c": 1, "reinforce": 1, "grpo": 4},
    "ent_coef": {"ppo": 0.01, "a2c": 0.01, "reinforce": 0.01, "grpo": 0.01},
    "batch_size": {"ppo": 512, "grpo": 512, "dqn": 64},
    "priority_exponent": {"dqn": 0.0},
    "margin_coef": {"dqn": 0.0},
}
"""What the agents' constructors have, where an option is left out. They are not asked: their import takes seconds."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Options that `--help` shows together."""

    title: str
    """What stands before the word "options"."""
    description: str
    names: tuple[str, ...]


def panels_of(config_class: type[TrainConfig], agent: str | None) -> list[Panel]:
    """Return the panels of the command's options, in their order.

    Args:
        config_class: `TrainConfig`, or what adds a command's own options to it.
        agent: leave out what is not for it; None for the options of all.
    """
    groups: list[Any] = ORDER
    inherited = {field.name for field in dataclasses.fields(TrainConfig)}
    own = tuple(field.name for field in dataclasses.fields(config_class) if field.name not in inherited)
    first = tuple(name for name in FIRST if name != "model" or agent in (None, *LANGUAGE_AGENTS))
    panels = [Panel(title="First", description="What most trainings need.", names=(*own, *first))]
    for group in groups:
        if agent is not None and agent not in group._agents:
            continue
        names = [field.name for field in dataclasses.fields(group) if field.name not in FIRST]
        whose = "" if len(group._agents) in (1, len(ALL_AGENTS)) else f" For {', '.join(group._agents)}."
        panels.append(Panel(title=group._title, description=f"{group.__doc__}{whose}", names=tuple(names)))
    return panels


def shown_defaults(config_class: type[TrainConfig], given: Mapping[str, Any]) -> dict[str, str]:
    """Return what an option is where it is left out, of those that are None by default.

    Args:
        config_class: as in `panels_of`.
        given: options that are known already, the agent among them.
    """
    agent = given.get("agent", TrainConfig.agent)
    shown = {name: str(of[agent]) for name, of in AGENT_DEFAULTS.items() if agent in of}
    if agent in LANGUAGE_AGENTS and "learning_rate" in shown:
        shown["learning_rate"] += ", falling to a tenth"
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    try:
        config = TrainConfig(**{name: value for name, value in given.items() if name in names})
    except ConfigurationError:  # is told once the whole command line is read
        config = TrainConfig(agent=agent)
    shown |= {name: str(value) for name, value in config._defaults()}
    if config.stop_at_success is None and float(shown["stop_at_success"]) > 1:
        shown["stop_at_success"] = "never"
    if shown.get("exploration_temperature") == "None":
        shown["exploration_temperature"] = "0"
    return shown
