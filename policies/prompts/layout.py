"""What stands where in a prompt's row of integers.

SB3's buffers keep one array of observations. So a prompt is one row: the token ids, and behind them what stands beside
the words, if anything does: the numbers of the action texts that there are to choose from, raw numbers, a picture. Raw
numbers are float32s whose bits stand there as integers, four bytes of a picture make one integer; so nothing is
rounded, two rows are equal only if all of it is, and no buffer, hash or checkpoint needs to know what a row holds.

| columns | hold |
|---|---|
| `tokens` | token ids, -1 behind the last |
| `beside.actions` | numbers of action texts (`heed.policies.heads.action_sets`), -1 behind the last |
| `beside.numbers` | float32s, bit by bit |
| `beside.image_columns` | uint8s, four to a column |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

PADDING = -1
"""Stands behind the last token of a prompt: no tokenizer gives this id to a token."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What an observation holds beside its words, as far as a policy reads it."""

    actions: int = 0
    """How many action texts an observation lists at most; 0 where they are always the same."""
    numbers: int = 0
    """How many raw numbers, under the key `numbers`."""
    image: tuple[int, int, int] | None = None
    """Height, width and channels of the picture under the key `image`."""

    @classmethod
    def of(cls, observation_space: spaces.Dict, action_space: spaces.Space[Any], *, words_only: bool = False) -> Beside:
        """Return what the observations of such spaces hold.

        Args:
            observation_space: of a language environment.
            action_space: its actions.
            words_only: leave out numbers and picture.

        Raises:
            ValueError: if `numbers` is no Box, or `image` no Box of bytes (H, W, C).
        """
        parts = observation_space.spaces
        actions = int(action_space.n) if "actions" in parts and isinstance(action_space, spaces.Discrete) else 0
        if words_only:
            return cls(actions=actions)
        numbers, image = parts.get("numbers"), parts.get("image")
        if numbers is not None and not isinstance(numbers, spaces.Box):
            raise ValueError(f"The key `numbers` of an observation is a Box of numbers, but here it is {numbers}.")
        if image is not None and not (
            isinstance(image, spaces.Box) and image.dtype == np.uint8 and len(image.shape) == 3
        ):
            raise ValueError(f"The key `image` of an observation is a Box of uint8 (H, W, C), but here it is {image}.")
        return cls(
            actions=actions,
            numbers=0 if numbers is None else math.prod(numbers.shape),
            image=None if image is None else (image.shape[0], image.shape[1], image.shape[2]),
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of an observation that hold it."""
        there = {"actions": self.actions, "numbers": self.numbers, "image": self.image}
        return tuple(key for key, held in there.items() if held)

    @property
    def image_columns(self) -> int:
        """How many columns the picture takes."""
        return 0 if self.image is None else -(-math.prod(self.image) // 4)

    @property
    def width(self) -> int:
        """How many columns all of it takes."""
        return self.actions + self.numbers + self.image_columns

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON; `from_json` is the inverse."""
        return {"actions": self.actions, "numbers": self.numbers, "image": self.image and list(self.image)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Beside:
        """Return what `as_json` wrote."""
        image = saved["image"]
        return cls(actions=saved["actions"], numbers=saved["numbers"], image=None if image is None else tuple(image))


NOTHING = Beside()
"""Words alone."""


class Parts(NamedTuple):
    """A batch of rows, taken apart."""

    tokens: Tensor
    """(B, L), -1 behind the last."""
    actions: Tensor | None
    """(B, A), -1 behind the last."""
    numbers: Tensor | None
    """(B, N), float32."""
    image: Tensor | None
    """(B, H, W, C), uint8."""


@dataclass(frozen=True)
class PromptLayout:
    """Which columns of a row hold what."""

    tokens: int
    """Columns of token ids."""
    beside: Beside = NOTHING

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.tokens + self.beside.width

    def split(self, rows: Tensor) -> Parts:
        """Take rows, (B, width), apart. Rows that hold tokens alone may be cut to the longest prompt.

        Raises:
            ValueError: if the rows are not of this layout.
        """
        beside = self.beside
        if not beside.width:
            return Parts(rows, None, None, None)
        if rows.shape[1] != self.width:
            raise ValueError(f"A prompt has {self.width} columns here, but these have {rows.shape[1]}.")
        widths = [self.tokens, beside.actions, beside.numbers, beside.image_columns]
        tokens, actions, numbers, image = rows.split(widths, dim=1)
        pixels = None
        if beside.image is not None:
            pixels = image.contiguous().view(torch.uint8)[:, : math.prod(beside.image)].reshape(-1, *beside.image)
        return Parts(
            tokens,
            actions if beside.actions else None,
            numbers.contiguous().view(torch.float32) if beside.numbers else None,
            pixels,
        )

    def tokens_of(self, rows: Any) -> Any:
        """Return the token ids of rows, or of one row; arrays and tensors alike."""
        return rows[..., : self.tokens]

    def numbers_of_actions(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64] | None:
        """Return of how many actions there is a choice in each row, (B,); None where there always are the same."""
        if not self.beside.actions:
            return None
        listed: npt.NDArray[np.int64] = (rows[:, self.tokens : self.tokens + self.beside.actions] >= 0).sum(axis=1)
        return listed
