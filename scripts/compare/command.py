"""`heed compare`: runs side by side, those that differ in their seed only as one."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import tyro

from heed.scripts.errors import ConfigurationError, as_sentence

NUMBERS, TABLE, PICTURE = "comparison.json", "comparison.md", "curves.png"


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare trainings: a table of success on held-out episodes, and a picture of how fast they learned."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders that `heed train` wrote. Those that differ in nothing but their seed become one group."""
    out: Path
    """Folder for comparison.json, comparison.md and curves.png; what they hold is replaced."""
    episodes: int | None = None
    """Evaluate the runs that are not evaluated on so many episodes yet, as `heed evaluate` does (default: take the
    evaluations as they are)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.runs:
            raise ConfigurationError("Give the folders of runs: heed compare RUN [RUN ...] --out FOLDER.")
        if self.episodes is not None and self.episodes < 1:
            raise ConfigurationError(f"--episodes is {self.episodes}, but must be at least 1.")


def compare(config: CompareConfig) -> Path:
    """Evaluate what is not evaluated yet, and write the comparison.

    Returns:
        The table.

    Raises:
        RunFolderError: if a folder holds no run, or one without a checkpoint.
        ConfigurationError: if a run is not evaluated and shall not be, or runs cannot be compared.
        CheckpointError: if a file of a run is damaged.
    """
    # These take seconds to import, which `--help` need not wait for.
    from rich.console import Console

    from heed.agents.checkpoint import write_json
    from heed.scripts.compare.drawing import draw_curves
    from heed.scripts.compare.groups import Run, grouped, needs_evaluation
    from heed.scripts.compare.numbers import numbers_of
    from heed.scripts.compare.table import markdown
    from heed.scripts.evaluate import EvaluateConfig, evaluate_run

    if config.out.exists() and not config.out.is_dir():
        raise ConfigurationError(f"--out {config.out} is a file, but must be a folder: give another.")
    reasons = {folder: needs_evaluation(folder, config.episodes) for folder in config.runs}
    for folder, reason in reasons.items():
        if reason is not None and config.episodes is None:
            raise ConfigurationError(f"{folder} {reason}: give --episodes 500 to evaluate what needs it.")
    for folder, reason in reasons.items():
        if reason is not None:
            assert config.episodes is not None
            evaluate_run(EvaluateConfig(run_dir=folder, episodes=config.episodes))
    groups = grouped([Run.read(folder) for folder in dict.fromkeys(config.runs)])
    numbers = numbers_of(groups)
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / NUMBERS, numbers)
    draw_curves(numbers, config.out / PICTURE)
    page = markdown(numbers, command=_own_command(config, numbers["episodes"]))
    table = config.out / TABLE
    table.write_text(page, encoding="utf-8")
    console = Console(highlight=False)
    console.print(page, markup=False, soft_wrap=True)
    for name in (NUMBERS, TABLE, PICTURE):
        console.print(f"  {config.out / name}")
    return table


def _own_command(config: CompareConfig, episodes: int) -> str:
    folders = [str(folder) for folder in config.runs]
    return shlex.join(["heed", "compare", *folders, "--episodes", str(episodes), "--out", str(config.out)])


def main(arguments: list[str] | None = None) -> None:
    """Run `heed compare` with the command line's arguments."""
    with as_sentence():
        compare(tyro.cli(CompareConfig, args=arguments, prog="heed compare"))


if __name__ == "__main__":
    main()
