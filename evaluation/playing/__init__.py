"""Does an agent do what it is told? Held-out episodes over the axes of a suite."""

from heed.agents.acting import Policy, expert_policy, greedy, policies_of, random_policy, sampled, uniform
from heed.evaluation.playing.baselines import BaselineError, baseline_policy
from heed.evaluation.playing.batch import Cell, Played, play, run_episodes, success_rate
from heed.evaluation.playing.episode import (
    Episode,
    EpisodesError,
    Missing,
    held_out_seeds,
    read_episodes,
    write_episodes,
)
from heed.evaluation.playing.evaluation import Evaluation, OtherActionsError, evaluate, require_same_actions

__all__ = [
    "BaselineError",
    "Cell",
    "Episode",
    "EpisodesError",
    "Evaluation",
    "Missing",
    "OtherActionsError",
    "Played",
    "Policy",
    "baseline_policy",
    "evaluate",
    "expert_policy",
    "greedy",
    "held_out_seeds",
    "play",
    "policies_of",
    "random_policy",
    "read_episodes",
    "require_same_actions",
    "run_episodes",
    "sampled",
    "success_rate",
    "uniform",
    "write_episodes",
]
