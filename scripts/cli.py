"""`heed`: the one command, which hands on to train, evaluate and the others."""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
from typing import TextIO

from heed.training.threads import wait_asleep

COMMANDS = {
    "train": ("heed.scripts.train", "train a language-model agent, evaluate it, write its report"),
    "memory": ("heed.scripts.memory", "estimate what memory a training needs, before it begins"),
    "demos": ("heed.scripts.demos", "record demonstrations: a bot's, a trained agent's or your own"),
    "evaluate": ("heed.scripts.evaluate", "does a trained agent do what it is told? Its report"),
    "compare": ("heed.scripts.compare", "compare trainings on the same episodes: tables, differences, curves"),
    "ablate": ("heed.scripts.ablate", "train variants with several seeds, and hold them against each other"),
    "tune": ("heed.scripts.tune", "search for the options that train best, over ranges of them"),
    "export": ("heed.scripts.export", "share a trained agent: a folder in Hugging Face's layout"),
    "new-env": ("heed.scripts.new_env", "write a small environment of your own, to begin with"),
    "check-agent": ("heed.scripts.check_agent", "check an agent on the smallest environments: which part is broken?"),
    "check-env": ("heed.scripts.check_env", "check an environment, or all that are registered"),
}
"""Command -> module with a `main`, and what it does."""


def main() -> None:
    """Run the command that the first argument names; end quietly where nobody reads on, as behind `| head`.

    Raises:
        SystemExit: with the status of a program that a closed pipe ended, if it was standard output that was closed.
    """
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _is_closed(sys.stdout):
            raise  # a worker's pipe: that is an error
        # What Python flushes at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


def _is_closed(stream: TextIO) -> bool:
    """Say whether nobody reads what is written to a stream."""
    poll = select.poll()
    poll.register(stream, 0)  # errors are told in any case
    return bool(poll.poll(0))


def _run() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        raise SystemExit(0 if arguments else 2)
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"heed: there is no command {command!r}.\n\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    # A module of the user's beside the command (`--env my_module:MyEnv-v0`) is found as `python -m` would find it,
    # but after all that is installed: a folder here may have the name of a package.
    sys.path.append(os.getcwd())
    wait_asleep()
    # Imported only when asked for: the training stack takes seconds to import.
    importlib.import_module(COMMANDS[command][0]).main(rest)


def usage() -> str:
    """Return the list of commands."""
    lines = [f"  heed {name:<11} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "Train language-model agents to do what they are told.",
            "",
            *lines,
            "",
            "`heed COMMAND --help` tells a command's options. To begin: heed train --env BabyAI-GoToRedBallNoDists-v0",
        ]
    )


if __name__ == "__main__":
    main()
