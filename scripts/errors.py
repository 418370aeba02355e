"""Errors that are the user's to mend come out of a command as one sentence, not as a traceback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping

STATUS = 2
"""The exit status of a command that was given what it cannot use."""

# By module, so that a command need not import what it does not use: an error that was raised has its module
# imported already.
KNOWN_ERRORS = {
    "heed.agents.checkpoint": ("CheckpointError",),
    "heed.agents.evaluation.episode": ("EpisodesError",),
    "heed.agents.evaluation.evaluation": ("OtherActionsError",),
    "heed.agents.learners": ("LearnersError",),
    "heed.envs.axes.registry": ("AxisError", "AxisDoesNotApplyError"),
    "heed.envs.contract": ("ContractError", "ExpertError"),
    "heed.envs.demonstrations": ("DemonstrationError",),
    "heed.envs.faults": ("TooManyLostEpisodesError",),
    "heed.envs.hold_out": ("HoldOutError",),
    "heed.envs.make": ("UnknownEnvironmentError",),
    "heed.envs.suites.suite": ("SuiteError",),
    "heed.envs.watchdog": ("HangError",),
    "heed.policies.adapters": ("AdapterError",),
    "heed.policies.finite": ("NonFiniteError",),
    "heed.policies.language_model": ("LanguageModelError",),
    "heed.policies.out_of_memory": ("DoesNotFitError",),
    "heed.policies.template": ("TemplateError",),
    "heed.scripts.errors": ("ConfigurationError",),
    "heed.scripts.run_folder": ("RunFolderError",),
}
"""The errors whose message is a sentence for the user: module to names of classes."""


class ConfigurationError(ValueError):
    """Options of a command do not go together. The message says which, and what to do."""


def require_at_least(config: object, least: Mapping[str, float]) -> None:
    """Refuse options that are smaller than they may be.

    Args:
        config: a command's configuration.
        least: the least value of each of these options.

    Raises:
        ConfigurationError: naming the option and its bound.
    """
    for name, minimum in least.items():
        value = getattr(config, name)
        if value < minimum:
            raise ConfigurationError(f"--{name.replace('_', '-')} is {value}, but must be at least {minimum}.")


@contextlib.contextmanager
def as_sentence() -> Iterator[None]:
    """Turn a known error into its sentence on standard error and exit status 2; let others through.

    Raises:
        SystemExit: in place of a known error.
    """
    try:
        yield
    except known_errors() as error:
        print(error, file=sys.stderr)
        raise SystemExit(STATUS) from None


def known_errors() -> tuple[type[Exception], ...]:
    """Return the classes of `KNOWN_ERRORS` whose modules are imported."""
    return tuple(
        getattr(sys.modules[module], name)
        for module, names in KNOWN_ERRORS.items()
        if module in sys.modules
        for name in names
    )
