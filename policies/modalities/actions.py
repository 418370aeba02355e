"""The actions that there are to choose from, where they change from state to state: numbers of their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from torch import Tensor

from heed.policies.modalities.modality import Enters, Modality, register_modality, require_sizes
from heed.policies.prompts.action_texts import ActionTexts

NO_ACTION = -1
"""Stands behind the number of the last action."""


@register_modality
@dataclass(frozen=True)
class Actions(Modality):
    """A list of action texts."""

    key: ClassVar[str] = "actions"
    enters: ClassVar[Enters] = "choices"

    most: int
    """How many an observation lists at the most."""
    texts: ActionTexts = field(default_factory=ActionTexts, compare=False, repr=False)
    """What the numbers stand for."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        require_sizes(self.key, [self.most])

    @classmethod
    def of(cls, space: spaces.Space[Any], action_space: spaces.Space[Any]) -> Actions | None:
        """Return it with room for as many actions as the action space has."""
        return cls(int(action_space.n)) if isinstance(action_space, spaces.Discrete) else None

    @property
    def columns(self) -> int:
        """One for each action."""
        return self.most

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers of the texts."""
        return (self.most,)

    @property
    def choices(self) -> int:
        """All of them."""
        return self.most

    def pack(self, values: Sequence[Sequence[str]]) -> npt.NDArray[np.int32]:
        """Return the numbers of texts; one that is new gets the next."""
        packed = np.full((len(values), self.most), NO_ACTION, dtype=np.int32)
        for row, texts in zip(packed, values, strict=True):
            if not 1 <= len(texts) <= self.most:
                raise ValueError(f"There is a choice of {len(texts)} actions, but it must be of 1 to {self.most}.")
            row[: len(texts)] = self.texts.numbers_of(texts)
        return packed

    def unpack(self, packed: Tensor) -> Tensor:
        """Return the numbers, -1 behind the last."""
        return packed

    def embedder(self, width: int) -> NoReturn:
        """Raise: actions are scored by their texts, and become no vectors."""
        raise NotImplementedError("Actions are scored by their texts.")

    def as_json(self) -> dict[str, Any]:
        """Return it without the texts, which grow while an agent acts."""
        return {"key": self.key, "most": self.most}
