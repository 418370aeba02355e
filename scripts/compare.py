"""`heed compare`: runs side by side, those that differ in their seed only as one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence, require_at_least

if TYPE_CHECKING:
    from rich.console import Console

    from heed.training.comparison.groups import Run

NUMBERS, TABLE, PICTURE, PROFILE = "comparison.json", "comparison.md", "curves.png", "profile.png"


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare trainings on the same held-out episodes: tables, paired differences, pictures, and a page."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders that `heed train` wrote. Those that differ in nothing but their seed become one group."""
    out: Path
    """Folder for comparison.html, .json and .md, curves.png and profile.png; what they hold is replaced."""
    suite: str | None = None
    """Evaluate the runs that are not evaluated on this suite yet, as `heed evaluate --suite` does (default: take the
    evaluations as they are)."""
    episodes: int | None = None
    """Evaluate the runs that are not evaluated on so many episodes yet, as `heed evaluate` does (default: take the
    evaluations as they are)."""
    threads: int | None = None
    """Threads of those evaluations, as of `heed evaluate`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.runs:
            raise ConfigurationError("Give the folders of runs: heed compare RUN [RUN ...] --out FOLDER.")
        for name in ("episodes", "threads"):
            if getattr(self, name) is not None:
                require_at_least(self, {name: 1})


def compare(config: CompareConfig, names: Mapping[Path, str] | None = None) -> Path:
    """Evaluate what is not evaluated yet, and write the comparison.

    Args:
        config: the command's options.
        names: of the groups, by a run's folder (default: what their configurations differ in).

    Returns:
        The table.

    Raises:
        RunFolderError: if no folder holds a run with a checkpoint.
        ConfigurationError: if a run is not evaluated and shall not be, or runs cannot be compared.
        CheckpointError: if a file of every run is damaged.
    """
    # These take seconds to import, which `--help` need not wait for.
    from rich.console import Console

    from heed.agents.persistence.checkpoint import write_json
    from heed.evaluation.report.comparison import write_comparison_page
    from heed.training.comparison.drawing import draw_curves, draw_profile
    from heed.training.comparison.groups import grouped
    from heed.training.comparison.numbers import numbers_of
    from heed.training.comparison.table import markdown

    if config.out.exists() and not config.out.is_dir():
        raise ConfigurationError(f"--out {config.out} is a file, but must be a folder: give another.")
    console = Console(highlight=False)
    runs, missing = _read_runs(config, console)
    groups = grouped(runs, names)
    numbers = {**numbers_of(groups), "missing": missing}
    numbers["command"] = _own_command(config, numbers["episodes"])
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / NUMBERS, numbers)
    draw_curves(numbers, config.out / PICTURE)
    pictures = [PICTURE, *([PROFILE] if draw_profile(numbers, config.out / PROFILE) else [])]
    page = markdown(numbers, command=numbers["command"])
    table = config.out / TABLE
    table.write_text(page, encoding="utf-8")
    html = write_comparison_page(config.out, numbers)
    console.print(page, markup=False, soft_wrap=True)
    for path in (config.out / NUMBERS, table, html, *(config.out / name for name in pictures)):
        console.print(f"  {path}", markup=False)
    return table


def _read_runs(config: CompareConfig, console: Console) -> tuple[list[Run], list[dict[str, Any]]]:
    """Evaluate what needs it; return the runs, and what is missing of them and why.

    Raises:
        ConfigurationError: if a run is not evaluated and shall not be.
        RunFolderError, CheckpointError: if none of the folders can be used.
    """
    from heed.agents.persistence.checkpoint import CheckpointError
    from heed.evaluation.playing import EpisodesError
    from heed.scripts.evaluate import EvaluateConfig, evaluate_run
    from heed.training.comparison.groups import Run, needs_evaluation
    from heed.training.run_folder import RunFolderError

    broken = (CheckpointError, EpisodesError, RunFolderError)
    suite = None if config.suite is None else _name_of(config.suite)
    reasons: dict[Path, str | None] = {}
    errors: dict[Path, Exception] = {}
    for folder in dict.fromkeys(config.runs):
        try:
            reasons[folder] = needs_evaluation(folder, config.episodes, suite)
        except broken as error:
            errors[folder] = error
    for folder, reason in reasons.items():
        if reason is not None and config.episodes is None and suite is None:
            raise ConfigurationError(f"{folder} {reason}: give --episodes 500 to evaluate what needs it.")
    runs = []
    for folder, reason in reasons.items():
        try:
            if reason is not None:
                evaluate_run(
                    EvaluateConfig(run_dir=folder, episodes=config.episodes, suite=config.suite, threads=config.threads)
                )
            runs.append(Run.read(folder))
        except broken as error:
            errors[folder] = error
    if not runs:
        raise next(iter(errors.values()))
    told = {folder: str(why) for folder, why in errors.items()}
    for run in runs:
        if not run.episodes:
            told[run.folder] = "It has no differences: there is no episodes.csv of its evaluation."
    for folder, why in told.items():
        console.print(f"Missing: {folder}. {why}", markup=False)
    missing = [
        {"env": "", "axis": "", "policy": "", "episodes": 0, "run": str(folder), "reason": why}
        for folder, why in told.items()
    ]
    return runs, missing


def _name_of(suite: str) -> str:
    from heed.evaluation.suites import load_suite

    return load_suite(suite).name


def _own_command(config: CompareConfig, episodes: int) -> str:
    folders = [str(folder) for folder in config.runs]
    suite = ["--suite", config.suite] if config.suite is not None else []
    return shlex.join(["heed", "compare", *folders, *suite, "--episodes", str(episodes), "--out", str(config.out)])


def main(arguments: list[str] | None = None) -> None:
    """Run `heed compare` with the command line's arguments."""
    with as_sentence():
        compare(parse(CompareConfig, arguments, command="heed compare"))


if __name__ == "__main__":
    main()
