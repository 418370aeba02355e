"""Language environments: any Gymnasium environment, put into words."""

if __name__ != "heed.envs":
    # A bare `envs` would collide with other people's packages of that name.
    raise ImportError("This folder is Heed's `heed.envs` package: import `heed.envs`, not `envs`.")

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
from heed.envs.demonstrations.demonstrate import demonstrate
from heed.envs.demonstrations.demonstrations import (
    Demonstration,
    DemonstrationError,
    Demonstrations,
    demonstration_seeds,
    read_demonstrations,
    write_demonstrations,
)
from heed.envs.faults import LostEpisode, LostEpisodeWarning, TooManyLostEpisodesError
from heed.envs.hold_out import HoldOutError
from heed.envs.make import instruction_pool, make, make_env
from heed.envs.vectorize import LanguageVecEnv, ProcessLanguageVecEnv
from heed.envs.wording.augmented import Augmented
from heed.envs.words.masks import MaskedActions
from heed.envs.words.verbalize import AutomaticVerbalizer, VerbalizedEnv, Verbalizer, register_verbalizer
from heed.envs.wrappers.cannot_be_done import CannotBeDone
from heed.envs.wrappers.changing_instruction import ChangingInstruction
from heed.envs.wrappers.curriculum import CurriculumVecEnv
from heed.envs.wrappers.history import History
from heed.envs.wrappers.instructions import Instructions
from heed.envs.wrappers.limits import EpisodeTimeLimit, StepLimit
from heed.envs.wrappers.mixture import Mixture
from heed.envs.wrappers.sampling_weights import Curriculum
from heed.envs.wrappers.sub_instructions import SubInstructionRewards, split_instruction
from heed.envs.wrappers.task import Moment, Task
from heed.envs.wrappers.two_parts import TwoParts

__all__ = [
    "Augmented",
    "AutomaticVerbalizer",
    "CannotBeDone",
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
    "Task",
    "TextActions",
    "TooManyLostEpisodesError",
    "TwoParts",
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
    "split_instruction",
    "write_demonstrations",
]
