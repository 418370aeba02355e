"""Errors that are the user's to fix come out of a command as one sentence, not as a traceback."""

from __future__ import annotations

import contextlib
import dis
import sys
from collections.abc import Iterator, Mapping

STATUS = 2
"""The exit status of a command that was given what it cannot use."""

# By module, so that a command need not import what it does not use: an error that was raised has its module
# imported already.
KNOWN_ERRORS = {
    "heed.agents.persistence.checkpoint": ("CheckpointError",),
    "heed.agents.device": ("DeviceError",),
    "heed.evaluation.playing.episode": ("EpisodesError",),
    "heed.evaluation.playing.evaluation": ("OtherActionsError",),
    "heed.agents.grpo": ("EndlessEpisodesError",),
    "heed.agents.distributed.ranks": ("RanksError",),
    "heed.evaluation.axes.registry": ("AxisError", "AxisDoesNotApplyError"),
    "heed.envs.arguments": ("EnvironmentArgumentError",),
    "heed.envs.contract": ("ContractError", "ExpertError", "UnknownEnvironmentError"),
    "heed.envs.demonstrations.demonstrations": ("DemonstrationError",),
    "heed.envs.faults": ("TooManyLostEpisodesError",),
    "heed.envs.hold_out": ("HoldOutError",),
    "heed.evaluation.suites.suite": ("SuiteError",),
    "heed.envs.watchdog": ("HangError",),
    "heed.policies.adapters.adapters": ("AdapterError",),
    "heed.policies.finite": ("NonFiniteError",),
    "heed.policies.models.language_model": ("LanguageModelError",),
    "heed.policies.out_of_memory": ("DoesNotFitError",),
    "heed.policies.prompts.template": ("TemplateError",),
    "heed.training.errors": ("ConfigurationError",),
    "heed.training.run_folder": ("RunFolderError",),
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


def is_refusal(error: Exception) -> bool:
    """Say whether an error refuses what the user gave, in a sentence for the user; any other is a bug.

    Agents refuse arguments with a `ValueError` that Heed or Stable-Baselines3 raises itself, and SB3 also with an
    assertion that has a message. The same classes out of other libraries, or out of an expression that failed, say
    nothing to a user: they are to be seen with their traceback.
    """
    if not (isinstance(error, ValueError) or (isinstance(error, AssertionError) and str(error))):
        return False
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return False
    code, module = place.tb_frame.f_code, str(place.tb_frame.f_globals.get("__name__", ""))
    raises = any(one.offset == place.tb_lasti and one.opname == "RAISE_VARARGS" for one in dis.get_instructions(code))
    refusing = ("heed", "stable_baselines3") if isinstance(error, ValueError) else ("stable_baselines3",)
    return raises and module.partition(".")[0] in refusing


def known_errors() -> tuple[type[Exception], ...]:
    """Return the classes of `KNOWN_ERRORS` whose modules are imported."""
    return tuple(
        getattr(sys.modules[module], name)
        for module, names in KNOWN_ERRORS.items()
        if module in sys.modules
        for name in names
    )
