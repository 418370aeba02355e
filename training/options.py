"""All options of `heed train` in one flat configuration, as the command line and `config.json` have it.

`TrainConfig` refuses what cannot be, what does not go together and what is no option of the agent, and fills in the
defaults that depend on other options.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from heed.agents.registry import ALGORITHMS, AgentsWith, Algorithm
from heed.evaluation.command_line import PYTHON_FILE, env_for_any_folder
from heed.training.command_line.named_values import NAMED, as_texts, environment_arguments, named_values
from heed.training.errors import ConfigurationError
from heed.training.model_file import model_for_any_folder
from heed.training.option_groups import (
    LANGUAGE_AGENTS,
    POLICY_GRADIENTS,
    VALUE_LEARNERS,
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

GROUP_LEARNERS = AgentsWith(lambda agent: agent.groups)
TOKEN_LEARNERS = AgentsWith(lambda agent: agent.policy_gradient and agent.minibatches)
DEFAULT_GROUP_SIZE = 8
DEFAULT_INTRINSIC = {"count": 0.05, "rnd": 1.0}
"""Coefficients of the bonuses, where success gives 1 at most."""
VALUE_WARMUP = 4096
"""Steps after cloning in which only the value function learns."""
PROMPT_TOKENS, MORE_PROMPT_TOKENS, MOST_PROMPT_TOKENS = 256, 64, 1024
"""The default of --max-prompt-tokens, what each past observation of a history adds to it, and where that ends.

In random play on all BabyAI levels, an observation and the action after it took up to 63 tokens of heed-tiny, which
takes 1024 altogether.
"""
BYTES_OF_A_TOKEN = 4
"""So many tokens of `use`, which are single bytes, stand for one of another model."""

ALL_AUGMENTATIONS = "all"
"""What `--augment` takes for all that an environment has a use for."""

CHANGES_ON_RESUME = {
    "stop_at_success",
    "steps",
    "save_every",
    "keep_checkpoints",
    "eval_episodes",
    "device",
    "threads",
    "run_dir",
    "resume",
    "processes",
    "step_timeout",
    "reset_timeout",
    "max_lost",
    "max_episode_steps",
    "csv",
    "wandb",
    "sample_every",
}
"""What may differ when a run is continued; anything else would make it another training."""

_CLONING_OPTIONS = {
    "clone_epochs": ("demonstrations", "dagger_rounds"),
    "clone_learning_rate": ("demonstrations", "dagger_rounds"),
    "clone_batch_size": ("demonstrations", "dagger_rounds"),
    "dagger_episodes": ("dagger_rounds",),
}
"""Options of what is cloned before a training, each with those of which it needs one."""

_LOW_RANK = ("lora", "rslora", "dora", "adalora")
_ADAPTER_OPTIONS = {
    "adapter_rank": _LOW_RANK,
    "adapter_alpha": _LOW_RANK,
    "adapter_targets": (*_LOW_RANK, "ia3"),
    "virtual_tokens": ("prompt", "prefix"),
}
"""Which adapters take an option of theirs."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(  # a dataclass takes the fields of its last base first
    TrackingOptions,
    ExplorationOptions,
    DeepQOptions,
    MinibatchOptions,
    PolicyGradientOptions,
    AdapterOptions,
    LanguageModelOptions,
    EnvironmentOptions,
    RunOptions,
):
    """Train a language-model agent, then evaluate it and write a report into the run folder."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, or is no option of the agent."""
        if self.agent not in ALGORITHMS:
            raise ConfigurationError(f"--agent cannot be {self.agent!r}: it must be one of {', '.join(ALGORITHMS)}.")
        object.__setattr__(self, "env", env_for_any_folder(self.env))
        object.__setattr__(self, "model", model_for_any_folder(self.model))
        # With --resume, the option adds to what the run began with. JSON has lists.
        object.__setattr__(self, "hold_out", tuple(dict.fromkeys(self.hold_out)))
        object.__setattr__(self, "augment", names_of_augmentations(self.augment))
        object.__setattr__(self, "adapter_targets", tuple(dict.fromkeys(self.adapter_targets)))
        for name in NAMED:
            values = named_values(_option(name), getattr(self, name))
            object.__setattr__(self, name, as_texts(values))
        for group in OPTION_GROUPS:
            for field in dataclasses.fields(group):
                self._check(group, field.name, field.default)
        if self.gamma is not None and self.gamma > 1:
            raise ConfigurationError(f"--gamma is {self.gamma}, but must be at most 1.")
        if self.group_size is not None and self.agent not in GROUP_LEARNERS:
            raise ConfigurationError(f"--group-size is an option of {GROUP_LEARNERS}, not of {self.agent}.")
        if self.batch_tokens is not None and (self.agent not in TOKEN_LEARNERS or self.batch_size is not None):
            raise ConfigurationError(
                f"--batch-tokens is an option of {TOKEN_LEARNERS}, in place of --batch-size, and not of {self.agent}."
                if self.batch_size is None
                else "--batch-tokens and --batch-size both say how large a minibatch is: leave one of them out."
            )
        if self.weights != "float32" and self.adapter is None and self.train_layers != 0:
            raise ConfigurationError(
                "--weights bfloat16 is for a language model whose own weights do not train: small steps would be lost "
                "in them. Give --adapter, or --train-layers 0; or --precision bfloat16 instead, which computes so and "
                "trains float32 weights."
            )
        if self.weights != "float32" and self.precision == "float32":
            raise ConfigurationError(
                "Weights that are stored in bfloat16 are computed with in bfloat16: leave --precision float32 out."
            )
        if self.activation_checkpointing and (self.compiled or self.train_layers == 0):
            raise ConfigurationError(
                "--activation-checkpointing computes layers again as they were written: leave --compiled out."
                if self.compiled
                else "With --train-layers 0 nothing of the language model has a gradient: leave "
                "--activation-checkpointing out."
            )
        if self.value_warmup_steps and not self.algorithm.value_function:
            raise ConfigurationError(f"--value-warmup-steps is no option of {self.agent}, which has no value function.")
        for name in ("margin_coef", "pretraining_updates"):
            if getattr(self, name) and self.demonstrations is None:
                raise ConfigurationError(f"{_option(name)} needs --demonstrations to learn from.")
        if self.exploration_temperature is not None and self.exploration != "epsilon-greedy":
            raise ConfigurationError(
                f"--exploration-temperature is an option of epsilon-greedy exploration, not of {self.exploration}."
            )
        for name in _ADAPTER_OPTIONS:
            if getattr(self, name) and self.adapter is None:
                raise ConfigurationError(f"{_option(name)} is an option of --adapter, which is not given.")
        for name, adapters in _ADAPTER_OPTIONS.items():
            if getattr(self, name) and self.adapter is not None and self.adapter not in adapters:
                raise ConfigurationError(
                    f"{_option(name)} is an option of the adapters {', '.join(adapters)}, not of {self.adapter}."
                )
        if self.adapter is not None and self.train_layers == 0:
            raise ConfigurationError(
                "With --train-layers 0 no layer would get the --adapter: leave it out, or give the number of top "
                "layers that get one."
            )
        if self.freeze_embeddings and (self.adapter is not None or self.train_layers is not None):
            other = "--adapter" if self.adapter is not None else "--train-layers"
            raise ConfigurationError(f"With {other} the embeddings do not train anyway: leave --freeze-embeddings out.")
        if self.quantize is not None and self.adapter is None:
            raise ConfigurationError("Weights that --quantize rounds cannot train: give an --adapter, such as lora.")
        if self.system_prompt is not None and self.template != "chat":
            raise ConfigurationError("--system-prompt is an option of --template chat, which is not given.")
        if self.normalization != "mean" and not self._reads_texts():
            raise ConfigurationError(
                "--normalization says how the likelihoods of an action text become a score: --head linear has none."
            )
        if self.value_learning_rate is not None and not (self.algorithm.value_function and self.dueling):
            of = f"{self.agent} with --no-dueling" if self.algorithm.value_function else self.agent
            raise ConfigurationError(f"--value-learning-rate is the value function's, and {of} has none.")
        for name, needed in _CLONING_OPTIONS.items():
            given = getattr(self, name) != TrainConfig.__dataclass_fields__[name].default
            if given and not any(getattr(self, option) for option in needed):
                needs = " or ".join(map(_option, needed))
                raise ConfigurationError(f"{_option(name)} is of no use without {needs}: give it, or leave this out.")
        if self.layer_decay != 1 and self.train_layers == 0:
            raise ConfigurationError("With --train-layers 0 no layer trains: leave --layer-decay out.")
        if self.layer_decay > 1:
            raise ConfigurationError(f"--layer-decay is {self.layer_decay}, but must be at most 1.")
        if self.instruction_changes is not None:
            range_of_steps("--instruction-changes", self.instruction_changes)
        if self.intrinsic_coef is not None and self.intrinsic is None:
            raise ConfigurationError("--intrinsic-coef is the weight of --intrinsic, which is not given.")
        if self.set:
            from heed.training.settings import settings_of

            settings_of(self)  # looks at the agent, whose import takes seconds

    def _reads_texts(self) -> bool:
        """Whether the head scores the texts of actions; one that nobody knows yet may."""
        from heed.policies.heads.action_head import head_kind, head_names  # takes seconds, and is seldom asked

        return self.head not in head_names() or head_kind(self.head).reads_texts

    def _check(self, group: Any, name: str, default: Any) -> None:
        value = getattr(self, name)
        if value is None or value == default:
            return
        least = 1 if name == "steps" and not self.clones else group._least.get(name, -math.inf)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigurationError(f"{_option(name)} is {value}, but must be finite.")
        if isinstance(value, int | float) and value < least:
            raise ConfigurationError(f"{_option(name)} is {value}, but must be at least {least}.")
        if name in group._positive and value <= 0:
            raise ConfigurationError(f"{_option(name)} is {value}, but must be positive.")
        if self.agent not in group._agents:
            raise ConfigurationError(f"{_option(name)} is an option of {group._agents}, not of {self.agent}.")

    @property
    def algorithm(self) -> Algorithm:
        """What the agent is and has."""
        return ALGORITHMS[self.agent]

    @property
    def env_arguments(self) -> dict[str, Any]:
        """What `env_kwargs` gives to the environment's constructor."""
        return environment_arguments(self.env_kwargs)

    @property
    def clones(self) -> bool:
        """Whether the training begins with cloning."""
        return self.agent in POLICY_GRADIENTS and (self.demonstrations is not None or self.dagger_rounds > 0)

    def resolved(self) -> TrainConfig:
        """Return this configuration with every default filled in that depends on other options."""
        defaults = dict(self._defaults())
        return dataclasses.replace(self, **{name: v for name, v in defaults.items() if getattr(self, name) is None})

    def _defaults(self) -> Iterator[tuple[str, Any]]:
        for name in ("steps", "n_envs", "stop_at_success"):
            yield name, getattr(self.algorithm, name)
        yield "run_dir", Path("runs") / f"{_as_file_name(self.env)}-{self.agent}-seed{self.seed}"
        if self.agent in LANGUAGE_AGENTS:
            letters = BYTES_OF_A_TOKEN if self.model == "use" else 1
            yield "max_prompt_tokens", letters * _prompt_tokens(self.history)
        if self.agent in POLICY_GRADIENTS and self.algorithm.value_function:
            yield "value_warmup_steps", VALUE_WARMUP if self.clones else 0
        if self.agent in VALUE_LEARNERS and self.exploration == "epsilon-greedy":
            yield "exploration_temperature", self.algorithm.exploration_temperature
        if self.agent in GROUP_LEARNERS:
            yield "group_size", DEFAULT_GROUP_SIZE
        if self.intrinsic is not None:
            yield "intrinsic_coef", DEFAULT_INTRINSIC[self.intrinsic]

    def given_options(self) -> dict[str, Any]:
        """Return the options that have another value than they would have if they were left out."""
        given = {}
        for field in dataclasses.fields(TrainConfig):
            value, default = getattr(self, field.name), {field.name: cast(Any, field.default)}
            try:
                left_out = getattr(dataclasses.replace(self, **default).resolved(), field.name)
            except ConfigurationError:  # the others do not go together with the default
                left_out = None
            if left_out != value:
                given[field.name] = value
        return given

    def as_json(self) -> dict[str, Any]:
        """Return the configuration as JSON; `from_json` is its inverse."""
        demonstrations = None if self.demonstrations is None else str(self.demonstrations)
        return {**dataclasses.asdict(self), "run_dir": str(self.run_dir), "demonstrations": demonstrations}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> TrainConfig:
        """Return the configuration that `as_json` wrote; the agent's hyperparameters in it are left out."""
        options = {field.name: saved[field.name] for field in dataclasses.fields(cls) if field.name in saved}
        demonstrations = saved.get("demonstrations")  # a run of an earlier version has none
        options["demonstrations"] = None if demonstrations is None else Path(demonstrations)
        return cls(**{**options, "run_dir": Path(saved["run_dir"])})


def names_of_augmentations(given: Sequence[str]) -> tuple[str, ...]:
    """Return the names that `--augment` was given, each once and in the order in which they are listed.

    Raises:
        ConfigurationError: if there is none of a name.
    """
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if not names:
        return ()
    from heed.envs.wording.kinds import NAMES  # the environments import torch, and a help is to be quick

    for name in names:
        if name not in (ALL_AUGMENTATIONS, *NAMES):
            raise ConfigurationError(
                f"--augment cannot be {name!r}: there are {', '.join(NAMES)}, and {ALL_AUGMENTATIONS} for all of them."
            )
    # It stays as it is said: of which an environment has a use is known when it is made.
    return (ALL_AUGMENTATIONS,) if ALL_AUGMENTATIONS in names else tuple(name for name in NAMES if name in names)


OPTION_GROUPS: tuple[Any, ...] = TrainConfig.__bases__[::-1]
"""The groups of options, in the order in which `--help` shows them."""


def range_of_steps(option: str, text: str) -> tuple[int, int]:
    """Return the two numbers of "5-20"; of "5" twice the one.

    Raises:
        ConfigurationError: if `text` is no such range, from 1 on.
    """
    first, _, last = text.partition("-")
    try:
        steps = int(first), int(last or first)
    except ValueError:
        steps = (0, 0)
    if not 1 <= steps[0] <= steps[1]:
        raise ConfigurationError(f"{option} is {text!r}, but must be a range of steps from 1 on, such as 5-20.")
    return steps


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _as_file_name(env_id: str) -> str:
    """Return an environment's id as a file's name; that of a long mixture is cut, and a hash tells it from others."""
    if PYTHON_FILE in env_id:
        from heed.envs.environment_file import without_folders

        env_id = without_folders(env_id).replace(PYTHON_FILE, "").replace(".", "-")
    name = env_id.replace(":", "-").replace("/", "-")
    return name if len(name) <= 150 else f"{name[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _prompt_tokens(history: int) -> int:
    """Return how long prompts may be unless it is said: a history holds up to `2 * history - 1` past observations."""
    past = max(0, 2 * history - 1)
    return min(PROMPT_TOKENS + MORE_PROMPT_TOKENS * past, MOST_PROMPT_TOKENS)
