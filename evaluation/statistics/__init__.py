"""What episodes tell, and how surely: intervals, paired comparisons, aggregates over runs, the following score.

Functions take plain arrays, (E,) of one agent's episodes or (R, E) of R runs; `match_runs`, `summarise_runs` and the
like take episodes as they were played. All intervals are 95 % bootstrap intervals. The same data give the same interval
to the last digit: draws depend on a `seed` that is passed, and on nothing else.
"""

from heed.evaluation.statistics.aggregate import (
    estimate_aggregate,
    estimate_aggregate_of_outcomes,
    estimate_improvement,
    estimate_profile,
    interquartile_mean,
    probability_of_improvement,
)
from heed.evaluation.statistics.bootstrap import estimate_mean, estimate_mean_of_tasks, estimate_success
from heed.evaluation.statistics.estimate import Estimate
from heed.evaluation.statistics.following import (
    Following,
    MeanFollowing,
    Successes,
    following_score,
    mean_following,
)
from heed.evaluation.statistics.paired import (
    Comparison,
    compare_over_tasks,
    compare_paired,
    estimate_difference,
    mcnemar,
)
from heed.evaluation.statistics.planning import episodes_needed, independent_discordance
from heed.evaluation.statistics.rows import (
    EpisodeRow,
    Key,
    Matched,
    Summary,
    following_of,
    match_runs,
    summarise_runs,
)

__all__ = [
    "Comparison",
    "EpisodeRow",
    "Estimate",
    "Following",
    "Key",
    "Matched",
    "MeanFollowing",
    "Successes",
    "Summary",
    "compare_over_tasks",
    "compare_paired",
    "episodes_needed",
    "estimate_aggregate",
    "estimate_aggregate_of_outcomes",
    "estimate_difference",
    "estimate_improvement",
    "estimate_mean",
    "estimate_mean_of_tasks",
    "estimate_profile",
    "estimate_success",
    "following_of",
    "following_score",
    "independent_discordance",
    "interquartile_mean",
    "match_runs",
    "mcnemar",
    "mean_following",
    "probability_of_improvement",
    "summarise_runs",
]
