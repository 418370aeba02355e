"""`heed train`: train a language-model agent, evaluate it, write its report."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from heed.evaluation.command_line import tell
from heed.training.command_line.named_values import as_compared
from heed.training.command_line.parsing import parse
from heed.training.errors import STATUS, ConfigurationError, as_sentence, is_refusal, known_errors
from heed.training.model_file import use_model_file
from heed.training.options import CHANGES_ON_RESUME, TrainConfig
from heed.training.threads import set_threads, told_threads

if TYPE_CHECKING:
    from rich.console import Console
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecEnv

    from heed.agents import LanguageAgent, LanguagePolicyAgent
    from heed.agents.distributed.ranks import Ranks
    from heed.training.run_folder import RunFolder
    from heed.training.tracking.tracking import Tracking
    from heed.training.training_time import TrainingTime

STATS_WINDOW = 500
"""Episodes that the success rate and return of the curve are taken over."""


def train(config: TrainConfig) -> None:
    """Train, evaluate, and write the report; with the processes that a launcher has started beside this one, if any.

    Raises:
        ConfigurationError: if an option cannot be.
        DeviceError: if there is no such device.
        EnvironmentArgumentError: if the environment does not take its arguments.
        UnknownEnvironmentError, ContractError: if the environment cannot be used.
        HoldOutError: if a phrase cannot be held out of it.
        DemonstrationError: if the demonstrations cannot be used.
        LanguageModelError: if there is no such language model.
        RunFolderError: if the run folder holds another run, or with `resume` none; if it cannot be written, before or
            during the training.
        CheckpointError: if none of the checkpoints to continue from can be read.
        SystemExit: after a signal that ended the training, with 128 and its number as status.
        TooManyLostEpisodesError: if environments lose one episode after the other.
        RanksError: if one of several processes has ended, or they cannot begin.
        NonFiniteError: if a loss, gradient, score, value or reward is NaN or infinite; the checkpoints before it stay.
    """
    # These take seconds to import, which `--help` and a misspelt option need not wait for.
    from rich.console import Console

    from heed.agents.distributed.ranks import join
    from heed.scripts.evaluate import EvaluateConfig, evaluate_run
    from heed.training.run_folder import RunFolder

    config = config.resolved()
    _require_device(config.device)
    if config.env_kwargs:
        from heed.envs.arguments import require_arguments

        require_arguments(config.env, config.env_arguments)
    assert config.run_dir is not None
    run = RunFolder(config.run_dir)
    with join(config.device) as ranks, _telling_once(ranks, run):
        require_shares(config, ranks.count)
        ranks.first(functools.partial(_require_folder, config, run))
        run.command = ranks.command
        console = Console(highlight=False, quiet=not ranks.is_first)
        with run.telling_of_the_disk():
            stopped = _train(config, run, console, ranks)
    if stopped:
        tell(console, f"Stopped and saved. {run.told_how_to_continue()}")
        raise SystemExit(stopped)
    if config.eval_episodes and ranks.is_first:
        with run.telling_of_the_disk():
            evaluate_run(EvaluateConfig(run_dir=run.path, episodes=config.eval_episodes, threads=config.threads))


def _require_folder(config: TrainConfig, run: RunFolder) -> None:
    """Refuse a run folder that cannot be used."""
    if config.resume:
        run.require_own_files()
    else:
        run.require_empty()
    run.require_writable()


@contextlib.contextmanager
def _telling_once(ranks: Ranks, run: RunFolder) -> Iterator[None]:
    """Let one of several processes say why all of them end, and none of them more.

    Raises:
        SystemExit: in the others, in place of an error.
    """
    from heed.agents.distributed.ranks import RanksError
    from heed.policies.finite import NonFiniteError

    try:
        yield
    except (RanksError, NonFiniteError) as error:
        if not ranks.first_to_tell():
            raise SystemExit(STATUS) from None
        # On another machine than the first process's there need not be a run.
        told = f"{error} {run.told_last_good()}" if run.holds_run else str(error)
        if isinstance(error, NonFiniteError) and run.holds_run:
            told += (
                " What is resumed computes the same again: to go on with smaller steps, load the checkpoint in Python, "
                "heed.agents.load(checkpoint, env=env, learning_rate=...)."
            )
        raise type(error)(told) from error
    except Exception as error:
        if not ranks.first_to_tell() and isinstance(error, known_errors()):
            raise SystemExit(STATUS) from None
        raise


def require_shares(config: TrainConfig, count: int) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        ConfigurationError: if the environments cannot be shared out evenly, or something knows of those of one process
            only.
    """
    assert config.n_envs is not None
    size = config.group_size or 1
    if config.n_envs % size:
        raise ConfigurationError(f"--n-envs is {config.n_envs}, but must be a multiple of --group-size {size}.")
    if count == 1:
        return
    if not config.algorithm.language_model:
        raise ConfigurationError(f"{config.agent} has no gradients to be averaged: train its table in one process.")
    if config.n_envs % (count * size):
        groups = f" with groups of {size}" if size > 1 else ""
        raise ConfigurationError(
            f"--n-envs is {config.n_envs}, but must be a multiple of {count * size}: {count} processes{groups} share "
            "the environments evenly."
        )
    for name, value in (("curriculum", config.curriculum), ("intrinsic", config.intrinsic)):
        if value is not None:
            raise ConfigurationError(
                f"--{name} hangs on what all environments have seen, of which each of {count} processes knows only its "
                "own: leave it out, or train in one process."
            )


def _train(config: TrainConfig, run: RunFolder, console: Console, ranks: Ranks) -> int:
    """Train; return the exit status that a signal asks for, which ended it early, or 0."""
    from stable_baselines3.common.logger import Logger

    from heed.agents.distributed.ranks import RanksError
    from heed.envs.faults import told_losses
    from heed.evaluation.report.sentences import NO_EPISODE_ENDED
    from heed.training.cloning import learn_from_demonstrations, read_for
    from heed.training.memory.telling import tell_estimate, tell_used
    from heed.training.progress import (
        Checkpointing,
        LogCurriculum,
        LogIntrinsicReward,
        ProgressBar,
        RecordLostEpisodes,
        StopWhenSolved,
    )
    from heed.training.stopping import INTERRUPTED, StopOnSignal
    from heed.training.tracking.samples import TrackTraining
    from heed.training.training_time import TrainingTime
    from heed.training.wrappers import augmentations_for

    assert config.steps is not None
    assert config.stop_at_success is not None
    if config.wandb:
        from heed.training.tracking.weights_and_biases import require_wandb

        ranks.first(require_wandb)
    if config.resume:
        run.require_training()
    # A run that was killed before its first checkpoint begins anew, and comes out as if it had never been killed.
    fresh = ranks.first(lambda: not config.resume or not run.saved.all())
    env = make_training_env(config, ranks)
    demonstrations = read_for(config) if fresh else ()
    estimate = tell_estimate(config, console) if ranks.is_first else None
    begin = _begin if fresh else _resume
    agent = begin(config, run, env, console, ranks)
    log_also: list[BaseCallback] = [LogIntrinsicReward()] if config.intrinsic else []
    log_also += [LogCurriculum()] if config.curriculum else []
    time_taken = None
    if ranks.is_first:
        time_taken = TrainingTime(run, steps=agent.num_timesteps)
        log_also += [TrackTraining(_track(config, run, agent, time_taken), config)]
    else:
        agent.set_logger(Logger(folder=None, output_formats=[]))

    together = f" in {ranks.count} processes" if ranks.several else ""
    console.print(
        f"{config.agent} with {_described(config, agent)} on {config.env}, "
        f"{config.n_envs} environments{together}, {agent.device}, {told_threads()}. Run folder: {run.path}",
        markup=False,
    )
    if config.augment:
        worded = augmentations_for(config.augment, config.env, **config.env_arguments)
        console.print(f"Its instructions are augmented: {', '.join(worded)}.", markup=False)
    began, began_at = time.monotonic(), agent.num_timesteps
    checkpointing = Checkpointing(run, time_taken, every=config.save_every, keep=config.keep_checkpoints, ranks=ranks)
    solved = StopWhenSolved(config.stop_at_success, episodes=STATS_WINDOW)
    progress = ProgressBar(config.steps)
    lost = RecordLostEpisodes(run, ranks)
    stop = StopOnSignal(ranks)
    try:
        with contextlib.ExitStack() as closing:
            for close in (env.close, agent.logger.close, functools.partial(lost.write, env), progress.close):
                closing.callback(close)
            if fresh:
                learn_from_demonstrations(agent, demonstrations, config, run, console)
            # One that was killed after its last step, in its evaluation, is not to take another.
            if agent.num_timesteps < config.steps and not solved.is_solved(agent):
                with stop:
                    with stop.stopped_there():
                        agent.learn(
                            config.steps - agent.num_timesteps,
                            callback=[stop, checkpointing, solved, *log_also, lost, *([progress] * ranks.is_first)],
                            log_interval=config.algorithm.log_interval,
                            reset_num_timesteps=fresh,
                        )
                    checkpointing.save()
    except KeyboardInterrupt:
        tell(console, f"Ended at once. {run.told_last_good()}")
        raise SystemExit(stop.status if stop.at_once else INTERRUPTED) from None
    except Exception as error:
        if ranks.is_first and not isinstance(error, OSError | RanksError):  # which are told with it already
            tell(console, f"The training has ended with an error. {run.told_last_good()}")
        raise
    if agent.num_timesteps and not agent.ep_info_buffer and ranks.is_first:
        console.print(NO_EPISODE_ENDED)
    seconds = time.monotonic() - began
    steps = agent.num_timesteps - began_at
    if steps:
        console.print(f"Trained for {steps} steps in {seconds:.0f} s ({steps / max(seconds, 1e-9):.0f} steps/s).")
    if ranks.is_first:
        tell_used(run, agent.device, estimate, console)
    losses = Counter[str]()
    for reasons in ranks.gather(env.unwrapped.lost_summary()):  # type: ignore[attr-defined]
        losses.update(reasons)
    if losses:
        console.print(f"{told_losses(losses)} All of them: {run.lost_episodes}", markup=False)
    if solved.reached:
        console.print(f"Stopped early: the last {STATS_WINDOW} episodes had a success rate of {solved.reached:.3f}.")
    return stop.status if stop.received is not None else 0


def make_training_env(config: TrainConfig, ranks: Ranks) -> VecEnv:
    """Return the environments that a configuration trains in: of several ranks, this one's share."""
    from heed.envs.make import make
    from heed.training.wrappers import wrapping

    assert config.n_envs is not None
    n_envs = ranks.share("--n-envs", config.n_envs)
    env = make(
        config.env,
        n_envs=n_envs,
        seed=config.seed,
        first_index=ranks.rank * n_envs,
        group_size=config.group_size or 1,
        processes=config.processes,
        step_timeout=config.step_timeout,
        reset_timeout=config.reset_timeout,
        max_lost=config.max_lost,
        hold_out=config.hold_out,
        history=config.history,
        **wrapping(config),
        **config.env_arguments,
    )
    if config.scale_rewards:
        from heed.agents.rollouts.scaled_rewards import ScaledRewardsVecEnv
        from heed.training.agent_arguments import discount

        env = ScaledRewardsVecEnv(env, gamma=discount(config))
    if config.intrinsic is None:
        return env
    from heed.agents.exploration import CountBonus, IntrinsicRewardVecEnv, RandomNetworkDistillation

    assert config.intrinsic_coef is not None
    bonus = CountBonus() if config.intrinsic == "count" else RandomNetworkDistillation(seed=config.seed)
    return IntrinsicRewardVecEnv(env, bonus, coefficient=config.intrinsic_coef)


def _described(config: TrainConfig, agent: LanguageAgent) -> str:
    """Return what learns, in words."""
    from heed.agents import LanguagePolicyAgent

    if not isinstance(agent, LanguagePolicyAgent):
        return "a table"
    size = sum(parameter.numel() for parameter in agent.language_policy.language_model.model.parameters())
    return f"{config.model} ({size / 1e6:.2f} M parameters, {config.head} head{told_precision(config, agent)})"


def told_precision(config: TrainConfig, agent: LanguagePolicyAgent) -> str:
    """Return what a trial of this processor's arithmetic has decided, in words; nothing where there was none."""
    from heed.policies.backbones.precision import is_wide, speedup_of_bfloat16

    model = agent.language_policy.language_model.model
    if config.precision != "auto" or agent.device.type != "cpu" or not is_wide(model):
        return ""
    return (
        f", {agent.language_policy.options.precision}: bfloat16 is {speedup_of_bfloat16(model):.1f} times as fast here"
    )


def _begin(config: TrainConfig, run: RunFolder, env: VecEnv, console: Console, ranks: Ranks) -> LanguageAgent:
    """Make a new agent, and only when that worked the run folder."""
    from heed.agents import AGENTS
    from heed.policies.out_of_memory import is_out_of_memory
    from heed.training.agent_arguments import agent_arguments

    try:
        agent: LanguageAgent = AGENTS[config.agent](
            env=env,
            seed=config.seed,
            device=config.device,
            stats_window_size=STATS_WINDOW,
            **agent_arguments(config),
        )
    except Exception as error:
        if is_refusal(error) and type(error) in (ValueError, AssertionError):
            # Nothing but the configuration has come in yet: what the agent refuses, the user can correct.
            raise ConfigurationError(str(error)) from error
        if not is_out_of_memory(error):
            raise
        raise ConfigurationError(
            f"The agent does not fit into the memory of {config.device}: {error} `heed memory` with the same options "
            "says what needs how much, and what takes less."
        ) from None
    threads = set_threads(config.threads, agent)
    resolved = _as_written(config, agent, threads)
    if config.resume:
        console.print(f"{run.path} has no checkpoint yet: the run begins again.", markup=False)
        ranks.first(run.begin_again)
        ranks.first(functools.partial(run.rewrite_config, resolved))
    else:
        ranks.first(functools.partial(run.begin, resolved))
    return agent


def _as_written(config: TrainConfig, agent: LanguageAgent, threads: int) -> dict[str, Any]:
    """Return what `config.json` holds: the options, and what has come of them."""
    from heed.training.wrappers import augmentations_for

    return {
        **config.as_json(),
        "threads": threads,
        "augmentations": list(augmentations_for(config.augment, config.env, **config.env_arguments)),
        "hyperparameters": agent.hyperparameters,
    }


def _resume(config: TrainConfig, run: RunFolder, env: VecEnv, console: Console, ranks: Ranks) -> LanguageAgent:
    """Load the run's newest checkpoint that is whole, and drop what the curve holds beyond it."""
    from heed.agents import AGENTS

    found = ranks.first(run.find_checkpoint)
    for sentence in found.passed_over:
        console.print(sentence, markup=False)
    agent: LanguageAgent = AGENTS[config.agent].load(found.path, env=env, device=config.device)
    threads = set_threads(config.threads, agent)

    def go_on() -> None:
        for sentence in run.saved.set_aside(found.damaged):
            console.print(sentence, markup=False)
        run.remove_left_behind()
        run.cut_curve(agent.num_timesteps)
        run.cut_lost_episodes(agent.num_timesteps)
        run.rewrite_config(_as_written(config, agent, threads))

    ranks.first(go_on)
    return agent


def _track(config: TrainConfig, run: RunFolder, agent: LanguageAgent, time_taken: TrainingTime) -> Tracking:
    """Let the agent log into the run's trackers."""
    from stable_baselines3.common.logger import Logger

    from heed.training.tracking.opening import open_tracking

    try:
        tracking = open_tracking(config, run, agent, on_point=time_taken.note)
    except ConfigurationError:
        if not config.resume:
            run.remove()  # nothing has come of it, and the same command is to work next time
        raise
    agent.set_logger(Logger(folder=None, output_formats=[tracking]))
    return tracking


def _parse(arguments: list[str] | None) -> TrainConfig:
    """Parse the command line; with `--resume` the run's own options are the defaults.

    Raises:
        ConfigurationError: if `--resume` comes with an option that would make it another training.
    """
    config = parse(TrainConfig, arguments, command="heed train")
    use_model_file(config.model)  # of the command line, not of a run that is resumed
    if not config.resume:
        return config
    from heed.training.run_folder import RunFolder

    folder = config.resolved().run_dir
    assert folder is not None
    saved = dataclasses.replace(TrainConfig.from_json(RunFolder(folder).read_config()), run_dir=folder)
    config = parse(TrainConfig, arguments, command="heed train", saved=saved)
    for field in dataclasses.fields(TrainConfig):
        ours, theirs = getattr(config, field.name), getattr(saved, field.name)
        same = as_compared(field.name, ours) == as_compared(field.name, theirs)
        if not same and field.name not in CHANGES_ON_RESUME:
            raise ConfigurationError(
                f"The run in {folder} was begun with --{field.name.replace('_', '-')} {theirs}: it cannot be continued "
                f"with {ours}. Leave the option out, or begin another run."
            )
    return config


def main(arguments: list[str] | None = None) -> None:
    """Run `heed train` with the command line's arguments."""
    with as_sentence():
        with _quiet_beside_others():
            config = _parse(arguments)
            _require_device(config.device)
        train(config)


def _require_device(device: str) -> None:
    """Refuse a device that is not there, before anything is computed.

    Raises:
        DeviceError: saying so.
    """
    from heed.agents.device import available_device

    available_device(device)


@contextlib.contextmanager
def _quiet_beside_others() -> Iterator[None]:
    """Let one of several processes on a machine say what is wrong with the command that all of them were given."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        yield
        return
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            yield
        except known_errors():
            raise SystemExit(STATUS) from None


if __name__ == "__main__":
    main()
