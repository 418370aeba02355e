"""`heed tune`: search for the options that train best, over ranges of them and several seeds."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence, require_at_least

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Search for the options that train best; each trial is judged by the training curves of its seeds.

    The plan is a YAML file with `base` (options of `heed train`), `search` (options with their ranges, such as
    {low: 1e-5, high: 1e-3, log: true}, or a list of values; under `set` arguments without an option), `seeds`, `trials`
    and `metric` (success or return). Stopped at any time, the same command goes on where it was. Needs
    pip install 'heed[tune]'.
    """

    plan: tyro.conf.Positional[Path]
    """The YAML file."""
    out: Path
    """Folder for the runs, the journal, best.yaml, the table and the picture."""
    trials: int | None = None
    """Trials, with those that are there (default: the plan's; without one 20)."""
    jobs: int = 1
    """Trials side by side, each on its share of the cores."""
    prune: bool = True
    """End a trial early whose curve lags behind the median of those before it."""
    seed: int = 0
    """Of what is tried; seeds of the trainings are the plan's."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        require_at_least(self, {"jobs": 1, "seed": 0})
        if self.trials is not None:
            require_at_least(self, {"trials": 1})


def tune(config: TuneConfig) -> Path:
    """Try what is not tried yet, and write what came of it.

    Returns:
        The best options.

    Raises:
        ConfigurationError: if the plan cannot be, optuna is missing, the folder holds another search, or no trial came
            to its end.
        UnknownEnvironmentError, ContractError, EnvironmentArgumentError: if an environment of it cannot be used.
        SystemExit: on Ctrl-C, after a sentence.
    """
    from heed.training.tuning.searching import require_optuna

    require_optuna()
    from rich.console import Console

    from heed.envs.arguments import require_arguments
    from heed.envs.make import make_env
    from heed.training.tuning.plan import Search, told_options
    from heed.training.tuning.results import ranked, train_command, write_results
    from heed.training.tuning.searching import REASON, ended, open_study, run_trials, told_how_to_go_on

    console = Console(highlight=False)
    search = Search.read(config.plan)
    trials = config.trials or search.trials
    worlds = {(one.env, one.env_kwargs): one for one in search.configs()}
    for one in worlds.values():  # told before hours of training
        require_arguments(one.env, one.env_arguments)
        make_env(one.env, **one.env_arguments).close()
    command = _command(config)
    study = open_study(config.out, search, seed=config.seed, prune=config.prune)
    console.print(f"Trials: {trials}, seeds of each: {len(search.seeds)}; done already: {len(ended(study))}.")

    def told(trial: FrozenTrial) -> None:
        complete = trial.state.name == "COMPLETE"
        what = f"{search.metric} {trial.value:.3f}" if complete else trial.state.name.lower()
        reason = f": {trial.user_attrs[REASON]}" if REASON in trial.user_attrs else ""
        values = told_options(trial.params)
        console.print(f"{len(ended(study))}/{trials} {values}: {what}{reason}", markup=False, soft_wrap=True)

    with told_how_to_go_on(command):
        run_trials(study, search, config.out, trials=trials, jobs=config.jobs, on_end=told)
    found = ended(study)
    files = write_results(config.out, search, found, command)
    if not ranked(found):
        raise ConfigurationError(f"No trial came to its end. {files[1]} says why.")
    for path in files:
        console.print(f"  {path}", markup=False, soft_wrap=True)
    console.print(f"Train with the best options: {train_command(config.out, search)}", markup=False, soft_wrap=True)
    return files[0]


def _command(config: TuneConfig) -> str:
    words = ["heed", "tune", str(config.plan), "--out", str(config.out)]
    words += [] if config.trials is None else ["--trials", str(config.trials)]
    words += [] if config.jobs == 1 else ["--jobs", str(config.jobs)]
    words += [] if config.prune else ["--no-prune"]
    return shlex.join([*words, *([] if not config.seed else ["--seed", str(config.seed)])])


def main(arguments: list[str] | None = None) -> None:
    """Run `heed tune` with the command line's arguments."""
    with as_sentence():
        tune(parse(TuneConfig, arguments, command="heed tune"))


if __name__ == "__main__":
    main()
