"""Which episode each environment of a vector plays: the one place where episodes are counted.

A reset may fail, and then the next episode is begun; one environment may play three episodes of a row while another
plays one. So who wants to know which episodes run, which belong together, or by which weights one is drawn, asks here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Weights = tuple[float, ...]
"""How often each of several levels or tasks is drawn, against the others."""

Group = tuple[int, int]
"""What an episode has in common with those of the same seed, and with no others: its row, and its seed's number."""


def group_of(index: int, episode: int, group_size: int) -> Group:
    """Return the group of an episode.

    Args:
        index: of its environment, in all of the vector.
        episode: its number in the row.
        group_size: environments in a row, and episodes with the same seed.
    """
    return index // group_size, episode // group_size


class EpisodeNumbers:
    """Counts the episodes of rows of environments, and knows by which weights the running ones were drawn.

    Args:
        n_envs: how many environments.
        first_index: the index of the first one, in all of the vector.
        group_size: environments in a row, and episodes in it that begin with the same seed.
    """

    def __init__(self, n_envs: int, *, first_index: int, group_size: int):
        self.n_envs = n_envs
        self.first_index = first_index
        self.group_size = group_size
        self.running = [-1] * n_envs
        """The number of each environment's running episode in its row; -1 before the first."""
        self.weights: Weights | None = None
        """By which episodes of seeds that have not begun are drawn, if somebody has said so."""
        self._drawn_by: list[Weights | None] = [None] * n_envs

    def restart(self) -> None:
        """Count from the beginning again."""
        self.running = [-1] * self.n_envs

    def following(self, index: int) -> int:
        """Return the number of the next episode in an environment's row; the last one that was begun still runs."""
        return max(self.running[other] for other in self._row(index)) + 1

    def following_in_a_reset(self, index: int) -> int:
        """Return the same where all environments begin anew, in order: each row begins a new seed."""
        following, size = self.following(index), self.group_size
        return -(-following // size) * size if index % size == 0 else following

    def begin(self, index: int, episode: int) -> Weights | None:
        """Take in which episode an environment begins.

        Returns:
            By which weights it is drawn: those that the others of its seed were drawn by, if one has begun.
        """
        weights = self.weights
        for other in self._row(index):  # the newest of a seed that is not over yet always runs
            if self.running[other] // self.group_size == episode // self.group_size:
                weights = self._drawn_by[other]
                break
        self.running[index], self._drawn_by[index] = episode, weights
        return weights

    def group(self, index: int) -> Group:
        """Return the group of an environment's running episode."""
        return group_of(self.first_index + index, self.running[index], self.group_size)

    @property
    def running_groups(self) -> list[Group]:
        """The group of each running episode; no other group that has begun is still to have an episode."""
        return [self.group(index) for index in range(self.n_envs)]

    def _row(self, index: int) -> range:
        first = index - index % self.group_size
        return range(first, first + self.group_size)

    def get_state(self) -> dict[str, Any]:
        """Return what `set_state` needs, as JSON."""
        state: dict[str, Any] = {"episodes": list(self.running)}
        if self.weights is not None:
            drawn_by = [None if weights is None else list(weights) for weights in self._drawn_by]
            state["weights"] = {"next": list(self.weights), "running": drawn_by}
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `get_state`, of as many environments; the rest of a larger one is left alone."""
        self.running = list(state["episodes"])
        weights = state.get("weights", {"next": None, "running": [None] * self.n_envs})
        self.weights = _weights(weights["next"])
        self._drawn_by = [_weights(drawn) for drawn in weights["running"]]


def part_of_state(state: Mapping[str, Any], indices: Sequence[int]) -> dict[str, Any]:
    """Return the state of some of the environments, of whole rows."""
    part: dict[str, Any] = {"episodes": [state["episodes"][index] for index in indices]}
    if "weights" in state:
        drawn_by = [state["weights"]["running"][index] for index in indices]
        part["weights"] = {"next": state["weights"]["next"], "running": drawn_by}
    return part


def joined_states(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the state of all environments from those of parts of them, in order."""
    state: dict[str, Any] = {"episodes": [episode for part in parts for episode in part["episodes"]]}
    if "weights" in parts[0]:
        drawn_by = [drawn for part in parts for drawn in part["weights"]["running"]]
        state["weights"] = {"next": parts[0]["weights"]["next"], "running": drawn_by}
    return state


def _weights(saved: Sequence[float] | None) -> Weights | None:
    return None if saved is None else tuple(saved)
