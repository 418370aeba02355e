"""From episodes, one row each, to figures: by environment, axis and policy, and the following scores.

A row is anything with the attributes of `EpisodeRow`, as `heed.evaluation.playing.Episode` is. Rows of several runs of
one method are matched by the episodes' seeds, and only episodes that all runs have played are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from heed.evaluation.names import BLANK, EXPERT, SAMPLED, TRUE
from heed.evaluation.statistics.bootstrap import estimate_mean, estimate_success
from heed.evaluation.statistics.estimate import Estimate, Floats
from heed.evaluation.statistics.following import MeanFollowing, Successes, mean_following
from heed.evaluation.statistics.outcomes import SUCCESS

Part = Literal["level", "template"]
"""What the episodes of a cell can be parted by further."""
Outcome = Literal["success", "episode_return", "length", "activity"]
"""What every episode has as a number."""


class EpisodeRow(Protocol):
    """One finished episode, as far as figures need it."""

    @property
    def env(self) -> str:
        """The environment's id."""

    @property
    def axis(self) -> str:
        """What was changed."""

    @property
    def policy(self) -> str:
        """Who played."""

    @property
    def seed(self) -> int:
        """Of the episode: the same seed is the same world."""

    @property
    def success(self) -> bool:
        """Whether the true instruction was fulfilled."""

    @property
    def shown_success(self) -> bool | None:
        """Whether the shown instruction was; None where that was not asked or cannot be told."""

    @property
    def episode_return(self) -> float:
        """The sum of rewards."""

    @property
    def length(self) -> int:
        """In steps."""

    @property
    def activity(self) -> float:
        """The share of steps after which the words of the observation were others, 0 to 1."""

    @property
    def level(self) -> str:
        """Of a mixture of levels, or the task of a level that names its tasks; empty elsewhere."""

    @property
    def template(self) -> str:
        """The verb phrase of the true instruction."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """Which episodes stand together."""

    env: str
    axis: str
    policy: str
    level: str | None = None
    """None where episodes are not parted by it."""
    template: str | None = None
    """None where episodes are not parted by it."""

    @classmethod
    def of(cls, row: EpisodeRow, by: Sequence[Part]) -> Key:
        """Return where a row belongs."""
        return cls(env=row.env, axis=row.axis, policy=row.policy, **{part: getattr(row, part) for part in by})

    def __str__(self) -> str:
        return ", ".join(
            name for name in (self.env, self.axis, self.policy, self.level, self.template) if name is not None
        )


@dataclass(frozen=True, kw_only=True)
class Matched:
    """The episodes of one key that all runs have played."""

    key: Key
    seeds: tuple[int, ...]
    """Of the E episodes, in the order in which the first run played them."""
    rows: tuple[tuple[EpisodeRow, ...], ...]
    """R runs of E rows."""

    def outcomes(self, name: Outcome) -> Floats:
        """Return one outcome of all episodes, (R, E)."""
        return np.array([[getattr(row, name) for row in run] for run in self.rows], dtype=np.float64)

    def told(self, name: Literal["shown_success", "said_impossible"]) -> Floats:
        """Return what not every episode tells, (R, T), of the T episodes in which all runs tell it.

        Rows need not have `said_impossible`: whether the agent said that its instruction cannot be done, or None.
        """
        values = [[getattr(row, name, None) for row in run] for run in self.rows]
        table = np.array([[np.nan if value is None else value for value in run] for run in values], dtype=np.float64)
        return table[:, ~np.isnan(table).any(axis=0)]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The figures of the episodes of one key."""

    key: Key
    runs: int
    episodes: int
    """Of each run."""
    success: Estimate
    episode_return: Estimate
    length: Estimate
    activity: Estimate
    shown_success: Estimate | None
    """Over the episodes in which it was told; None where in none."""
    told: int
    """How many these are."""
    said_impossible: Estimate | None
    """How often the agent said that it cannot be done; None where it has no action to say so."""


def match_runs(runs: Sequence[Sequence[EpisodeRow]], *, by: Sequence[Part] = ()) -> list[Matched]:
    """Match the episodes of runs by their seeds.

    Args:
        runs: the rows of each run.
        by: what episodes are grouped by besides environment, axis and policy.

    Returns:
        In the order of the first run's rows; what not all runs have is left out.

    Raises:
        ValueError: if a run has played an episode twice, which would count it twice.
    """
    tables = [_table(rows, by) for rows in runs]
    matched = []
    for key in tables[0] if tables else ():
        if not all(key in table for table in tables):
            continue
        seeds = tuple(seed for seed in tables[0][key] if all(seed in table[key] for table in tables))
        if seeds:
            rows = tuple(tuple(table[key][seed] for seed in seeds) for table in tables)
            matched.append(Matched(key=key, seeds=seeds, rows=rows))
    return matched


def summarise_runs(runs: Sequence[Sequence[EpisodeRow]], *, by: Sequence[Part] = (), seed: int = 0) -> list[Summary]:
    """Return the figures of several runs of one method, with 95 % intervals over episodes and training seeds.

    Args:
        runs: the rows of each run.
        by: what episodes are grouped by besides environment, axis and policy.
        seed: of the bootstrap's draws.

    Raises:
        ValueError: as `match_runs`.
    """
    return [_cell(matched, seed) for matched in match_runs(runs, by=by)]


def following_of(runs: Sequence[Sequence[EpisodeRow]], *, policy: str = SAMPLED, seed: int = 0) -> MeanFollowing:
    """Return the instruction-following score of one run or several, by environment and their mean.

    It needs the policy's episodes with the true and with a blank instruction, and the expert's, on the same seeds. Of
    those, the ones that all have are counted.

    Args:
        runs: the rows of each run; the expert's may be in any of them.
        policy: whose score it is.
        seed: of the bootstrap's draws.

    Raises:
        ValueError: as `match_runs`.
    """
    matched = {one.key: one for one in match_runs(runs)}
    experts: dict[str, dict[int, EpisodeRow]] = {}
    for rows in runs:
        for row in rows:
            if (row.axis, row.policy) == (TRUE, EXPERT):
                experts.setdefault(row.env, {}).setdefault(row.seed, row)
    environments: dict[str, Successes] = {}
    missing: dict[str, str] = {}
    for env in dict.fromkeys(row.env for rows in runs for row in rows):
        true = matched.get(Key(env=env, axis=TRUE, policy=policy))
        blank = matched.get(Key(env=env, axis=BLANK, policy=policy))
        if true is None or blank is None or env not in experts:
            what = {"the true instruction": true, "a blank instruction": blank, "the expert": experts.get(env)}
            missing[env] = "there are no episodes with " + " and ".join(
                name for name, found in what.items() if found is None
            )
            continue
        seeds = [seed for seed in true.seeds if seed in set(blank.seeds) and seed in experts[env]]
        if not seeds:
            missing[env] = "its episodes have no seeds in common"
            continue
        environments[env] = Successes(
            true=_successes(true, seeds),
            blank=_successes(blank, seeds),
            expert=[float(experts[env][seed].success) for seed in seeds],
        )
    return mean_following(environments, missing=missing, seed=seed)


def _table(rows: Sequence[EpisodeRow], by: Sequence[Part]) -> dict[Key, dict[int, EpisodeRow]]:
    """Return rows by key and seed."""
    table: dict[Key, dict[int, EpisodeRow]] = {}
    for row in rows:
        episodes = table.setdefault(Key.of(row, by), {})
        if row.seed in episodes:
            raise ValueError(
                f"The episode with the seed {row.seed} of {Key.of(row, by)} is there twice: give each run's rows once."
            )
        episodes[row.seed] = row
    return table


def _successes(matched: Matched, seeds: Sequence[int]) -> Floats:
    places = {seed: place for place, seed in enumerate(matched.seeds)}
    return matched.outcomes("success")[:, [places[seed] for seed in seeds]]


def _cell(matched: Matched, seed: int) -> Summary:
    shown, said = matched.told("shown_success"), matched.told("said_impossible")
    return Summary(
        key=matched.key,
        runs=len(matched.rows),
        episodes=len(matched.seeds),
        success=estimate_success(matched.outcomes("success"), seed=seed),
        episode_return=estimate_mean(matched.outcomes("episode_return"), seed=seed, what="returns"),
        length=estimate_mean(matched.outcomes("length"), seed=seed, what="lengths"),
        activity=estimate_mean(matched.outcomes("activity"), bounds=SUCCESS, seed=seed, what="activities"),
        shown_success=estimate_success(shown, seed=seed) if shown.size else None,
        told=shown.shape[1],
        said_impossible=estimate_success(said, seed=seed) if said.size else None,
    )
