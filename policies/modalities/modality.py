"""What an observation holds besides text: each key belongs to one modality.

A prompt's row holds, behind its token ids, what the modalities of the observation pack into it. A modality says how
many integers that takes, how they are packed and unpacked, how a language model gets them, and where they enter it:

- `choices`: they say which actions there are to choose from;
- `late`: a vector is added to the hidden state, late, so that prompts which differ in nothing else are read once;
- `sequence`: they become soft tokens before those of the prompt, and the language model attends to them.

To add one, write a frozen dataclass in a file of its own and register it:

    @register_modality
    @dataclass(frozen=True)
    class Speech(Modality):
        key = "speech"
        ...
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from torch import Tensor, nn

WORDS = ("instruction", "observation")
"""The keys of an observation that become tokens."""

Enters = Literal["choices", "late", "sequence"]


class Modality(ABC):
    """How one key of an observation is packed into a prompt's row, and read. Subclasses are frozen dataclasses of ints.

    Shapes: B observations, C columns of the row, N vectors, D their width.
    """

    key: ClassVar[str]
    """Of the observation."""
    enters: ClassVar[Enters] = "late"

    @classmethod
    @abstractmethod
    def of(cls, space: spaces.Space[Any], action_space: spaces.Space[Any]) -> Modality | None:
        """Return the modality of what an environment has under the key; None where there is nothing to be read.

        Raises:
            ValueError: if the space is none that it reads, saying which it does.
        """

    @property
    @abstractmethod
    def columns(self) -> int:
        """How many integers of a row it takes, C."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of what an observation holds."""

    @property
    def choices(self) -> int:
        """How many actions it lists at the most; 0 unless it is what actions are chosen from."""
        return 0

    @property
    def soft_tokens(self) -> int:
        """How many tokens it is in the sequence, N; 0 unless it enters there."""
        return 0

    @abstractmethod
    def pack(self, values: Sequence[Any]) -> npt.NDArray[np.int32]:
        """Return what B observations hold as integers, (B, C).

        Raises:
            ValueError: if they hold something else.
        """

    @abstractmethod
    def unpack(self, packed: Tensor) -> Tensor:
        """Return what was packed into (B, C) int32, (B, *shape)."""

    @abstractmethod
    def embedder(self, width: int) -> nn.Module:
        """Return the network from what `unpack` gives to vectors, (B, N, D), of this width.

        What enters late should begin at zero, so that an untrained policy decides by the words alone.
        """

    def summary(self, values: Tensor) -> Tensor:
        """Return what `unpack` gives as a few numbers, (B, F), for exploration to count and to be curious of."""
        return values.flatten(1).float()

    @property
    def summary_size(self) -> int:
        """How many numbers those are, F."""
        return int(np.prod(self.shape))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON; `modality_from_json` is the inverse."""
        return {"key": self.key, **dataclasses.asdict(self)}  # type: ignore[call-overload]  # subclasses are dataclasses


ModalityClass = TypeVar("ModalityClass", bound=type[Modality])

_registry: dict[str, type[Modality]] = {}


def register_modality(modality: ModalityClass) -> ModalityClass:
    """Let a modality read its key of all observations; to be written above its class. The last of a key wins.

    Raises:
        ValueError: if the key is that of the words.
    """
    if modality.key in WORDS:
        raise ValueError(f"The key {modality.key!r} holds words, which become tokens: read another key.")
    _registry[modality.key] = modality
    return modality


def modalities_of(
    observation_space: spaces.Dict, action_space: spaces.Space[Any], *, words_only: bool = False
) -> tuple[Modality, ...]:
    """Return what reads the observations of such spaces, in the order of the registry.

    Args:
        observation_space: of a language environment.
        action_space: its actions.
        words_only: leave out all that is neither words nor a list of actions.

    Raises:
        ValueError: if a key holds what its modality does not read.
    """
    found = []
    for key, kind in _registry.items():
        if key in observation_space.spaces and not (words_only and kind.enters != "choices"):
            modality = kind.of(observation_space.spaces[key], action_space)
            if modality is not None:
                found.append(modality)
    return tuple(found)


def unread_keys(observation_space: spaces.Dict) -> tuple[str, ...]:
    """Return the keys of an observation that no modality reads: a policy does not see what they hold."""
    return tuple(key for key in observation_space.spaces if key not in WORDS and key not in _registry)


def modality_from_json(saved: Mapping[str, Any]) -> Modality:
    """Return the modality that `as_json` wrote.

    Raises:
        ValueError: if no modality of this key is registered, or it cannot have such sizes.
    """
    sizes = dict(saved)
    key = sizes.pop("key", None)
    if key not in _registry:
        raise ValueError(
            f"No modality reads the key {key!r}: import the module that registers it (heed.policies.register_modality)."
        )
    kind: Any = _registry[key]
    missing = dataclasses.MISSING
    names = {one.name for one in dataclasses.fields(kind) if one.default is missing and one.default_factory is missing}
    if set(sizes) != names:
        raise ValueError(f"The modality {key!r} has the sizes {sorted(names)}, not {sorted(sizes)}.")
    made: Modality = kind(**{name: tuple(size) if isinstance(size, list) else size for name, size in sizes.items()})
    return made


def require_sizes(key: str, sizes: Iterable[Any]) -> None:
    """Refuse sizes that are no positive whole numbers; for a modality's `__post_init__`.

    Raises:
        ValueError: naming the key.
    """
    for size in sizes:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"Sizes of the modality {key!r} are positive whole numbers, not {size!r}.")
