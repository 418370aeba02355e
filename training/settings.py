"""`--set name=value`: arguments of the agent's constructor, or of its policy's, that have no option of their own."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from inspect import signature
from typing import Any, Literal

from heed.training.command_line.named_values import named_values
from heed.training.errors import ConfigurationError
from heed.training.option_groups import LANGUAGE_AGENTS, POLICY_GRADIENTS
from heed.training.options import TrainConfig

OPTION_OF = {
    "n_epochs": "epochs",
    "exploration_initial_eps": "exploration_start",
    "exploration_final_eps": "exploration_end",
    "learning_rates": "head_learning_rate",
}
"""Arguments whose option is called otherwise."""
NOT_SET = {
    *("self", "env", "policy", "policy_kwargs", "stats_window_size", "tensorboard_log", "verbose"),
    *("_init_setup_model", "observation_space", "action_space", "lr_schedule", "use_sde"),
}
"""Arguments that a training sets itself."""


def settings_of(config: TrainConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `--set` says: arguments of the agent, and of its policy.

    Raises:
        ConfigurationError: if there is no such argument, it has an option, or the value is of another type.
    """
    from heed.agents import AGENTS

    agent_class: Any = AGENTS[config.agent]
    of_agent = _parameters(agent_class)
    of_policy: dict[str, Any] = {}
    if config.agent in LANGUAGE_AGENTS:
        from heed.policies import LanguageActorCriticPolicy, LanguageQPolicy

        of_policy = _parameters(LanguageQPolicy if config.algorithm.replay_buffer else LanguageActorCriticPolicy)
    agent: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    for name, value in named_values("--set", config.set).items():
        option = option_of(name, config.agent)
        if option is not None:
            raise ConfigurationError(f"--set {name}: it has an option of its own, --{option.replace('_', '-')}.")
        known = {n for n in {**of_agent, **of_policy} if option_of(n, config.agent) is None}
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=3)
            raise ConfigurationError(
                f"--set {name}: neither {config.agent} nor its policy has such an argument. "
                + (f"Did you mean {' or '.join(close)}?" if close else f"There are {', '.join(sorted(known))}.")
            )
        kind = of_agent.get(name, of_policy.get(name))
        if name == "optimizer_class":
            value = _optimizer(value)
        elif not _fits(value, kind):
            raise ConfigurationError(f"--set {name}: the value must be {_told(kind)}, but is {value!r}.")
        (agent if name in of_agent else policy)[name] = value
    return agent, policy


def _parameters(of: Any) -> dict[str, Any]:
    """Return the annotations of a constructor's parameters by name, `Any` where they cannot be told."""
    try:
        kinds = typing.get_type_hints(of.__init__)
    except NameError:  # of a module that is imported for type checkers alone
        kinds = {}
    named = [name for name, one in signature(of.__init__).parameters.items() if one.kind is not one.VAR_KEYWORD]
    return {name: kinds.get(name, Any) for name in named if name not in NOT_SET}


def option_of(name: str, agent: str) -> str | None:
    """Return the option of `heed train` that gives an argument of an agent or its policy; None if there is none."""
    if name == "n_steps":  # dqn's are of its returns, and have none
        return "rollout_steps" if agent in POLICY_GRADIENTS else None
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    return OPTION_OF.get(name, name if name in fields else None)


def _optimizer(name: Any) -> Any:
    import torch

    found = getattr(torch.optim, str(name).removeprefix("torch.optim."), None)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ConfigurationError(f"--set optimizer_class: torch.optim has no optimizer {name!r}, such as AdamW.")
    return found


def _fits(value: Any, kind: Any) -> bool:
    """Say whether a value of YAML is of an annotated type; of what YAML has none of, such as a function, it is not."""
    if kind is Any:
        return True
    origin = typing.get_origin(kind) or kind
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(kind))
    if origin is Literal:
        return value in typing.get_args(kind)
    if origin in (int, float):
        numbers = (int,) if origin is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool) and math.isfinite(value)
    if origin is types.NoneType:
        return value is None
    return origin in (bool, str, dict, list, tuple) and isinstance(value, list if origin is tuple else origin)


def _told(kind: Any) -> str:
    """Return a type in words."""
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
    origin = typing.get_origin(kind) or kind
    if origin in (typing.Union, types.UnionType):
        told = [_told(one) for one in typing.get_args(kind)]
        return " or ".join(one for one in dict.fromkeys(told) if one) or "of another type"
    if origin is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    return "null" if origin is types.NoneType else names.get(origin, "")
