"""From the options of `heed train` to the arguments of an agent."""

from __future__ import annotations

import dataclasses
from inspect import signature
from pathlib import Path
from typing import Any

from heed.agents import AGENTS
from heed.agents.exploration import STRATEGIES, EpsilonGreedy, Exploration
from heed.agents.schedules import SCHEDULES, Warmup
from heed.envs.contract import ContractError, fulfilled_instructions_of
from heed.envs.make import make_env
from heed.policies.adapters.adapters import Adapter, require_peft
from heed.policies.adapters.parameter_groups import LearningRates
from heed.policies.model_options import MODEL_OPTIONS
from heed.policies.prompts.template import CHAT, Chat, PromptTemplate
from heed.training.errors import ConfigurationError
from heed.training.option_groups import (
    LANGUAGE_AGENTS,
    MINIBATCH_LEARNERS,
    POLICY_GRADIENTS,
    REPLAY_LEARNERS,
    VALUE_LEARNERS,
)
from heed.training.options import TOKEN_LEARNERS, TrainConfig
from heed.training.settings import settings_of

CLONED_LEARNING_RATE, CLONED_ENT_COEF = 3e-4, 0.003
"""After cloning: smaller steps and a smaller entropy bonus, so that the clone is fixed rather than unlearned."""
DEFAULT_HINDSIGHT = 4
"""Instructions that DQN relabels an episode with, where the environment tells which it fulfilled."""
POLICY_OPTIONS = (
    *("model", "quantize", "segments", "max_prompt_tokens", "words_only"),
    *(name for name in MODEL_OPTIONS if name not in ("adapter", "learning_rates")),
)
"""Options of a training that the policy takes under the same name."""


def agent_arguments(config: TrainConfig) -> dict[str, Any]:
    """Return the arguments of the configuration's agent, but for its environment, seed and device."""
    arguments: dict[str, Any] = {"gamma": config.gamma, "learning_rate": _learning_rate(config)}
    if config.agent in POLICY_GRADIENTS:
        names = ("batch_tokens", "reference_coef", "target_kl", "group_size")  # None where the agent has none of it
        arguments |= {name: getattr(config, name) for name in names}
        arguments |= {"ent_coef": _ent_coef(config), "n_epochs": config.epochs, "n_steps": config.rollout_steps}
    if config.agent in POLICY_GRADIENTS and config.algorithm.value_function:
        arguments["value_warmup_steps"] = config.value_warmup_steps
    if config.agent in MINIBATCH_LEARNERS:
        arguments["batch_size"] = config.batch_size
    if config.agent in TOKEN_LEARNERS and not config.algorithm.groups:
        assert config.n_envs is not None
        rollout = config.n_envs * (config.rollout_steps or _default(config, "n_steps"))
        arguments["batch_size"] = _batch_size(rollout, config.batch_size or _default(config, "batch_size"))
    if config.agent in REPLAY_LEARNERS:
        arguments |= {name: getattr(config, name) for name in ("priority_exponent", "margin_coef")}
        arguments["hindsight"] = _default_hindsight(config) if config.hindsight is None else config.hindsight
    set_of_agent, set_of_policy = settings_of(config)
    if config.agent in VALUE_LEARNERS:
        arguments["exploration"] = _exploration(config, set_of_agent.get("exploration_fraction"))
    given = {name: value for name, value in arguments.items() if value is not None}
    if config.agent in LANGUAGE_AGENTS:
        given |= {} if config.micro_batch_tokens is None else {"micro_batch_tokens": config.micro_batch_tokens}
        given["policy_kwargs"] = {name: getattr(config, name) for name in POLICY_OPTIONS}
        given["policy_kwargs"] |= {"adapter": _adapter(config), "learning_rates": _learning_rates(config)}
        if config.template is not None:
            given["policy_kwargs"]["template"] = _template(config.template, config.system_prompt)
        if config.agent in REPLAY_LEARNERS:
            given["policy_kwargs"]["dueling"] = config.dueling
        given["policy_kwargs"] |= set_of_policy
    return given | set_of_agent


def discount(config: TrainConfig) -> float:
    """Return the discount that the agent is going to have."""
    return float(_default(config, "gamma") if config.gamma is None else config.gamma)


def _default(config: TrainConfig, name: str) -> Any:
    """Return the agent's own default."""
    return signature(AGENTS[config.agent]).parameters[name].default


def _learning_rate(config: TrainConfig) -> Any:
    """Return a number, a schedule, or None for the agent's own."""
    schedule = config.learning_rate_schedule or ("linear" if config.clones and config.learning_rate is None else None)
    rate: Any = config.learning_rate
    if schedule is not None:
        start = _start_of_learning_rate(config)
        rate = SCHEDULES[schedule](start, start / 10)
    if not config.warmup_steps:
        return rate
    assert config.steps is not None
    if config.warmup_steps >= config.steps:
        raise ConfigurationError(
            f"--warmup-steps is {config.warmup_steps}, but must leave something of the {config.steps} steps."
        )
    rate = _default(config, "learning_rate") if rate is None else rate
    return Warmup(rate if callable(rate) else SCHEDULES["constant"](rate, rate), config.warmup_steps / config.steps)


def _start_of_learning_rate(config: TrainConfig) -> float:
    """Return what the learning rate begins with."""
    start = config.learning_rate
    if start is None and config.clones:
        start = CLONED_LEARNING_RATE
    if start is None:
        own = _default(config, "learning_rate")
        start = own(1.0) if callable(own) else own
    return float(start)


def _learning_rates(config: TrainConfig) -> LearningRates | None:
    """Return how it differs from one part of the policy to another, or None where it does not."""
    start = _start_of_learning_rate(config)
    heads, value = config.head_learning_rate or start, config.value_learning_rate or start
    rates = LearningRates(heads=heads / start, value=value / start, layer_decay=config.layer_decay)
    return None if rates == LearningRates() else rates


def _ent_coef(config: TrainConfig) -> Any:
    """Return a number, a schedule, or None for the agent's own."""
    start = CLONED_ENT_COEF if config.ent_coef is None and config.clones else config.ent_coef
    if config.ent_coef_end is None:
        return start
    return SCHEDULES["linear"](_default(config, "ent_coef") if start is None else start, config.ent_coef_end)


def _adapter(config: TrainConfig) -> Adapter | None:
    """Return what is to train instead of the language model's weights.

    Raises:
        AdapterError: if it cannot be had.
    """
    if config.adapter is None:
        return None
    if config.adapter not in ("prompt", "prefix"):
        require_peft()
    named = {"rank": config.adapter_rank, "alpha": config.adapter_alpha, "virtual_tokens": config.virtual_tokens}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    return Adapter(method=config.adapter, targets=config.adapter_targets, **given)


def _template(name: str, system: str | None) -> PromptTemplate | Chat:
    """Return the template of a file, or the tokenizer's own for chats.

    Raises:
        TemplateError: if the file holds none.
    """
    return Chat(system=system) if name == CHAT else PromptTemplate.from_file(Path(name).expanduser())


def _default_hindsight(config: TrainConfig) -> int:
    """Return how many instructions an episode is relabelled with: none where the environment does not tell."""
    env = make_env(config.env, **config.env_arguments)
    try:
        fulfilled_instructions_of(env)
    except ContractError:
        return 0
    finally:
        env.close()
    return DEFAULT_HINDSIGHT


def _exploration(config: TrainConfig, fraction: float | None) -> Exploration:
    """Return the strategy; its schedule's ends and fraction may be given, its shape stays unless an end is 0."""
    strategy = STRATEGIES[config.exploration]()
    given = {"start": config.exploration_start, "end": config.exploration_end}
    ends = {name: value for name, value in given.items() if value is not None}
    if ends:
        shape = "linear" if 0 in ends.values() else strategy.schedule.shape
        strategy = dataclasses.replace(strategy, schedule=dataclasses.replace(strategy.schedule, **ends, shape=shape))
    if fraction is not None:
        strategy = dataclasses.replace(strategy, schedule=dataclasses.replace(strategy.schedule, fraction=fraction))
    if config.exploration_temperature is not None and isinstance(strategy, EpsilonGreedy):
        strategy = dataclasses.replace(strategy, temperature=config.exploration_temperature)
    return strategy


def _batch_size(rollout: int, wanted: int) -> int:
    """Return PPO's minibatch for a rollout of that many steps: about the one wanted, and without a rest."""
    parts = max(count for count in range(1, max(1, rollout // wanted) + 1) if rollout % count == 0)
    return int(rollout // parts)
