"""`heed train --help`: the options in titled panels, what a beginner needs first, with the defaults of the agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heed.agents.registry import ALGORITHMS
from heed.training.command_line.constructor_defaults import constructor_defaults
from heed.training.errors import ConfigurationError
from heed.training.option_groups import ALL_AGENTS, LANGUAGE_AGENTS
from heed.training.options import OPTION_GROUPS, TrainConfig
from heed.training.settings import option_of

FIRST = ("env", "agent", "model", "steps", "run_dir", "resume", "seed", "n_envs", "learning_rate", "eval_episodes")
"""What a beginner needs, in this order."""
CONSTRUCTOR_OPTIONS = (
    *("learning_rate", "gamma", "batch_size"),
    *("rollout_steps", "epochs", "ent_coef"),
    *("priority_exponent", "margin_coef"),
)
"""Options that the constructor of an agent has a default of, which `--help` shows."""


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
    groups: Any = OPTION_GROUPS
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
    own = constructor_defaults(ALGORITHMS[agent].place) if agent in ALGORITHMS else {}
    shown = {option: told for name, told in own.items() if (option := option_of(name, agent)) in CONSTRUCTOR_OPTIONS}
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
