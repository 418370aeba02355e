"""How much of an agent's success is due to its instruction.

The **instruction-following score** of an agent in an environment is

    F = (S_true - S_blank) / (S_expert - S_blank)

S_true is its success rate with the true instruction, S_blank with the instruction blank, S_expert that of the
environment's expert, all three on the same episodes. 0: it succeeds as often without the instruction, so whatever it
succeeds at, it does not do because it was told. 1: the instruction takes it as far as the expert. What F can tell and
what not is in docs/evaluation-statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heed.evaluation.statistics.bootstrap import EPISODES, Bootstrapped, estimate_success
from heed.evaluation.statistics.estimate import Estimate, Floats
from heed.evaluation.statistics.outcomes import SUCCESS, require_same_episodes, runs_by_episodes
from heed.evaluation.statistics.paired import estimate_difference
from heed.evaluation.statistics.resampling import draw_bounded_means, stream


@dataclass(frozen=True, kw_only=True)
class Successes:
    """What a following score is made of: success on the same episodes, played three times."""

    true: npt.ArrayLike
    """(E,) of the agent with the true instruction, or (R, E) of R runs."""
    blank: npt.ArrayLike
    """The same with the instruction blank: of as many runs, in the same order."""
    expert: npt.ArrayLike
    """(E,) of the environment's expert."""


@dataclass(frozen=True, kw_only=True)
class Following:
    """An instruction-following score, and what it is made of."""

    score: Estimate | None
    """F, not clipped: below 0 the instruction does harm, above 1 the agent does better than the expert. None where
    `reason` says why there is none."""
    reason: str | None
    true: Estimate
    """S_true, the agent's success rate."""
    blank: Estimate
    """S_blank, its success rate with the instruction blank."""
    expert: Estimate
    """S_expert, the expert's success rate."""
    room: Estimate
    """S_expert - S_blank: what is left for an instruction to do. Its interval is over the episodes of these runs; where
    it holds 0, there is no score."""
    episodes: int
    by_run: tuple[float | None, ...]
    """F of each run by itself, where its room is positive."""

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {
            "score": None if self.score is None else self.score.as_json(),
            "reason": self.reason,
            **{name: getattr(self, name).as_json() for name in ("true", "blank", "expert", "room")},
            "episodes": self.episodes,
            "by_run": list(self.by_run),
        }


@dataclass(frozen=True, kw_only=True)
class MeanFollowing:
    """The mean of following scores over environments, each counting alike."""

    score: Estimate | None
    """The mean over the environments that have one; None where none has."""
    reason: str | None
    """Why there is no score, or which environments are not in it; None where all are."""
    environments: Mapping[str, Following]


def following_score(successes: Successes, *, seed: int = 0) -> Following:
    """Return the instruction-following score with its 95 % bootstrap interval.

    Episodes are resampled with all that was played on them, so that what makes an episode hard for all three cancels.
    Of several runs, the success rates are means over the runs before they are put into F: the score is of the method,
    and its interval is also over training seeds.

    There is no score where the interval of S_expert - S_blank holds 0, or the expert does worse than the agent without
    an instruction: then the episodes do not tell whether the instruction is needed at all.

    Args:
        successes: on the same episodes.
        seed: of the draws.

    Raises:
        ValueError: if numbers of episodes or runs differ, or a success is not between 0 and 1.
    """
    return _scored(successes, seed=seed, task=0)[0]


def mean_following(
    environments: Mapping[str, Successes], *, missing: Mapping[str, str] | None = None, seed: int = 0
) -> MeanFollowing:
    """Return the mean of the following scores of environments, each normalised by itself, with its interval.

    Environments without a score are left out, and named.

    Args:
        environments: by their names; of the same runs in all.
        missing: environments that were not played as a score needs it, and why; they are named among those left out.
        seed: of the draws.

    Raises:
        ValueError: if numbers of runs differ between environments, or as in `following_score`.
    """
    scored = {
        name: _scored(successes, seed=seed, task=number)
        for number, (name, successes) in enumerate(environments.items())
    }
    runs = {name: len(following.by_run) for name, (following, _) in scored.items()}
    if len(set(runs.values())) > 1:
        raise ValueError(f"Every environment needs the successes of the same runs, but they are of {runs} runs.")
    figures = [figure for _, figure in scored.values() if figure is not None]
    without = {name: str(following.reason) for name, (following, _) in scored.items() if following.score is None}
    without.update(missing or {})
    reason = "; ".join(f"without {name}: {why}" for name, why in without.items()) or None
    return MeanFollowing(
        score=Bootstrapped.mean(figures).estimate(seed=seed) if figures else None,
        reason=reason if scored or missing else "no environment was played",
        environments={name: following for name, (following, _) in scored.items()},
    )


def _scored(successes: Successes, *, seed: int, task: int) -> tuple[Following, Bootstrapped | None]:
    """Return the score, and where there is one, what its interval is made of."""
    true = runs_by_episodes(successes.true, "successes with the true instruction", SUCCESS)
    blank = runs_by_episodes(successes.blank, "successes with the instruction blank", SUCCESS)
    expert = runs_by_episodes(successes.expert, "successes of the expert", SUCCESS)
    episodes = require_same_episodes(true=true, blank=blank, expert=expert)
    if len(true) != len(blank) or len(expert) != 1:
        raise ValueError(
            f"A following score needs as many runs with the true instruction ({len(true)}) as with a blank one "
            f"({len(blank)}), and one expert ({len(expert)})."
        )
    room = estimate_difference(expert, blank.mean(axis=0), bounds=SUCCESS, seed=seed)
    figure, reason = None, None
    rates = f"without an instruction the agent succeeds in {blank.mean():.3f} of {episodes} episodes, the expert in "
    if room.low > 0:
        figure = _bootstrap_score(true, blank, expert, generator=stream(seed, EPISODES, task))
    elif room.high < 0:
        reason = f"{rates}{expert.mean():.3f}, which is less: it is no measure of what the instruction is good for"
    else:
        reason = f"{rates}{expert.mean():.3f}: too close to tell whether the instruction is needed"
    following = Following(
        score=None if figure is None else figure.estimate(seed=seed),
        reason=reason,
        true=estimate_success(true, seed=seed),
        blank=estimate_success(blank, seed=seed),
        expert=estimate_success(expert, seed=seed),
        room=room,
        episodes=episodes,
        by_run=tuple(_ratio(*rates, float(expert.mean())) for rates in zip(true.mean(1), blank.mean(1), strict=True)),
    )
    return following, figure


def _bootstrap_score(true: Floats, blank: Floats, expert: Floats, *, generator: np.random.Generator) -> Bootstrapped:
    room = float(expert.mean() - blank.mean())
    score = float(true.mean() - blank.mean()) / room
    s_true, s_blank, s_expert = draw_bounded_means(np.stack([true.mean(0), blank.mean(0), expert[0]]), generator)
    # A ratio's percentiles are where its numerator less so many denominators is 0 (Fieller 1954), as long as the
    # denominator is positive, which the room's interval has seen to.
    draws = (s_true - s_blank) / (s_expert - s_blank)
    # What each run and episode adds to the ratio, to first order.
    parts = (true - blank - score * (expert - blank)) / room
    return Bootstrapped.of(score, draws, parts)


def _ratio(true: float, blank: float, expert: float) -> float | None:
    return float((true - blank) / (expert - blank)) if expert > blank else None
