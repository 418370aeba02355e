"""How many tokens a language model reads, and what of that a prompt may have where actions stand behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn
from transformers import PreTrainedModel

_LIMITS = ("max_position_embeddings", "max_encoder_position_embeddings", "max_seq_len")
"""What configurations call the number of positions: mostly the first, of which others are other names."""


def most_tokens(model: PreTrainedModel) -> int | None:
    """Return how many tokens a text may have that a model reads, special ones included; None for any number.

    Some models are wrong behind that, because they look positions up and there are no more; others, which compute them,
    have never seen any.
    """
    config = model.config.get_text_config()
    found = (getattr(config, name, None) for name in _LIMITS)
    limit = next((one for one in found if isinstance(one, int) and one > 0), None)
    if limit is None:
        return None
    for name, module in model.named_modules():
        # RoBERTa begins to count behind the id of its padding.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return limit - module.padding_idx - 1
    return limit


def most_written(model: PreTrainedModel) -> int | None:
    """Return how many tokens an encoder-decoder's decoder reads; None for any number."""
    limit = getattr(model.config, "max_decoder_position_embeddings", None)
    return most_tokens(model) if limit is None else int(limit)


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
