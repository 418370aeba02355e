"""The names of axes and policies that figures and pages treat specially. All others are shown alike."""

from heed.agents.acting import EXPERT, GREEDY, RANDOM, SAMPLED

TRUE, BLANK, SWAPPED, IMPOSSIBLE, INJECTED = "true", "blank", "swapped", "impossible", "injected-text"
"""Axes; on `TRUE` nothing is changed."""

SUCCESS_CELLS = {
    SAMPLED: (TRUE, SAMPLED),
    GREEDY: (TRUE, GREEDY),
    RANDOM: (TRUE, RANDOM),
    BLANK: (BLANK, SAMPLED),
    SWAPPED: (SWAPPED, SAMPLED),
}
"""The success rates that stand in a row of a comparison, by name: the axis and the policy of each."""

__all__ = [
    "BLANK",
    "EXPERT",
    "GREEDY",
    "IMPOSSIBLE",
    "INJECTED",
    "RANDOM",
    "SAMPLED",
    "SUCCESS_CELLS",
    "SWAPPED",
    "TRUE",
]
