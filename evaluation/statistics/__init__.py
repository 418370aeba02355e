"""What episodes tell, and how surely: intervals, paired comparisons, aggregates over runs, the following score.

Functions take plain arrays, (E,) of one agent's episodes or (R, E) of R runs; `match_runs`, `summarise` and the like
take episodes as they were played. All intervals are 95 % bootstrap intervals. The same data give the same interval to
the last digit: draws depend on a `seed` that is passed, and on nothing else.
"""

from heed.evaluation.statistics.aggregate import (
    estimate_aggregate,
    estimate_aggregate_of_outcomes,
    estimate_improvement,
    estimate_profile,
    interquartile_mean,
    mean_score,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    share_above,
)
from heed.evaluation.statistics.bootstrap import estimate_mean, estimate_mean_of_tasks, estimate_success
from heed.evaluation.statistics.estimate import Estimate
from heed.evaluation.statistics.following import (
    Following,
    MeanFollowing,
    Obedience,
    Successes,
    following_score,
    mean_following,
    obedience,
)
from heed.evaluation.statistics.paired import (
    Comparison,
    compare_all_pairs,
    compare_over_tasks,
    compare_paired,
    estimate_difference,
    mcnemar,
)
from heed.evaluation.statistics.planning import episodes_needed, independent_discordance, power_of
from heed.evaluation.statistics.rows import (
    EpisodeRow,
    Key,
    Matched,
    Summary,
    following_of,
    match_runs,
    obedience_of,
    summarise,
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
    "Obedience",
    "Successes",
    "Summary",
    "compare_all_pairs",
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
    "mean_score",
    "obedience",
    "obedience_of",
    "optimality_gap",
    "performance_profile",
    "power_of",
    "probability_of_improvement",
    "share_above",
    "summarise",
    "summarise_runs",
]
