"""`heed ablate`: variants of a training, over several seeds, and what they make of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence, require_at_least

if TYPE_CHECKING:
    from rich.console import Console

    from heed.training.ablation.plan import Plan, Training
    from heed.training.ablation.running import Failed


@dataclass(frozen=True, kw_only=True)
class AblateConfig:
    """Train and evaluate variants of a training with several seeds, and hold them against the first of them.

    The plan is a YAML file with `base` (options of `heed train` that all have in common), `variants` (a name, and the
    options in which it differs) and `seeds`. Stopped at any time, the same command goes on where it was.
    """

    plan: tyro.conf.Positional[Path]
    """The YAML file."""
    out: Path
    """Folder for the runs and the comparison."""
    jobs: int = 1
    """Trainings side by side, each on its share of the cores."""
    episodes: int = 500
    """Held-out episodes of each evaluation, unless the plan says another `eval_episodes`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        require_at_least(self, {"jobs": 1, "episodes": 1})


def ablate(config: AblateConfig) -> Path:
    """Train what is not trained yet, and write the comparison.

    Returns:
        The table.

    Raises:
        ConfigurationError: if the plan cannot be, or nothing came of any training.
        UnknownEnvironmentError, ContractError: if an environment of it cannot be used.
    """
    from rich.console import Console

    from heed.envs.arguments import require_arguments
    from heed.envs.make import make_env
    from heed.training.ablation.plan import Plan
    from heed.training.ablation.running import run_all, state_of

    console = Console(highlight=False)
    plan = Plan.read(config.plan, out=config.out, episodes=config.episodes)
    configs = {(training.config.env, training.config.env_kwargs): training.config for training in plan.trainings}
    for one in configs.values():  # told before hours of training
        require_arguments(one.env, one.env_arguments)
        make_env(one.env, **one.env_arguments).close()
    states = {training.folder: state_of(training) for training in plan.trainings}
    to_do = [training for training in plan.trainings if states[training.folder] != "done"]
    done = len(plan.trainings) - len(to_do)
    console.print(f"{len(plan.trainings)} trainings: {len(plan.variants)} variants; {done} are done already.")
    number = done

    def told(training: Training, failure: Failed | None) -> None:
        nonlocal number
        number += 1
        what = "done" if failure is None else f"FAILED: {failure.reason}"
        seed = training.config.seed
        console.print(f"{number}/{len(plan.trainings)} {training.variant}, seed {seed}: {what}", markup=False)

    failed = run_all(to_do, jobs=config.jobs, on_end=told)
    return _compare(config, plan, failed, console)


def _compare(config: AblateConfig, plan: Plan, failed: list[Failed], console: Console) -> Path:
    from heed.scripts.compare import CompareConfig, compare

    lost = {failure.training.folder for failure in failed}
    whole = [training for training in plan.trainings if training.folder not in lost]
    if not whole:
        raise ConfigurationError(f"Nothing to compare: all trainings failed, the first with {failed[0].reason}")
    for failure in failed:
        console.print(
            f"The table is without {failure.training.variant}, seed {failure.training.config.seed}: run it again with "
            "the same command.",
            markup=False,
        )
    by_variant = [training for name in plan.variants for training in whole if training.variant == name]
    return compare(
        CompareConfig(runs=tuple(training.folder for training in by_variant), out=config.out),
        names={training.folder: training.variant for training in by_variant},
    )


def main(arguments: list[str] | None = None) -> None:
    """Run `heed ablate` with the command line's arguments."""
    with as_sentence():
        ablate(parse(AblateConfig, arguments, command="heed ablate"))


if __name__ == "__main__":
    main()
