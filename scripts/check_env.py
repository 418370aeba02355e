"""Check that an environment keeps the language contract: `heed check-env ID`."""

from __future__ import annotations

from dataclasses import dataclass

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heed.scripts.errors import ConfigurationError, as_sentence


@dataclass(frozen=True, kw_only=True)
class CheckEnvConfig:
    """Check that an environment keeps the language contract, and say how to mend what does not."""

    env: tyro.conf.Positional[str]
    """The environment's id, package.module:Id-v0 to import the module that registers it, or a mixture: LEVEL+LEVEL."""
    episodes: int = 5
    """How many episodes to play with random actions, at least 2."""
    seed: int = 0
    """Seed of the first episode; the others follow."""


def run(config: CheckEnvConfig) -> bool:
    """Print the checks and a sample of what the agent reads.

    Args:
        config: what to check.

    Returns:
        Whether the environment passed all checks.

    Raises:
        UnknownEnvironmentError: if no environment has this id.
        ConfigurationError: if there are too few episodes.
    """
    from heed.envs.checks import check_env  # here, so that `--help` need not wait for it

    if config.episodes < 2:
        raise ConfigurationError(f"--episodes must be at least 2, to compare them, but is {config.episodes}.")
    checks = check_env(config.env, episodes=config.episodes, seed=config.seed)
    console = Console()
    table = Table(title=Text(f"The language contract and {config.env}"), title_justify="left")
    for heading in ("", "check", "what was seen"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        # Text, because the environment's words may hold square brackets, which rich would read as markup.
        mark = Text("passed", "green") if check.passed else Text("failed", "bold red")
        table.add_row(mark, check.name, Text(check.detail))
        if check.mend:
            table.add_row("", "", Text(f"Mend: {check.mend}", "yellow"))
    console.print(table)
    passed = all(check.passed for check in checks)
    if passed:
        console.print(_sample(config))
    return passed


def _sample(config: CheckEnvConfig) -> Table:
    """Return what the agent reads at the beginning of the first episode."""
    from heed.envs.contract import action_texts_of
    from heed.envs.make import make_env

    env = make_env(config.env)
    observation, _ = env.reset(seed=config.seed)
    texts = action_texts_of(env)
    env.close()
    table = Table(title="What the agent reads", title_justify="left", show_header=False)
    table.add_row("instruction", Text(observation["instruction"]))
    table.add_row("observation", Text(observation["observation"]))
    table.add_row("action texts", Text(", ".join(texts) if texts else f"none: {env.action_space}"))
    return table


def main(arguments: list[str] | None = None) -> None:
    """Check an environment from the command line; exit with status 1 if a check failed.

    Args:
        arguments: those of the command line; None takes the program's own.
    """
    config = tyro.cli(CheckEnvConfig, prog="heed check-env", args=arguments)
    if not run(config):
        raise SystemExit(1)


if __name__ == "__main__":
    with as_sentence():
        main()
