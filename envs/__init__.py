"""Language environments: any Gymnasium environment, put into words."""

if __name__ != "heed.envs":
    # A bare `envs` would collide with other people's packages of that name.
    raise ImportError("This folder is Heed's `heed.envs` package: import `heed.envs`, not `envs`.")

from heed.envs.checks import Check, check_env
from heed.envs.contract import (
    ContractError,
    ExpertError,
    FreeText,
    LanguageObservation,
    TextActions,
    language_space,
)
from heed.envs.demonstrate import demonstrate
from heed.envs.demonstrations import (
    Demonstration,
    DemonstrationError,
    Demonstrations,
    demonstration_seeds,
    read_demonstrations,
    write_demonstrations,
)
from heed.envs.history import History
from heed.envs.make import UnknownEnvironmentError, instruction_pool, make, make_env
from heed.envs.mixture import Mixture
from heed.envs.vectorize import LanguageVecEnv, ProcessLanguageVecEnv
from heed.envs.verbalize import AutomaticVerbalizer, VerbalizedEnv, Verbalizer, register_verbalizer

__all__ = [
    "AutomaticVerbalizer",
    "Check",
    "ContractError",
    "Demonstration",
    "DemonstrationError",
    "Demonstrations",
    "ExpertError",
    "FreeText",
    "History",
    "LanguageObservation",
    "LanguageVecEnv",
    "Mixture",
    "ProcessLanguageVecEnv",
    "TextActions",
    "UnknownEnvironmentError",
    "VerbalizedEnv",
    "Verbalizer",
    "check_env",
    "demonstrate",
    "demonstration_seeds",
    "instruction_pool",
    "language_space",
    "make",
    "make_env",
    "read_demonstrations",
    "register_verbalizer",
    "write_demonstrations",
]
