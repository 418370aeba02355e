"""The training itself: which action of a scene is right?

Two losses. The model's own scores tell the right action by attending from each action to the prompt. And the features
of the state, which in reinforcement learning tell values and feed linear heads, must name the right action by
themselves: their product with a vector of the action's words, which has seen no prompt, is a score as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from heed.policies.words import scene as words
from heed.policies.words.building import SceneBuilder
from heed.policies.words.model import WordsModel
from heed.policies.words.vectors import MEANING, SPELLING
from tools.binding.scenes import Scene

STATE_WEIGHT = 0.2
"""Of the second loss."""

SORTED = 8
"""Batches whose scenes are sorted by length together, so that little is padding."""

ABSENT = -1e4

PHRASES = 4
"""In one batch of so many, segments are compared with instructions as a whole, which takes longer than all else."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long, and how fast."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 200
    final: float = 0.03
    """What the learning rate falls to, as a share of the highest, along a cosine."""

    def rate(self, step: int) -> float:
        """Return the learning rate of an update."""
        rise = min(1.0, (step + 1) / self.warmup)
        fall = self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * step / self.steps))
        return float(self.learning_rate * rise * fall)


class Binding(nn.Module):
    """The model, and what only its pretraining needs.

    Args:
        model: is trained.
        builder: makes scenes of texts.
        translating: draws how instructions look in another language; None for none of them.
    """

    def __init__(self, model: WordsModel, builder: SceneBuilder, translating: np.random.Generator | None = None):
        super().__init__()
        self.translating = translating
        self.model = model
        self.builder = builder
        width = model.config.hidden_size
        self.product = nn.Linear(width, width, bias=False)

    def forward(self, scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the actions' scores, those by the state alone, (B, A), and which is right, (B,)."""
        actions = list(dict.fromkeys(action for scene in scenes for action in scene.actions))
        places = {action: place for place, action in enumerate(actions)}
        listed = np.full((len(scenes), max(len(scene.actions) for scene in scenes)), -1, dtype=np.int64)
        for row, scene in zip(listed, scenes, strict=True):
            row[: len(scene.actions)] = [places[action] for action in scene.actions]
        prompts = self.builder.split([f"{scene.instruction}\n{scene.observation}" for scene in scenes])
        built = self.builder.build(prompts, actions, listed)
        if self.translating is not None and self.training:
            built = translated(built, self.translating)
        features, scores = self.model(built)
        vectors = self.model.action_vectors(built)[built.listed.clamp(min=0)]
        by_state = (self.product(features)[:, None] * vectors).sum(dim=2) / features.shape[1] ** 0.5
        absent = built.listed < 0
        right = torch.tensor([scene.right for scene in scenes])
        return scores.masked_fill(absent, ABSENT), by_state.masked_fill(absent, ABSENT), right


def train(binding: Binding, draw: Callable[[], Scene], training: Training) -> Iterator[tuple[int, float]]:
    """Train; after each update, yield how many were made and the loss.

    Args:
        binding: is changed.
        draw: returns a new scene.
        training: how.
    """
    parameters = list(binding.parameters())
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.01)
    order = np.random.default_rng(0)
    step = 0
    while step < training.steps:
        scenes = sorted((draw() for _ in range(SORTED * training.batch_size)), key=_length)
        batches = [scenes[first : first + training.batch_size] for first in range(0, len(scenes), training.batch_size)]
        for index in islice(order.permutation(len(batches)), training.steps - step):
            binding.builder.reads_phrases = step % PHRASES == 0
            scores, by_state, right = binding(batches[index])
            loss = functional.cross_entropy(scores, right) + STATE_WEIGHT * functional.cross_entropy(by_state, right)
            for group in optimizer.param_groups:
                group["lr"] = training.rate(step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            yield step, loss.item()


TRANSLATED = 0.3
"""Share of instructions in another language."""

LEAST_ALIKE, MOST_ALIKE = 0.55, 0.95
"""How alike a word and its translation are: French and English colours have 0.8 to 0.9, rarer words less."""


def translated(scene: words.Scene, generator: np.random.Generator) -> words.Scene:
    """Return a scene in which some instructions are in another language: of about the same meaning, spelt anew."""
    chosen = torch.from_numpy(generator.random(len(scene.words)) < TRANSLATED)
    where = chosen[:, None] & (scene.part == words.INSTRUCTION) & scene.real
    count = int(where.sum())
    old = scene.vectors[scene.words[where]]
    noise = torch.from_numpy(generator.standard_normal(old.shape)).float()
    noise = torch.cat([functional.normalize(part, dim=1) for part in noise.split([MEANING, SPELLING], dim=1)], dim=1)
    rows = torch.nonzero(where)[:, 0]
    alike = torch.from_numpy(generator.uniform(LEAST_ALIKE, MOST_ALIKE, len(scene.words))).float()[rows, None]
    meanings = alike * old[:, :MEANING] + (1 - alike**2).sqrt() * noise[:, :MEANING]
    new = torch.cat([functional.normalize(meanings, dim=1), noise[:, MEANING:]], dim=1)
    numbered = scene.words.clone()
    numbered[where] = len(scene.vectors) + torch.arange(count)
    return scene._replace(vectors=torch.cat([scene.vectors, new]), words=numbered)


def _length(scene: Scene) -> int:
    return len(scene.observation) + max(map(len, scene.actions)) * len(scene.actions) // 2


@torch.no_grad()
def accuracies(binding: Binding, scenes: Sequence[Scene], batch_size: int = 100) -> tuple[float, float, float]:
    """Return how often the right action scores highest, by the actions, by the state alone, and by chance."""
    binding.eval()
    binding.builder.reads_phrases = True
    right, right_by_state, chance = 0, 0, 0.0
    for first in range(0, len(scenes), batch_size):
        batch = scenes[first : first + batch_size]
        scores, by_state, answers = binding(batch)
        right += int((scores.argmax(dim=1) == answers).sum())
        right_by_state += int((by_state.argmax(dim=1) == answers).sum())
        chance += sum(1 / len(scene.actions) for scene in batch)
    binding.train()
    return right / len(scenes), right_by_state / len(scenes), chance / len(scenes)
