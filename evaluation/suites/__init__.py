"""Suites of an evaluation: which environments, which axes, how many episodes, from which seed."""

from heed.evaluation.suites.suite import SHIPPED, Suite, SuiteError, load_suite

__all__ = ["SHIPPED", "Suite", "SuiteError", "load_suite"]
