"""Does an environment keep the language contract? Checks that play it and say in words how to fix it."""

from heed.envs.checks.check import Check
from heed.envs.checks.checking import check_env
from heed.envs.checks.reading import Reader

__all__ = ["Check", "Reader", "check_env"]
