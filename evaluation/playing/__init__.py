"""Does an agent do what it is told? Held-out episodes over the axes of a suite."""

from heed.agents.acting import Player, expert_player, greedy, players_of, random_player, sampled, uniform
from heed.evaluation.playing.baselines import BaselineError, baseline_player
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
    "Player",
    "baseline_player",
    "evaluate",
    "expert_player",
    "greedy",
    "held_out_seeds",
    "play",
    "players_of",
    "random_player",
    "read_episodes",
    "require_same_actions",
    "run_episodes",
    "sampled",
    "success_rate",
    "uniform",
    "write_episodes",
]
