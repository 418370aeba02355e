"""Episodes lost to a fault of their environment: what is known of each, how many may be, what is said of them.

`LanguageVecEnv` and `ProcessLanguageVecEnv` keep the records; see the page on robustness.
"""

from __future__ import annotations

import dataclasses
import traceback
import warnings
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EPISODE_LOST = "episode_lost"
"""The key of the `info` that ends a lost episode: its reason, in words."""

KEPT_RECORDS = 1000
"""Lost episodes of which the records are kept, the newest; they are all counted."""

KEPT_REASONS = 100
"""Different reasons that are counted each by itself."""

OTHER_REASONS = "other reasons"
"""Under which the rest is counted."""

TRACEBACK_LINES = 12
"""Lines of a traceback that a record keeps, the last ones."""

REASON_LENGTH = 500
"""Characters that a reason may have: an error may quote a whole web page."""

LEAST_LIMIT = 100
"""Episodes that may be lost in a row, however few environments there are."""

LIMIT_PER_ENVIRONMENT = 10
"""The same for each environment, where there are many: all of them may fail together, and again."""


class LostEpisodeWarning(UserWarning):
    """The first episode of a vector of environments was lost. Training goes on."""


class TooManyLostEpisodesError(RuntimeError):
    """Episode after episode is lost: the environment is broken. The message says what happened most often."""


class FaultError(ValueError):
    """An environment returned what it must not, in the midst of an episode. The message says what."""


class CalledOffError(RuntimeError):
    """A call that was known to bring its process down, and was not made. The message says how it is known."""


@dataclass(frozen=True, kw_only=True)
class LostEpisode:
    """One episode that a fault ended."""

    env: int
    """Index of its environment."""
    seed: int
    """Of the episode: `env.reset(seed=seed)` begins it again."""
    step: int
    """The step in which it happened, from 1; 0 in the reset, or before it."""
    reason: str
    """Type and words of the error."""
    traceback: str
    """The last lines of where it came from; "" where nothing is known."""

    @classmethod
    def of(cls, error: Exception, *, env: int, seed: int, step: int) -> LostEpisode:
        """Describe the episode that ended with an error."""
        lines = "".join(traceback.format_exception(error)).splitlines()
        called_off = isinstance(error, CalledOffError)
        return cls(
            env=env,
            seed=seed,
            step=step,
            reason=str(error) if called_off else _told(error),
            traceback="" if called_off else "\n".join(lines[-TRACEBACK_LINES:]),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON."""
        return dataclasses.asdict(self)


class LostEpisodes:
    """Keeps the records of one vector of environments, and says when there are too many.

    Args:
        n_envs: how many environments there are.
        limit: episodes that may be lost in a row, without one between them that came to its end; None for 10 for each
            environment, and at least 100.

    Raises:
        ValueError: if `limit` is negative.
    """

    def __init__(self, n_envs: int, limit: int | None = None):
        if limit is not None and limit < 0:
            raise ValueError(f"max_lost is {limit}, but must not be negative.")
        self.limit = max(LEAST_LIMIT, LIMIT_PER_ENVIRONMENT * n_envs) if limit is None else limit
        self.records: deque[LostEpisode] = deque(maxlen=KEPT_RECORDS)
        self.count = 0
        """All that were lost."""
        self.reasons: Counter[str] = Counter()
        self.in_a_row = 0
        """Lost since an episode last came to its end."""

    def note(self, lost: LostEpisode | None, cause: BaseException | None = None) -> None:
        """Take in that an episode was lost, or with None that one came to its end.

        Raises:
            TooManyLostEpisodesError: if that is one too many.
        """
        if lost is None:
            self.in_a_row = 0
            return
        self.records.append(lost)
        self.count += 1
        self.in_a_row += 1
        known = lost.reason in self.reasons or len(self.reasons) < KEPT_REASONS
        self.reasons[lost.reason if known else OTHER_REASONS] += 1
        if self.in_a_row > self.limit:
            raise TooManyLostEpisodesError(self._too_many(lost)) from cause
        if self.count == 1:
            self.warn()

    def warn(self) -> None:
        """Warn of the episode that was lost last."""
        lost = self.records[-1]
        warnings.warn(
            f"An episode was lost: environment {lost.env}, seed {lost.seed}, step {lost.step}: {lost.reason}. Its "
            "environment is made anew, and training goes on (this is said once; `lost_episodes` keeps them all).",
            LostEpisodeWarning,
            stacklevel=5,
        )

    def _too_many(self, lost: LostEpisode) -> str:
        row = "An episode was" if self.in_a_row == 1 else f"{self.in_a_row} episodes in a row were"
        return (
            f"{row} lost, and max_lost allows {self.limit}: the environment is broken. {told_losses(self.reasons)} The "
            f"last was environment {lost.env} with seed {lost.seed} in step {lost.step}.\n{lost.traceback}".rstrip()
        )

    def get_state(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {"count": self.count, "in_a_row": self.in_a_row, "reasons": dict(self.reasons)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from the counts of `get_state`; the records begin anew."""
        self.count, self.in_a_row = state["count"], state["in_a_row"]
        self.reasons = Counter(state["reasons"])
        self.records.clear()


def told_losses(reasons: Mapping[str, int], *, most: int = 5) -> str:
    """Return a sentence about how many episodes were lost, and to what.

    Args:
        reasons: how many to each.
        most: reasons that are named, the commonest.
    """
    counted = Counter(reasons)
    total = counted.total()
    if not total:
        return "No episode was lost."
    told = [f"{'once' if count == 1 else f'{count} times'} {reason}" for reason, count in counted.most_common(most)]
    if len(counted) > most:
        told.append(f"and {len(counted) - most} reasons more")
    lost = "1 episode was lost" if total == 1 else f"{total} episodes were lost"
    return f"{lost}: {'; '.join(told)}."


def _told(error: Exception) -> str:
    told = " ".join(f"{type(error).__name__}: {error}".split()) if str(error) else type(error).__name__
    return told if len(told) <= REASON_LENGTH else f"{told[:REASON_LENGTH]} ..."


class TellsLosses:
    """Mixin for a vector of environments that keeps a record of the episodes that they lose."""

    @property
    @abstractmethod
    def _losses(self) -> LostEpisodes:
        """The record."""

    @property
    def lost_episodes(self) -> list[LostEpisode]:
        """The episodes that were lost, oldest first; of very many the newest."""
        return list(self._losses.records)

    @property
    def lost_count(self) -> int:
        """How many episodes were lost."""
        return self._losses.count

    def lost_summary(self) -> dict[str, int]:
        """Return how many episodes were lost to each reason, the commonest first."""
        return dict(self._losses.reasons.most_common())
