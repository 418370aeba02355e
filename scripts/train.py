"""`heed train`: train a language-model agent, evaluate it, write its report."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from typing import TYPE_CHECKING

import tyro

from heed.scripts.errors import ConfigurationError, as_sentence
from heed.scripts.train_options import CHANGES_ON_RESUME, TrainConfig

if TYPE_CHECKING:
    from rich.console import Console
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecEnv

    from heed.agents import A2C, DQN, GRPO, PPO, QLearning
    from heed.scripts.run_folder import RunFolder
    from heed.scripts.tracking.tracking import Tracking
    from heed.scripts.training_time import TrainingTime

STATS_WINDOW = 500
"""Episodes that the success rate and return of the curve are taken over."""
LOG_INTERVAL = {"ppo": 1, "a2c": 4, "reinforce": 1, "grpo": 1, "dqn": 10, "q-learning": 100}
"""How often is logged: in rollouts for policy gradients, in episodes for the others."""


def train(config: TrainConfig) -> None:
    """Train, evaluate, and write the report.

    Raises:
        ConfigurationError: if an option cannot be.
        UnknownEnvironmentError, ContractError: if the environment cannot be used.
        HoldOutError: if a phrase cannot be held out of it.
        DemonstrationError: if the demonstrations cannot be used.
        LanguageModelError: if there is no such language model.
        RunFolderError: if the run folder holds another run, or with `resume` none; if it cannot be written, before or
            during the training.
        CheckpointError: if none of the checkpoints to continue from can be read.
        SystemExit: after a signal that ended the training, with 128 and its number as status.
        TooManyLostEpisodesError: if environments lose one episode after the other.
    """
    # These take seconds to import, which `--help` and a misspelt option need not wait for.
    from rich.console import Console

    from heed.scripts.evaluate.command import EvaluateConfig, evaluate_run
    from heed.scripts.run_folder import RunFolder

    config = config.resolved()
    assert config.run_dir is not None
    run = RunFolder(config.run_dir)
    if config.resume:
        run.require_own_files()
    else:
        run.require_empty()
    run.require_writable()
    console = Console(highlight=False)
    with run.telling_of_the_disk():
        stopped = _train(config, run, console)
    if stopped:
        console.print(f"Stopped and saved. Continue with: heed train --run-dir {run.path} --resume")
        raise SystemExit(stopped)
    if config.eval_episodes:
        with run.telling_of_the_disk():
            evaluate_run(EvaluateConfig(run_dir=run.path, episodes=config.eval_episodes))


def _train(config: TrainConfig, run: RunFolder, console: Console) -> int:
    """Train; return the exit status that a signal asks for, which ended it early, or 0."""
    from heed.envs.faults import told_losses
    from heed.scripts.cloning import learn_from_demonstrations, read_for
    from heed.scripts.memory.telling import tell_estimate, tell_used
    from heed.scripts.progress import (
        Checkpointing,
        LogCurriculum,
        LogIntrinsicReward,
        ProgressBar,
        RecordLostEpisodes,
        StopWhenSolved,
    )
    from heed.scripts.stopping import INTERRUPTED, StopOnSignal
    from heed.scripts.tracking.samples import TrackTraining
    from heed.scripts.training_time import TrainingTime

    assert config.steps is not None
    assert config.stop_at_success is not None
    if config.wandb:
        from heed.scripts.tracking.weights_and_biases import require_wandb

        require_wandb()
    if config.resume:
        run.require_training()
    # A run that was killed before its first checkpoint begins anew, and comes out as if it had never been killed.
    fresh = not config.resume or not run.saved.all()
    env = _make_env(config)
    demonstrations = read_for(config) if fresh else ()
    estimate = tell_estimate(config, console)
    agent = _begin(config, run, env, console) if fresh else _resume(config, run, env, console)
    time_taken = TrainingTime(run, steps=agent.num_timesteps)
    tracking = _track(config, run, agent, time_taken)

    console.print(
        f"{config.agent} with {_described(config, agent)} on {config.env}, "
        f"{env.num_envs} environments, {agent.device}. Run folder: {run.path}"
    )
    began, began_at = time.monotonic(), agent.num_timesteps
    log_also: list[BaseCallback] = [LogIntrinsicReward()] if config.intrinsic else []
    log_also += [LogCurriculum()] if config.curriculum else []
    log_also += [TrackTraining(tracking, config)]
    checkpointing = Checkpointing(run, time_taken, every=config.save_every, keep=config.keep_checkpoints)
    solved = StopWhenSolved(config.stop_at_success, episodes=STATS_WINDOW)
    progress = ProgressBar(config.steps)
    lost = RecordLostEpisodes(run)
    stop = StopOnSignal()
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
                            callback=[stop, checkpointing, solved, *log_also, lost, progress],
                            log_interval=LOG_INTERVAL[config.agent],
                            reset_num_timesteps=fresh,
                        )
                    checkpointing.save()
    except KeyboardInterrupt:
        console.print(f"Ended at once. {run.told_last_good()}")
        raise SystemExit(stop.status if stop.at_once else INTERRUPTED) from None
    seconds = time.monotonic() - began
    steps = agent.num_timesteps - began_at
    if steps:
        console.print(f"Trained for {steps} steps in {seconds:.0f} s ({steps / max(seconds, 1e-9):.0f} steps/s).")
    tell_used(run, agent.device, estimate, console)
    if env.unwrapped.lost_count:  # type: ignore[attr-defined]
        told = told_losses(env.unwrapped.lost_summary())  # type: ignore[attr-defined]
        console.print(f"{told} All of them: {run.lost_episodes}", markup=False)
    if solved.reached:
        console.print(f"Stopped early: the last {STATS_WINDOW} episodes had a success rate of {solved.reached:.3f}.")
    return stop.status if stop.received is not None else 0


def _make_env(config: TrainConfig) -> VecEnv:
    from heed.envs.make import make
    from heed.scripts.train_wrappers import wrapping

    assert config.n_envs is not None
    group_size = config.group_size or 1
    if config.n_envs % group_size:
        raise ConfigurationError(f"--n-envs is {config.n_envs}, but must be a multiple of --group-size {group_size}.")
    env = make(
        config.env,
        n_envs=config.n_envs,
        seed=config.seed,
        group_size=group_size,
        processes=config.processes,
        step_timeout=config.step_timeout,
        reset_timeout=config.reset_timeout,
        max_lost=config.max_lost,
        hold_out=config.hold_out,
        history=config.history,
        **wrapping(config),
    )
    if config.scale_rewards:
        from heed.agents.scaled_rewards import ScaledRewardsVecEnv
        from heed.scripts.agent_arguments import discount

        env = ScaledRewardsVecEnv(env, gamma=discount(config))
    if config.intrinsic is None:
        return env
    from heed.agents.exploration import CountBonus, IntrinsicRewardVecEnv, RandomNetworkDistillation

    assert config.intrinsic_coef is not None
    bonus = CountBonus() if config.intrinsic == "count" else RandomNetworkDistillation(seed=config.seed)
    return IntrinsicRewardVecEnv(env, bonus, coefficient=config.intrinsic_coef)


def _described(config: TrainConfig, agent: PPO | A2C | GRPO | DQN | QLearning) -> str:
    """Return what learns, in words."""
    if config.agent == "q-learning":
        return "a table"
    size = sum(parameter.numel() for parameter in agent.language_policy.language_model.model.parameters())
    return f"{config.model} ({size / 1e6:.2f} M parameters, {config.head} head)"


def _begin(config: TrainConfig, run: RunFolder, env: VecEnv, console: Console) -> PPO | A2C | GRPO | DQN | QLearning:
    """Make a new agent, and only when that worked the run folder."""
    import torch

    from heed.agents import AGENTS
    from heed.scripts.agent_arguments import agent_arguments

    try:
        agent = AGENTS[config.agent](
            env=env,
            seed=config.seed,
            device=config.device,
            stats_window_size=STATS_WINDOW,
            **agent_arguments(config),
        )
    except torch.OutOfMemoryError as error:
        raise ConfigurationError(
            f"The agent does not fit into the memory of {config.device}: {error} `heed memory` with the same options "
            "says what needs how much, and what takes less."
        ) from None
    except (ValueError, AssertionError, RuntimeError) as error:
        # Nothing but the configuration has come in yet: what the agent refuses, the user can mend.
        if isinstance(error, ValueError) and type(error) is not ValueError:
            raise
        raise ConfigurationError(str(error)) from error
    resolved = {**config.as_json(), "hyperparameters": agent.hyperparameters}
    if config.resume:
        console.print(f"{run.path} has no checkpoint yet: the run begins again.")
        run.begin_again()
        run.rewrite_config(resolved)
    else:
        run.begin(resolved)
    return agent


def _resume(config: TrainConfig, run: RunFolder, env: VecEnv, console: Console) -> PPO | A2C | GRPO | DQN | QLearning:
    """Load the run's newest checkpoint that is whole, and drop what the curve holds beyond it."""
    from heed.agents import AGENTS

    found = run.find_checkpoint()
    for sentence in found.passed_over:
        console.print(sentence, markup=False)
    agent = AGENTS[config.agent].load(found.path, env=env, device=config.device)
    for sentence in run.saved.set_aside(found.damaged):
        console.print(sentence, markup=False)
    run.remove_left_behind()
    run.cut_curve(agent.num_timesteps)
    run.cut_lost_episodes(agent.num_timesteps)
    run.rewrite_config({**config.as_json(), "hyperparameters": agent.hyperparameters})
    return agent


def _track(
    config: TrainConfig, run: RunFolder, agent: PPO | A2C | GRPO | DQN | QLearning, time_taken: TrainingTime
) -> Tracking:
    """Let the agent log into the run's trackers."""
    from stable_baselines3.common.logger import Logger

    from heed.scripts.tracking.opening import open_tracking

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
