"""Does an agent do what it is told? Held-out episodes over axes and suites, statistics, explanations, reports."""

if __name__ != "heed.evaluation":
    # A bare `evaluation` would collide with other people's packages of that name.
    raise ImportError("This folder is Heed's `heed.evaluation` package: import `heed.evaluation`, not `evaluation`.")

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heed.evaluation.axes import Axis, AxisDoesNotApplyError, AxisError, axis, axis_names, register_axis
    from heed.evaluation.playing import Episode, Evaluation, evaluate
    from heed.evaluation.suites import Suite, SuiteError, load_suite

__all__ = [
    "Axis",
    "AxisDoesNotApplyError",
    "AxisError",
    "Episode",
    "Evaluation",
    "Suite",
    "SuiteError",
    "axis",
    "axis_names",
    "evaluate",
    "load_suite",
    "register_axis",
]

_HOMES = ("heed.evaluation.axes", "heed.evaluation.playing", "heed.evaluation.suites")


def __getattr__(name: str) -> Any:
    """Import what is asked for, which takes seconds that `--help` need not wait for."""
    if name in __all__:
        for home in map(importlib.import_module, _HOMES):
            if hasattr(home, name):
                return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
