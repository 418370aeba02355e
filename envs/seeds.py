"""The seeds of episodes: 32 bits, never the same episode twice, and none of an evaluation in a training.

Many environments seed generators that take no more than 32 bits (`numpy.random.RandomState`, a C library's), so all
seeds lie below 2**32. Their highest byte says what they are for:

    0x00 to 0xFD   training, and whatever a caller chooses
    0xFE           demonstrations
    0xFF           evaluations

So no training begins an evaluation's episode. Within the last two, the seeds of one sequence are a permutation of
2**24 numbers, keyed by the sequence: they are all different, however many are taken. Seeds of a training are draws,
and may repeat: a training that plays a world twice learns from it twice.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

SHARE_BITS = 24
"""Bits of a seed below the byte that says what it is for."""
LONGEST = 2**SHARE_BITS
"""Seeds of one sequence of an evaluation or of demonstrations."""

DEMONSTRATIONS, EVALUATIONS = 0xFE, 0xFF
"""The highest byte of their seeds."""

_HALF = SHARE_BITS // 2
_ROUNDS = 4  # of a Feistel network, with which it mixes as well as a random permutation (Luby and Rackoff 1988)


def episode_seed(seed: int, env_index: int, episode: int) -> int:
    """Return the seed of one episode of a training: the same for the same three numbers, unrelated for others."""
    return _drawn(np.random.SeedSequence(seed, spawn_key=(env_index, episode)))


def seed_drawn_anew(seed: int, *key: int) -> int:
    """Return another seed for an episode that cannot be played as its own seed has it, for the same use as that one.

    Args:
        seed: of the episode, at least 0.
        key: numbers that tell this draw from others for the same seed.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    use = seed >> SHARE_BITS
    if use not in (DEMONSTRATIONS, EVALUATIONS):
        return _drawn(sequence)
    return use << SHARE_BITS | int(sequence.generate_state(1)[0]) % LONGEST


def sequence_of_seeds(use: int, key: tuple[int, ...], first: int, count: int) -> list[int]:
    """Return `count` different seeds of a sequence, from its `first` on.

    Args:
        use: `DEMONSTRATIONS` or `EVALUATIONS`.
        key: of the sequence; those of different keys are in unrelated orders.
        first: how many seeds of the sequence come before.
        count: how many.

    Raises:
        ValueError: if the sequence is not so long, or a number is negative.
    """
    if min(first, count, *key) < 0:
        raise ValueError(f"Seeds and their number are at least 0, but are {key} and {count}.")
    if first + count > LONGEST:
        raise ValueError(f"There are {LONGEST} different episodes for one seed, but {first + count} were asked for.")
    places = np.arange(first, first + count, dtype=np.uint32)
    return ((use << SHARE_BITS) + _permuted(places, (use, *key)).astype(np.int64)).tolist()


def _permuted(places: npt.NDArray[np.uint32], key: tuple[int, ...]) -> npt.NDArray[np.uint32]:
    """Return the places of numbers below 2**24 in a permutation: each round can be undone, so no two get the same."""
    left, right = places >> _HALF, places & (2**_HALF - 1)
    for mixed in _tables(key):
        left, right = right, left ^ mixed[right]
    return left << _HALF | right


@functools.lru_cache(maxsize=16)
def _tables(key: tuple[int, ...]) -> npt.NDArray[np.uint32]:
    """Return what each round mixes in for each half, (rounds, 2**12)."""
    generator = np.random.default_rng(np.random.SeedSequence(key))
    return generator.integers(2**_HALF, size=(_ROUNDS, 2**_HALF), dtype=np.uint32)


def _drawn(sequence: np.random.SeedSequence) -> int:
    """Return the first number of a sequence that is a training's."""
    first = int(sequence.generate_state(1)[0])
    if first >> SHARE_BITS < DEMONSTRATIONS:
        return first
    # One in 128. More words of the same sequence; that all of them are of another use has a chance of 1e-17.
    words = sequence.generate_state(9)[1:].tolist()
    return next((word for word in words if word >> SHARE_BITS < DEMONSTRATIONS), first % (DEMONSTRATIONS << SHARE_BITS))
