"""Language environments: any Gymnasium environment, put into words."""

if __name__ != "heed.envs":
    # A bare `envs` would collide with other people's packages of that name.
    raise ImportError("This folder is Heed's `heed.envs` package: import `heed.envs`, not `envs`.")

from heed.envs.axes import Axis, AxisDoesNotApplyError, AxisError, axis, axis_names, register_axis
from heed.envs.checks import Check, check_env
from heed.envs.contract import (
    ChangingActions,
    ContractError,
    ExpertError,
    FreeText,
    LanguageObservation,
    TextActions,
    UnknownEnvironmentError,
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
from heed.envs.faults import LostEpisode, LostEpisodeWarning, TooManyLostEpisodesError
from heed.envs.history import History
from heed.envs.hold_out import HoldOutError
from heed.envs.make import instruction_pool, make, make_env
from heed.envs.masks import MaskedActions
from heed.envs.mixture import Mixture
from heed.envs.suites import Suite, SuiteError, load_suite
from heed.envs.vectorize import LanguageVecEnv, ProcessLanguageVecEnv
from heed.envs.verbalize import AutomaticVerbalizer, VerbalizedEnv, Verbalizer, register_verbalizer
from heed.envs.wrappers.changing_instruction import ChangingInstruction
from heed.envs.wrappers.curriculum import CurriculumVecEnv
from heed.envs.wrappers.instructions import Instructions
from heed.envs.wrappers.limits import EpisodeTimeLimit, StepLimit
from heed.envs.wrappers.shares import Curriculum
from heed.envs.wrappers.sub_instructions import SubInstructionRewards, split_instruction
from heed.envs.wrappers.task import Moment, Task

__all__ = [
    "AutomaticVerbalizer",
    "Axis",
    "AxisDoesNotApplyError",
    "AxisError",
    "ChangingActions",
    "ChangingInstruction",
    "Check",
    "ContractError",
    "Curriculum",
    "CurriculumVecEnv",
    "Demonstration",
    "DemonstrationError",
    "Demonstrations",
    "EpisodeTimeLimit",
    "ExpertError",
    "FreeText",
    "History",
    "HoldOutError",
    "Instructions",
    "LanguageObservation",
    "LanguageVecEnv",
    "LostEpisode",
    "LostEpisodeWarning",
    "MaskedActions",
    "Mixture",
    "Moment",
    "ProcessLanguageVecEnv",
    "StepLimit",
    "SubInstructionRewards",
    "Suite",
    "SuiteError",
    "Task",
    "TextActions",
    "TooManyLostEpisodesError",
    "UnknownEnvironmentError",
    "VerbalizedEnv",
    "Verbalizer",
    "axis",
    "axis_names",
    "check_env",
    "demonstrate",
    "demonstration_seeds",
    "instruction_pool",
    "language_space",
    "load_suite",
    "make",
    "make_env",
    "read_demonstrations",
    "register_axis",
    "register_verbalizer",
    "split_instruction",
    "write_demonstrations",
]
