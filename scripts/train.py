"""`heed train`: train a language-model agent, evaluate it, write its report."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from heed.scripts.errors import ConfigurationError, as_sentence

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from heed.agents import A2C, DQN, PPO, QLearning
    from heed.agents.exploration import Exploration
    from heed.scripts.run_folder import RunFolder
    from heed.scripts.training_time import TrainingTime

POLICY_GRADIENTS = ("ppo", "a2c", "reinforce")
VALUE_LEARNERS = ("dqn", "q-learning")
DEFAULT_STEPS = {**dict.fromkeys(POLICY_GRADIENTS, 150_000), "dqn": 40_000, "q-learning": 100_000}
STATS_WINDOW = 500
"""Episodes that the success rate and return of the curve are taken over."""
DEFAULT_STOP = {**dict.fromkeys(POLICY_GRADIENTS, 0.995), **dict.fromkeys(VALUE_LEARNERS, 2.0)}
"""DQN's greedy policy still jumps between updates when it first does well; its falling learning rate calms it."""
DEFAULT_ENVS = {**dict.fromkeys(POLICY_GRADIENTS, 32), "dqn": 16, "q-learning": 1}
DEFAULT_INTRINSIC = {"count": 0.05, "rnd": 0.05}
"""Coefficients of the bonuses, where success gives 1 at most."""
PROMPT_TOKENS, MORE_PROMPT_TOKENS, MOST_PROMPT_TOKENS = 256, 64, 1024
"""The default of --max-prompt-tokens, what each past observation of a history adds to it, and where that ends.

In random play on all BabyAI levels, an observation and the action after it took up to 63 tokens of heed-tiny, which
takes 1024 altogether.
"""
CLONED_LEARNING_RATE, CLONED_ENT_COEF, VALUE_WARMUP = (3e-4, 3e-5), 0.003, 4096
"""After cloning: smaller steps and a smaller entropy bonus, so that the clone is mended rather than unlearned."""
LOG_INTERVAL = {"ppo": 1, "a2c": 4, "reinforce": 1, "dqn": 10, "q-learning": 100}
"""How often is logged: in rollouts for policy gradients, in episodes for the others."""
LANGUAGE_MODEL_OPTIONS = (
    "model",
    "head",
    "normalization",
    "train_layers",
    "precision",
    "compiled",
    "max_prompt_tokens",
)
"""Of the agents that have a language model."""

CHANGES_ON_RESUME = {
    "stop_at_success",
    "steps",
    "save_every",
    "keep_checkpoints",
    "eval_episodes",
    "device",
    "run_dir",
    "resume",
    "processes",
}
"""What may differ when a run is continued; anything else would make it another training."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a language-model agent, then evaluate it and write a report into the run folder."""

    env: str = "BabyAI-GoToLocal-v0"
    """Environment: an id registered with Gymnasium, or package.module:Id-v0 (`heed check-env` says if it fits); or a
    mixture, LEVEL+LEVEL or LEVEL@3+LEVEL, with a level drawn for each episode."""
    agent: Literal["ppo", "a2c", "reinforce", "dqn", "q-learning"] = "ppo"
    """Algorithm; q-learning has a table instead of a language model, for environments of few states."""
    model: str = "heed-tiny"
    """Language model: heed-tiny, a folder with a Hugging Face model, or a hub id such as Qwen/Qwen2.5-0.5B."""
    head: Literal["score", "linear"] = "score"
    """How actions come out of it: by the likelihood of their texts, or by a linear layer."""
    normalization: Literal["mean", "sum", "siblings"] = "mean"
    """How the likelihoods of an action text's tokens become one score (siblings: shared among the actions' tokens)."""
    train_layers: int | None = None
    """Train only so many of the language model's top layers, or with 0 none of them (default: all of it)."""
    micro_batch_tokens: int | None = None
    """Let a policy gradient be gathered in parts of at most so many tokens, to bound memory (default: at once)."""
    reference_coef: float = 0.0
    """Hold a policy gradient near the policy that the training began with: the weight of their KL divergence."""
    exploration: Literal["epsilon-greedy", "boltzmann", "ucb", "thompson"] = "epsilon-greedy"
    """How dqn and q-learning choose actions while they learn."""
    exploration_start: float | None = None
    """Its number at the start: epsilon, the temperature, or the weight of ucb's bonus (default: the strategy's)."""
    exploration_end: float | None = None
    """The same from half of the training on."""
    intrinsic: Literal["count", "rnd"] | None = None
    """Reward states that are new, while training: by how often they were seen, or by random network distillation."""
    intrinsic_coef: float | None = None
    """Weight of that reward beside the environment's (default: 0.05)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the language model's arithmetic; auto takes bfloat16 on a GPU that has it, for wide models."""
    compiled: bool = False
    """Let torch.compile fuse the layers' operations: a minute or more at the start, less time in each update."""
    dueling: bool = True
    """Let a value of the state and the actions' advantages make up dqn's Q-values."""
    priority_exponent: float | None = None
    """Draw dqn's transitions by their TD errors to this power: prioritized replay (default: the agent's; 0 evenly)."""
    hindsight: int | None = None
    """With how many of the other instructions that it fulfilled dqn learns from an episode again (default: the
    agent's; 0 for none). The environment must tell what was fulfilled, as BabyAI's levels do."""
    margin_coef: float | None = None
    """Weight of dqn's large-margin loss on --demonstrations, which stay in its replay buffer (default: 0)."""
    pretraining_updates: int = 0
    """Updates of dqn on the --demonstrations alone before its first step."""
    ent_coef: float | None = None
    """Weight of a policy gradient's entropy bonus (default: the agent's; after cloning 0.003)."""
    demonstrations: Path | None = None
    """Learn from these demonstrations too, a file of `heed demos`: a policy gradient clones them first and goes on
    from the clone; dqn keeps them in its replay buffer."""
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
    """Steps in which only the value function of a policy gradient learns (default: after cloning 4096, else 0)."""
    steps: int | None = None
    """Environment steps to train for (default: 150000, 40000 for dqn, 100000 for q-learning); 0 only clones
    --demonstrations."""
    n_envs: int | None = None
    """Environments side by side (default: 32, 16 for dqn, 1 for q-learning)."""
    seed: int = 0
    """Seed of everything random: the same seed gives the same run on the same machine."""
    run_dir: Path | None = None
    """Folder for configuration, curves, checkpoints and report (default: runs/ENV-AGENT-seedS)."""
    resume: bool = False
    """Continue the run in --run-dir from its last checkpoint, with the options it began with. --steps may grow."""
    learning_rate: float | None = None
    """Learning rate at the start (default: the agent's; a large pretrained model wants 1e-5 or so)."""
    history: int = 0
    """Show the last observations and actions of the episode too: from this many observations to twice as many."""
    max_prompt_tokens: int | None = None
    """Longest prompt; the end of a longer observation, so the newest of a history, is cut, with a warning (default:
    256, and with a history 64 more for each of the past observations that it may hold, but at most 1024)."""
    processes: int = 1
    """Processes that the environments are spread over; more than 1 pays for slow environments only."""
    device: str = "auto"
    """Where the language model runs: cpu, cuda, or auto."""
    stop_at_success: float | None = None
    """Stop early when this share of the last 500 episodes succeeded (default: 0.995; dqn goes to the end)."""
    save_every: int = 10_000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints to keep."""
    eval_episodes: int = 200
    """Held-out episodes of the evaluation at the end; 0 leaves it out."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        least = {
            "steps": 0 if self.clones else 1,
            "n_envs": 1,
            "max_prompt_tokens": 8,
            "processes": 1,
            "save_every": 1,
            "keep_checkpoints": 1,
            "micro_batch_tokens": 1,
            "train_layers": 0,
            "reference_coef": 0,
            "ent_coef": 0,
            "priority_exponent": 0,
            "hindsight": 0,
            "margin_coef": 0,
            "pretraining_updates": 0,
            "clone_epochs": 1,
            "clone_batch_size": 1,
            "dagger_rounds": 0,
            "dagger_episodes": 2,
            "value_warmup_steps": 0,
        }
        for name, minimum in {**least, "history": 0, "eval_episodes": 0, "seed": 0}.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ConfigurationError(f"--{name.replace('_', '-')} is {value}, but must be at least {minimum}.")
        policy_gradients_only = (
            "micro_batch_tokens",
            "reference_coef",
            "ent_coef",
            "dagger_rounds",
            "value_warmup_steps",
        )
        for name in policy_gradients_only:
            if getattr(self, name) and self.agent not in POLICY_GRADIENTS:
                option = name.replace("_", "-")
                raise ConfigurationError(f"--{option} is an option of policy gradients, not of {self.agent}.")
        for name in ("priority_exponent", "hindsight", "margin_coef", "pretraining_updates"):
            if getattr(self, name) and self.agent != "dqn":
                raise ConfigurationError(f"--{name.replace('_', '-')} is an option of dqn, not of {self.agent}.")
        for name in ("margin_coef", "pretraining_updates"):
            if getattr(self, name) and self.demonstrations is None:
                raise ConfigurationError(f"--{name.replace('_', '-')} needs --demonstrations to learn from.")
        self._check_exploration()
        if self.agent == "q-learning":
            for field in dataclasses.fields(self):
                if field.name in LANGUAGE_MODEL_OPTIONS and getattr(self, field.name) != field.default:
                    option = field.name.replace("_", "-")
                    raise ConfigurationError(f"--{option} is an option of language models, but q-learning has a table.")
        for name in ("learning_rate", "stop_at_success", "clone_learning_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigurationError(f"--{name.replace('_', '-')} is {value}, but must be positive.")

    @property
    def clones(self) -> bool:
        """Whether the training begins with cloning."""
        return self.agent in POLICY_GRADIENTS and (self.demonstrations is not None or self.dagger_rounds > 0)

    def _check_exploration(self) -> None:
        """Refuse options of exploration that do not go together."""
        for name in ("exploration", "exploration_start", "exploration_end"):
            value = getattr(self, name)
            if self.agent not in VALUE_LEARNERS and value not in (None, "epsilon-greedy"):
                option = name.replace("_", "-")
                raise ConfigurationError(f"--{option} is an option of dqn and q-learning, not of {self.agent}.")
        for name in ("exploration_start", "exploration_end", "intrinsic_coef"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigurationError(f"--{name.replace('_', '-')} is {value}, but must not be negative.")
        if self.intrinsic_coef is not None and self.intrinsic is None:
            raise ConfigurationError("--intrinsic-coef is the weight of --intrinsic, which is not given.")

    def resolved(self) -> TrainConfig:
        """Return this configuration with every default filled in."""
        folder = Path("runs") / f"{_as_file_name(self.env)}-{self.agent}-seed{self.seed}"
        tokens = None if self.agent == "q-learning" else _prompt_tokens(self.history)
        coefficient = DEFAULT_INTRINSIC[self.intrinsic] if self.intrinsic else None
        return dataclasses.replace(
            self,
            steps=DEFAULT_STEPS[self.agent] if self.steps is None else self.steps,
            n_envs=self.n_envs or DEFAULT_ENVS[self.agent],
            max_prompt_tokens=self.max_prompt_tokens or tokens,
            intrinsic_coef=coefficient if self.intrinsic_coef is None else self.intrinsic_coef,
            run_dir=self.run_dir or folder,
            stop_at_success=self.stop_at_success or DEFAULT_STOP[self.agent],
            value_warmup_steps=VALUE_WARMUP * self.clones
            if self.value_warmup_steps is None
            else self.value_warmup_steps,
        )

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


def _as_file_name(env_id: str) -> str:
    """Return an environment's id as a file's name; that of a long mixture is cut, and a hash tells it from others."""
    name = env_id.replace(":", "-").replace("/", "-")
    return name if len(name) <= 150 else f"{name[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _prompt_tokens(history: int) -> int:
    """Return how long prompts may be unless it is said: a history holds up to `2 * history - 1` past observations."""
    past = max(0, 2 * history - 1)
    return min(PROMPT_TOKENS + MORE_PROMPT_TOKENS * past, MOST_PROMPT_TOKENS)


def train(config: TrainConfig) -> None:
    """Train, evaluate, and write the report.

    Raises:
        ConfigurationError: if an option cannot be.
        UnknownEnvironmentError, ContractError: if the environment cannot be used.
        DemonstrationError: if the demonstrations cannot be used.
        LanguageModelError: if there is no such language model.
        RunFolderError: if the run folder holds another run, or with `resume` none.
        CheckpointError: if the checkpoint to continue from is damaged.
    """
    # These take seconds to import, which `--help` and a misspelt option need not wait for.
    from rich.console import Console

    from heed.agents import DQN
    from heed.agents.policy_gradient import PolicyGradient
    from heed.scripts.cloning import clone_into, read_for
    from heed.scripts.evaluate import EvaluateConfig, evaluate_run
    from heed.scripts.progress import Checkpointing, LogIntrinsicReward, ProgressBar, StopOnSignal, StopWhenSolved
    from heed.scripts.run_folder import RunFolder
    from heed.scripts.training_time import TrainingTime

    config = config.resolved()
    assert config.run_dir is not None
    assert config.steps is not None
    assert config.stop_at_success is not None
    console = Console(highlight=False)
    run = RunFolder(config.run_dir)
    env = _make_env(config)
    demonstrations = () if config.resume else read_for(config)
    agent = _resume(config, run, env) if config.resume else _begin(config, run, env)
    time_taken = TrainingTime(run, steps=agent.num_timesteps)
    _log_into(run, agent, time_taken)

    console.print(
        f"{config.agent} with {_described(config, agent)} on {config.env}, "
        f"{env.num_envs} environments, {agent.device}. Run folder: {run.path}"
    )
    began, began_at = time.monotonic(), agent.num_timesteps
    if config.clones and not config.resume:
        assert isinstance(agent, PolicyGradient)
        clone_into(agent, demonstrations, config, run, console)
        # From here on the run can be resumed, and the clone is one of its checkpoints.
        agent.save(run.checkpoint_path(0))
    if isinstance(agent, DQN) and demonstrations:
        agent.add_demonstrations(demonstrations, history=config.history)
        agent.pretrain(config.pretraining_updates)
    log_bonus = [LogIntrinsicReward()] if config.intrinsic else []
    checkpointing = Checkpointing(run, time_taken, every=config.save_every, keep=config.keep_checkpoints)
    solved = StopWhenSolved(config.stop_at_success, episodes=STATS_WINDOW)
    progress = ProgressBar(config.steps)
    try:
        with StopOnSignal() as stop:
            if agent.num_timesteps < config.steps:
                agent.learn(
                    config.steps - agent.num_timesteps,
                    callback=[stop, checkpointing, solved, *log_bonus, progress],
                    log_interval=LOG_INTERVAL[config.agent],
                    reset_num_timesteps=not config.resume,
                )
                checkpointing.save()
    finally:
        progress.close()
        agent.logger.close()
        env.close()
    seconds = time.monotonic() - began
    steps = agent.num_timesteps - began_at
    if steps:
        console.print(f"Trained for {steps} steps in {seconds:.0f} s ({steps / max(seconds, 1e-9):.0f} steps/s).")
    if solved.reached:
        console.print(f"Stopped early: the last {STATS_WINDOW} episodes had a success rate of {solved.reached:.3f}.")
    if stop.stopped:
        console.print(f"Stopped and saved. Continue with: heed train --run-dir {run.path} --resume")
        raise SystemExit(130)
    if config.eval_episodes:
        evaluate_run(EvaluateConfig(run_dir=run.path, episodes=config.eval_episodes))


def _make_env(config: TrainConfig) -> VecEnv:
    from heed.envs.make import make

    assert config.n_envs is not None
    env = make(config.env, n_envs=config.n_envs, seed=config.seed, processes=config.processes, history=config.history)
    if config.intrinsic is None:
        return env
    from heed.agents.exploration import CountBonus, IntrinsicRewardVecEnv, RandomNetworkDistillation

    assert config.intrinsic_coef is not None
    bonus = CountBonus() if config.intrinsic == "count" else RandomNetworkDistillation(seed=config.seed)
    return IntrinsicRewardVecEnv(env, bonus, coefficient=config.intrinsic_coef)


def _exploration(config: TrainConfig) -> Exploration:
    """Return the strategy; its schedule's ends may be given, its shape stays unless an end is 0."""
    from heed.agents.exploration import STRATEGIES

    strategy = STRATEGIES[config.exploration]()
    given = {"start": config.exploration_start, "end": config.exploration_end}
    ends = {name: value for name, value in given.items() if value is not None}
    if ends:
        shape = "linear" if 0 in ends.values() else strategy.schedule.shape
        strategy = type(strategy)(schedule=dataclasses.replace(strategy.schedule, **ends, shape=shape))
    return strategy


def _described(config: TrainConfig, agent: PPO | A2C | DQN | QLearning) -> str:
    """Return what learns, in words."""
    if config.agent == "q-learning":
        return "a table"
    size = sum(parameter.numel() for parameter in agent.language_policy.language_model.model.parameters())
    return f"{config.model} ({size / 1e6:.2f} M parameters, {config.head} head)"


def _begin(config: TrainConfig, run: RunFolder, env: VecEnv) -> PPO | A2C | DQN | QLearning:
    """Make a new agent, and only when that worked the run folder."""
    from stable_baselines3.common.utils import LinearSchedule

    from heed.agents import AGENTS

    run.require_empty()
    arguments: dict[str, Any] = {"stats_window_size": STATS_WINDOW}
    if config.learning_rate is not None:
        arguments["learning_rate"] = config.learning_rate
    elif config.clones:
        arguments["learning_rate"] = LinearSchedule(*CLONED_LEARNING_RATE, 1.0)
    if config.ent_coef is not None or config.clones:
        arguments["ent_coef"] = CLONED_ENT_COEF if config.ent_coef is None else config.ent_coef
    if config.agent == "ppo":
        arguments["batch_size"] = _batch_size(env.num_envs)
    if config.agent in POLICY_GRADIENTS:
        names = ("micro_batch_tokens", "reference_coef", "value_warmup_steps")
        arguments |= {name: getattr(config, name) for name in names}
    if config.agent == "dqn":
        names = ("priority_exponent", "hindsight", "margin_coef")
        arguments |= {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    if config.agent != "q-learning":
        arguments["policy_kwargs"] = {name: getattr(config, name) for name in LANGUAGE_MODEL_OPTIONS}
        if config.agent == "dqn":
            arguments["policy_kwargs"]["dueling"] = config.dueling
    try:
        if config.agent in VALUE_LEARNERS:
            arguments["exploration"] = _exploration(config)
        agent = AGENTS[config.agent](env=env, seed=config.seed, device=config.device, **arguments)
    except (ValueError, AssertionError, RuntimeError) as error:
        # Nothing but the configuration has come in yet: what the agent refuses, the user can mend.
        if isinstance(error, ValueError) and type(error) is not ValueError:
            raise
        raise ConfigurationError(str(error)) from error
    run.begin({**config.as_json(), "hyperparameters": agent.hyperparameters})
    return agent


def _batch_size(n_envs: int) -> int:
    """Return PPO's minibatch for that many environments: about its default, and a rollout without a rest."""
    from inspect import signature

    from heed.agents import PPO

    defaults = signature(PPO.__init__).parameters
    rollout, wanted = n_envs * defaults["n_steps"].default, defaults["batch_size"].default
    parts = max(count for count in range(1, max(1, rollout // wanted) + 1) if rollout % count == 0)
    return int(rollout // parts)


def _resume(config: TrainConfig, run: RunFolder, env: VecEnv) -> PPO | A2C | DQN | QLearning:
    """Load the run's last checkpoint, and drop what the curve holds beyond it."""
    from heed.agents import AGENTS

    checkpoint = run.latest_checkpoint()
    agent = AGENTS[config.agent].load(checkpoint, env=env, device=config.device)
    run.cut_curve(agent.num_timesteps)
    run.rewrite_config({**config.as_json(), "hyperparameters": agent.hyperparameters})
    return agent


def _log_into(run: RunFolder, agent: PPO | A2C | DQN | QLearning, time_taken: TrainingTime) -> None:
    from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

    from heed.scripts.run_folder import CurveWriter

    formats = [TensorBoardOutputFormat(str(run.tensorboard)), CurveWriter(run.curve, on_point=time_taken.note)]
    agent.set_logger(Logger(folder=None, output_formats=formats))


def _parse(arguments: list[str] | None) -> TrainConfig:
    """Parse the command line; with `--resume` the run's own options are the defaults.

    Raises:
        ConfigurationError: if `--resume` comes with an option that would make it another training.
    """
    config = tyro.cli(TrainConfig, args=arguments, prog="heed train")
    if not config.resume:
        return config
    from heed.scripts.run_folder import RunFolder

    folder = config.resolved().run_dir
    assert folder is not None
    saved = dataclasses.replace(TrainConfig.from_json(RunFolder(folder).read_config()), run_dir=folder)
    config = tyro.cli(TrainConfig, args=arguments, prog="heed train", default=saved)
    for field in dataclasses.fields(TrainConfig):
        ours, theirs = getattr(config, field.name), getattr(saved, field.name)
        if ours != theirs and field.name not in CHANGES_ON_RESUME:
            raise ConfigurationError(
                f"The run in {folder} was begun with --{field.name.replace('_', '-')} {theirs}: it cannot be continued "
                f"with {ours}. Leave the option out, or begin another run."
            )
    return config


def main(arguments: list[str] | None = None) -> None:
    """Run `heed train` with the command line's arguments."""
    with as_sentence():
        train(_parse(arguments))


if __name__ == "__main__":
    main()
