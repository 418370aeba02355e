"""Prompts as arrays of words, and how alike their words are: what `heed-words` is given.

Shapes: U prompts, L words of a prompt, V different words, A actions of a prompt, G different actions, W words of one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from heed.policies.words.vectors import MEANING

INSTRUCTION, OBSERVATION = 0, 1
"""Which part of a prompt a word belongs to."""

SHARPNESS = 15.0
"""What a likeness is multiplied by where a word of one part is looked for among those of the other."""

N_WORD_FEATURES, N_ACTION_FEATURES, N_PAIR_FEATURES, N_QUERY_FEATURES = 6, 8, 9, 4


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
    """Features of each word, (U, L, 6): its largest likeness to a word of the other part."""
    pair: Tensor
    """Features of each word for each other, (U, 9, L, L)."""
    query: Tensor
    """Features of the state and each action for each word, (U, 4, 1 + A, L)."""
    action: Tensor
    """Features of each action, (U, A, 8): its words' largest likeness to those of either part."""


@torch.no_grad()
def likeness_of(scene: Scene) -> Likeness:
    """Compute how alike the words of prompts and actions are."""
    words, real, part = scene.words, scene.real, scene.part
    meaning, spelling = _tables(scene.vectors)
    means, spelt = _pairs(meaning, words, words), _pairs(spelling, words, words)  # (U, L, L)
    other = (part[:, :, None] != part[:, None, :]) & real[:, None, :] & real[:, :, None]
    nearest, nearest_spelt = (means * other).amax(dim=2), (spelt * other).amax(dim=2)
    shares = (SHARPNESS * torch.maximum(means, spelt)).masked_fill(~other, -1e4).softmax(dim=2) * other
    word = torch.stack(
        [nearest, nearest**4, nearest_spelt, nearest_spelt**4, shares.amax(dim=1), shares.amax(dim=2)], dim=-1
    )

    same = scene.segment[:, :, None] == scene.segment[:, None, :]
    steps = scene.place[:, None, :] - scene.place[:, :, None]
    segments = scene.segment[:, None, :] - scene.segment[:, :, None]
    seen = part == OBSERVATION
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
    query, action = _of_actions(scene, meaning, spelling, told, seen & real)
    return Likeness(word, pair, query, action)


def _of_actions(scene: Scene, meaning: Tensor, spelling: Tensor, told: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    count, length = scene.words.shape
    listed = scene.listed.clamp(min=0)
    n_actions, width = listed.shape[1], scene.action_words.shape[1]
    state = torch.zeros(count, N_QUERY_FEATURES, 1, length, dtype=meaning.dtype, device=meaning.device)
    state[:, 2, 0] = told.to(meaning.dtype)
    if not n_actions:
        return state, meaning.new_zeros(count, 0, N_ACTION_FEATURES)
    words = scene.action_words[listed].reshape(count, n_actions * width)
    real = scene.action_real[listed]  # (U, A, W)
    counts = real.sum(dim=2).clamp(min=1)
    nearest, features = [], []
    for table in (meaning, spelling):
        alike = _pairs(table, words, scene.words).view(count, n_actions, width, length) * real[..., None]
        nearest.append(alike.amax(dim=2))
        for part in (told, seen):
            best = (alike * part[:, None, None, :]).amax(dim=3)  # (U, A, W)
            features += [best.amax(dim=2), best.sum(dim=2) / counts]
    means, spelt = nearest
    query = torch.stack([means, spelt, told[:, None].expand_as(means).to(means.dtype), means**4], dim=1)
    return torch.cat([state, query], dim=2), torch.stack(features, dim=-1)


def _tables(vectors: Tensor) -> tuple[Tensor, Tensor]:
    return vectors[:, :MEANING], vectors[:, MEANING:]


def _pairs(vectors: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the cosines, (U, R, C), of the words `rows`, (U, R), with `columns`, (U, C).

    All cosines are computed once where there are few different words, and otherwise those that are asked for.
    """
    if len(vectors) ** 2 <= rows.numel() * columns.shape[1]:
        return (vectors @ vectors.T)[rows[:, :, None], columns[:, None, :]]
    return vectors[rows] @ vectors[columns].transpose(1, 2)
