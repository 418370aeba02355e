"""Prompts as arrays of words, and how alike their words are: what `heed-words` is given.

Shapes: U prompts, L words of a prompt, V different words, A actions of a prompt, G different actions, W words of one.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from heed.policies.words.vectors import MEANING

INSTRUCTION, OBSERVATION = 0, 1
"""Which part of a prompt a word belongs to."""

SHARPNESS = 15.0
"""What a likeness is multiplied by where a word of one part is looked for among those of the other."""

WEAKEST, SUREST = 0.4, 0.8
"""Likenesses at which two words surely differ, and at which they surely mean the same."""

N_WORD_FEATURES, N_ACTION_FEATURES, N_PAIR_FEATURES, N_QUERY_FEATURES = 8, 8, 9, 5


class Scene(NamedTuple):
    """A batch of prompts and actions. Padding is 0 where nothing else is said."""

    vectors: Tensor
    """Of the different words, (V, E)."""
    words: Tensor
    """Which word, (U, L)."""
    part: Tensor
    """`INSTRUCTION` or `OBSERVATION`, (U, L)."""
    segment: Tensor
    """Of the observation, counted from 1; 0 for the instruction, (U, L)."""
    place: Tensor
    """Of a word in its segment, (U, L)."""
    near: Tensor
    """How near the word's segment is to the instruction, as phrases, (U, L); 0 for the instruction itself."""
    real: Tensor
    """Whether it is a word and no padding, (U, L)."""
    action_words: Tensor
    """(G, W)"""
    action_real: Tensor
    """(G, W)"""
    listed: Tensor
    """Which actions each prompt has to choose from, (U, A), -1 behind the last."""


class Likeness(NamedTuple):
    """What is computed of the words' vectors alone; no gradient goes through it."""

    word: Tensor
    """Features of each word, (U, L, 8): its largest likeness to a word of the other part, and its segment's."""
    pair: Tensor
    """Features of each word for each other, (U, 9, L, L)."""
    query: Tensor
    """Features of the state and each action for each word, (U, 5, 1 + A, L)."""
    action: Tensor
    """Features of each action, (U, A, 8): its words' largest likeness to those of either part."""
    bound: Tensor
    """How surely each word has its like in the instruction, or for those of the instruction elsewhere, (U, L)."""
    action_bound: Tensor
    """How surely each word of each action has its like in the instruction, (U, A, W)."""


@torch.no_grad()
def likeness_of(scene: Scene) -> Likeness:
    """Compute how alike the words of prompts and actions are."""
    words, real, part = scene.words, scene.real, scene.part
    meaning, spelling = _Cosines(scene.vectors[:, :MEANING]), _Cosines(scene.vectors[:, MEANING:])
    means, spelt = meaning.of(words, words), spelling.of(words, words)  # (U, L, L)
    other = (part[:, :, None] != part[:, None, :]) & real[:, None, :] & real[:, :, None]
    nearest, nearest_spelt = (means * other).amax(dim=2), (spelt * other).amax(dim=2)
    shares = (SHARPNESS * torch.maximum(means, spelt)).masked_fill(~other, -1e4).softmax(dim=2) * other
    seen = (part == OBSERVATION) & real
    standard = _standardised(scene.near, seen)
    word = torch.stack(
        [
            *(nearest, nearest**4, nearest_spelt, nearest_spelt**4, shares.amax(dim=1), shares.amax(dim=2)),
            *(scene.near, standard),
        ],
        dim=-1,
    )

    same = scene.segment[:, :, None] == scene.segment[:, None, :]
    steps = scene.place[:, None, :] - scene.place[:, :, None]
    segments = scene.segment[:, None, :] - scene.segment[:, :, None]
    both_seen = seen[:, :, None] & seen[:, None, :]
    itself = torch.eye(words.shape[1], dtype=torch.bool, device=words.device)
    pair = torch.stack(
        [
            means.masked_fill(itself, 0.0),
            spelt.masked_fill(itself, 0.0),
            *(
                mask.to(means.dtype)
                for mask in (
                    same,
                    same & (steps == 1),
                    same & (steps == -1),
                    both_seen & (segments == 1),
                    both_seen & (segments == -1),
                    other,
                    same & (steps.abs() <= 3),
                )
            ),
        ],
        dim=1,
    )
    told = (part == INSTRUCTION) & real
    query, action, action_bound = _of_actions(scene, meaning, spelling, told, seen, standard)
    best = torch.maximum(nearest, nearest_spelt)
    if scene.listed.shape[1]:  # a word of the instruction that only an action has is bound as well
        there = (scene.listed >= 0)[..., None]
        best = torch.maximum(best, (torch.maximum(query[:, 0, 1:], query[:, 1, 1:]) * there).amax(dim=1) * told)
    return Likeness(word, pair, query, action, _bound(best), action_bound)


def _bound(likeness: Tensor) -> Tensor:
    """Return how surely a likeness, (...), is that of two words that mean the same."""
    return ((likeness - WEAKEST) / (SUREST - WEAKEST)).clamp(0.0, 1.0)


def _standardised(near: Tensor, seen: Tensor) -> Tensor:
    """Return by how many standard deviations each number, (U, L), is above the mean of those that are `seen`."""
    counts = seen.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (near * seen).sum(dim=1, keepdim=True) / counts
    apart = (near - mean) * seen
    deviation: Tensor = ((apart**2).sum(dim=1, keepdim=True) / counts + 0.05**2).sqrt()
    return apart / deviation


def _of_actions(
    scene: Scene, meaning: _Cosines, spelling: _Cosines, told: Tensor, seen: Tensor, standard: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    count, length = scene.words.shape
    listed = scene.listed.clamp(min=0)
    n_actions, width = listed.shape[1], scene.action_words.shape[1]
    state = scene.vectors.new_zeros(count, N_QUERY_FEATURES, 1, length)
    state[:, 2, 0], state[:, 4, 0] = told.to(state.dtype), standard
    if not n_actions:
        return state, state.new_zeros(count, 0, N_ACTION_FEATURES), state.new_zeros(count, 0, width)
    words = scene.action_words[listed].reshape(count, n_actions * width)
    real = scene.action_real[listed]  # (U, A, W)
    counts = real.sum(dim=2).clamp(min=1)
    nearest, features, by_instruction = [], [], []
    for cosines in (meaning, spelling):
        alike = cosines.of(words, scene.words).view(count, n_actions, width, length) * real[..., None]
        nearest.append(alike.amax(dim=2))
        for part in (told, seen):
            best = (alike * part[:, None, None, :]).amax(dim=3)  # (U, A, W)
            features += [best.amax(dim=2), best.sum(dim=2) / counts]
            if part is told:
                by_instruction.append(best)
    means, spelt = nearest
    told_to_all = told[:, None].expand_as(means).to(means.dtype)
    query = torch.stack([means, spelt, told_to_all, means**4, standard[:, None].expand_as(means)], dim=1)
    bound = _bound(torch.maximum(*by_instruction)) * real
    return torch.cat([state, query], dim=2), torch.stack(features, dim=-1), bound


class _Cosines:
    """How alike different words are, given their vectors of length 1, (V, E)."""

    def __init__(self, vectors: Tensor):
        self._vectors = vectors

    @cached_property
    def _all(self) -> Tensor:
        return self._vectors @ self._vectors.T

    def of(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the cosines, (U, R, C), of the words `rows`, (U, R), with `columns`, (U, C).

        All cosines are computed, once, where there are few different words, and otherwise those that are asked for.
        """
        if len(self._vectors) ** 2 <= rows.numel() * columns.shape[1]:
            return self._all[rows[:, :, None], columns[:, None, :]]
        return self._vectors[rows] @ self._vectors[columns].transpose(1, 2)
