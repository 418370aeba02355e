"""What of a model's positions a prompt may have where actions stand behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class ActionRoom:
    """Tells how long a prompt may be for the longest of its actions to have room behind it.

    Args:
        positions: how many tokens the model reads at once.
        tokens: gives the number of positions that an action takes up behind a prompt.
    """

    def __init__(self, positions: int, tokens: Callable[[str], int]):
        self.positions = positions
        self._tokens = tokens
        self._known: dict[str, int] = {}

    def of(self, actions: Sequence[str]) -> int:
        """Return how many tokens the prompt may have.

        Raises:
            ValueError: if none is left.
        """
        for text in actions:
            if text not in self._known:
                self._known[text] = self._tokens(text)
        if not actions:
            return self.positions
        longest = max(actions, key=self._known.__getitem__)
        room = self.positions - self._known[longest]
        if room < 1:
            raise ValueError(
                f"The action {longest!r} takes up {self._known[longest]} of the {self.positions} positions of the "
                "model: no prompt has room before it."
            )
        return room
