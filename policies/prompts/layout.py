"""What stands where in a prompt's row of integers.

SB3's buffers keep one array of observations. So a prompt is one row: the token ids, -1 behind the last, and behind them
what each modality packs (`heed.policies.modalities.modality`). Nothing is rounded, two rows are equal only if all of it
is, and no buffer, hash or checkpoint needs to know what a row holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

# The three that ship with Heed register themselves in this order, which is that of a row's columns.
from heed.policies.modalities.actions import Actions
from heed.policies.modalities.image import Image
from heed.policies.modalities.modality import Modality, modality_from_json
from heed.policies.modalities.numbers import Numbers
from heed.policies.prompts.action_texts import ActionTexts
from heed.policies.prompts.padding import PADDING

__all__ = ["PADDING", "Actions", "Image", "Numbers", "Parts", "PromptLayout"]


class Parts(NamedTuple):
    """A batch of rows, taken apart."""

    tokens: Tensor
    """(B, L), -1 behind the last."""
    packed: Mapping[str, Tensor]
    """What each modality packed, (B, C), by its key."""


@dataclass(frozen=True)
class PromptLayout:
    """Which columns of a row hold what."""

    tokens: int
    """Columns of token ids."""
    modalities: tuple[Modality, ...] = ()
    """What stands behind them, in this order."""

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.tokens + sum(modality.columns for modality in self.modalities)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of an observation that hold what the modalities read."""
        return tuple(modality.key for modality in self.modalities)

    @property
    def entering(self) -> tuple[str, ...]:
        """The keys of what a forward pass depends on, besides its tokens."""
        return tuple(modality.key for modality in self.modalities if modality.enters != "late")

    @property
    def choosing(self) -> Modality | None:
        """The modality that lists the actions, where they change from prompt to prompt."""
        return next((modality for modality in self.modalities if modality.choices), None)

    @property
    def choices(self) -> int:
        """How many actions a prompt lists at the most; 0 where there always are the same."""
        return 0 if self.choosing is None else self.choosing.choices

    @property
    def soft_tokens(self) -> int:
        """How many soft tokens stand before those of a prompt."""
        return sum(modality.soft_tokens for modality in self.modalities)

    @property
    def action_texts(self) -> ActionTexts:
        """The texts of actions that change from prompt to prompt; none where there always are the same."""
        return getattr(self.choosing, "texts", None) or ActionTexts()

    def split(self, rows: Tensor) -> Parts:
        """Take rows, (B, width), apart. Rows that hold tokens alone may be cut to the longest prompt.

        Raises:
            ValueError: if the rows are not of this layout.
        """
        if not self.modalities:
            return Parts(rows, {})
        if rows.shape[1] != self.width:
            raise ValueError(f"A prompt has {self.width} columns here, but these have {rows.shape[1]}.")
        tokens, *packed = rows.split([self.tokens, *(modality.columns for modality in self.modalities)], dim=1)
        return Parts(tokens, dict(zip(self.keys, packed, strict=True)))

    def pack(self, tokens: npt.NDArray[np.integer[Any]], observations: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return rows, (B, width), of token ids, (B, L), and what B observations hold under the modalities' keys.

        Raises:
            ValueError: if they lack a key, or hold what its modality does not read.
        """
        if not self.modalities:
            return tokens
        if not len(tokens):
            return np.empty((0, self.width), dtype=tokens.dtype)
        missing = [key for key in self.keys if key not in observations]
        if missing:
            raise ValueError(
                f"These observations lack {', '.join(missing)}, which this agent reads besides the text. It was made "
                "for environments that give it."
            )
        return np.concatenate([tokens, *(one.pack(observations[one.key]) for one in self.modalities)], axis=1)

    def tokens_of(self, rows: Any) -> Any:
        """Return the token ids of rows, or of one row; arrays and tensors alike."""
        return rows[..., : self.tokens]

    def auxiliary_of(self, rows: Any) -> Any:
        """Return what stands behind the tokens of rows, or of one row."""
        return rows[..., self.tokens :]

    def listed_in(self, auxiliary: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
        """Return the numbers of the actions that each row lists, (B, A), -1 behind the last; (B, 0) without any.

        Args:
            auxiliary: what `auxiliary_of` gives, (B, width - L).
        """
        start = 0
        for modality in self.modalities:
            if modality.choices:
                return auxiliary[:, start : start + modality.columns]
            start += modality.columns
        return auxiliary[:, :0]

    def numbers_of_actions(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64] | None:
        """Return of how many actions there is a choice in each row, (B,); None where there always are the same."""
        if self.choosing is None:
            return None
        listed: npt.NDArray[np.int64] = (self.listed_in(self.auxiliary_of(rows)) >= 0).sum(axis=1)
        return listed

    def as_json(self) -> list[dict[str, Any]]:
        """Return the modalities as JSON; `modalities_from_json` is the inverse."""
        return [modality.as_json() for modality in self.modalities]


def modalities_from_json(saved: Iterable[Mapping[str, Any]], texts: Sequence[str] = ()) -> tuple[Modality, ...]:
    """Return what `PromptLayout.as_json` wrote.

    Args:
        saved: of each modality.
        texts: of the actions that change from prompt to prompt, by number.

    Raises:
        ValueError: if one is not registered, or cannot have such sizes.
    """
    modalities = tuple(modality_from_json(one) for one in saved)
    return tuple(Actions(one.most, ActionTexts(texts)) if isinstance(one, Actions) else one for one in modalities)
