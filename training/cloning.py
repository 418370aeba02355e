"""What `heed train` does before its first step where there are demonstrations: cloning, and rounds of DAgger."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from heed.evaluation.command_line import tell
from heed.training.errors import ConfigurationError
from heed.training.wrappers import (
    augmentations_for,
    reworded_demonstrations,
    wrappers_of_agent,
    wrappers_to_label_in,
)

if TYPE_CHECKING:
    from rich.console import Console

    from heed.agents import LanguageAgent
    from heed.agents.imitation.cloning import Cloned, Cloning, Epoch
    from heed.agents.policy_gradient import PolicyGradient
    from heed.envs.demonstrations.demonstrations import Demonstration
    from heed.training.options import TrainConfig
    from heed.training.run_folder import RunFolder


def read_for(config: TrainConfig) -> Sequence[Demonstration]:
    """Read the demonstrations that a training is to begin with, and check what can be before it begins.

    Those whose instruction names a phrase that is held out are left out; with `--augment` they are told in other words.

    Raises:
        DemonstrationError: if the file cannot be used, or nothing of it is left.
        ConfigurationError: if the environment has no expert for DAgger.
    """
    from heed.agents.imitation.readable_demonstrations import require_readable
    from heed.envs.contract import action_texts_of, expert_of
    from heed.envs.demonstrations.demonstrations import DemonstrationError, read_demonstrations
    from heed.envs.hold_out import HoldOut
    from heed.envs.make import make_env
    from heed.policies.modalities.modality import modalities_of

    if config.demonstrations is None and not config.dagger_rounds:
        return ()
    names = augmentations_for(config.augment, config.env, **config.env_arguments)
    env = make_env(config.env, **config.env_arguments)
    texts, expert = action_texts_of(env) or (), expert_of(env)  # what is recorded has the environment's own actions
    for wrap in wrappers_of_agent(names):
        env = wrap(env)
    assert isinstance(env.observation_space, spaces.Dict)  # a language environment's
    modalities = modalities_of(env.observation_space, env.action_space, words_only=config.words_only)
    env.close()
    if config.dagger_rounds and expert is None:
        raise ConfigurationError(
            f"--dagger-rounds needs an expert to ask, but {config.env} has no method `expert_action`. BabyAI's levels "
            "have one."
        )
    if config.demonstrations is None:
        return ()
    episodes = read_demonstrations(config.demonstrations, action_texts=texts).episodes
    kept = HoldOut(config.hold_out).demonstrations(episodes)
    if not kept:
        held_out = ", ".join(config.hold_out)
        raise DemonstrationError(f"All demonstrations in {config.demonstrations} name what is held out: {held_out}.")
    kept = reworded_demonstrations(names, kept)
    require_readable(kept, modalities)
    return kept


def learn_from_demonstrations(
    agent: LanguageAgent,
    demonstrations: Sequence[Demonstration],
    config: TrainConfig,
    run: RunFolder,
    console: Console,
) -> None:
    """Let a policy gradient clone the demonstrations, or DQN keep them and learn from them, before the first step.

    Raises:
        SystemExit: on Ctrl-C while it clones, after a sentence.
    """
    from heed.agents import DQN
    from heed.agents.policy_gradient import PolicyGradient

    if isinstance(agent, PolicyGradient) and config.clones:
        try:
            clone_into(agent, demonstrations, config, run, console)
        except KeyboardInterrupt:
            tell(console, f"Stopped while cloning: nothing is saved yet. To begin again: {run.command_to_continue()}")
            raise SystemExit(130) from None
        # From here on the run can be resumed, and the clone is one of its checkpoints.
        agent.save(run.checkpoint_path(0))
    if isinstance(agent, DQN) and demonstrations:
        agent.add_demonstrations(demonstrations, history=config.history)
        agent.pretrain(config.pretraining_updates)


def clone_into(
    agent: PolicyGradient,
    demonstrations: Sequence[Demonstration],
    config: TrainConfig,
    run: RunFolder,
    console: Console,
) -> None:
    """Clone, show how it goes, and write `cloning.json` into the run folder."""
    from heed.agents.imitation.cloning import Cloning, clone
    from heed.agents.imitation.dagger import Round, dagger
    from heed.agents.persistence.checkpoint import write_json
    from heed.envs.make import make_env

    settings = Cloning(
        epochs=config.clone_epochs,
        learning_rate=config.clone_learning_rate,
        batch_size=config.clone_batch_size,
        seed=config.seed,
    )
    with _EpochBar(settings, console) as show:
        if not config.dagger_rounds:
            cloned = clone(agent, demonstrations, settings, history=config.history, on_epoch=show)
            _tell("Cloned", cloned, console)
            rounds = [{"number": 0, "cloned": cloned.as_json()}]
        else:

            def told(this: Round) -> None:
                what = f"DAgger round {this.number} ({this.played} episodes, success {this.success_rate:.3f}): cloned"
                _tell(what if this.number else "Cloned", this.cloned, console)

            aggregated = dagger(
                agent,
                functools.partial(
                    make_env,
                    config.env,
                    hold_out=config.hold_out,
                    max_steps=config.max_steps,
                    wrappers=wrappers_to_label_in(
                        augmentations_for(config.augment, config.env, **config.env_arguments)
                    ),
                    **config.env_arguments,
                ),
                demonstrations,
                settings,
                rounds=config.dagger_rounds,
                episodes=config.dagger_episodes,
                history=config.history,
                max_episode_steps=config.max_episode_steps,
                step_timeout=config.step_timeout,
                reset_timeout=config.reset_timeout,
                on_epoch=show,
                on_round=told,
            )
            rounds = [this.as_json() for this in aggregated.rounds]
    agent.ranks.first(lambda: write_json(run.cloning, {"rounds": rounds}))


def _tell(what: str, cloned: Cloned, console: Console) -> None:
    best = cloned.best
    console.print(
        f"{what} {cloned.episodes} episodes ({cloned.examples} steps) in {len(cloned.epochs)} epochs; the best is "
        f"epoch {best.epoch}: {best.validation_accuracy:.3f} of the actions of {cloned.validation_episodes} held-out "
        f"episodes are right, cross-entropy {best.validation_loss:.3f}."
    )


class _EpochBar:
    """A bar over the epochs of a cloning, of one after another."""

    def __init__(self, settings: Cloning, console: Console):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns: tuple[Any, ...] = (TextColumn("cloning"), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*columns, TextColumn("{task.description}"), console=console, transient=True)
        self._task = self._progress.add_task("accuracy -", total=settings.epochs)

    def __enter__(self) -> Callable[[Epoch], None]:
        self._progress.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _show(self, epoch: Epoch) -> None:
        accuracy = f"accuracy {epoch.validation_accuracy:.3f}"
        self._progress.update(self._task, completed=epoch.epoch, description=accuracy)
