"""How many words prompts and actions have, for the estimate of a model that reads words (`heed-words`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from heed.policies.words.building import MOST_ACTION_WORDS, NO_WORD
from heed.policies.words.scene import Scene
from heed.policies.words.splitting import words_of
from heed.policies.words.vectors import WIDTH


@dataclass(frozen=True, kw_only=True)
class WordCounts:
    """What decides how large scenes are: words of prompts and actions, of which no vector is computed here."""

    prompts: npt.NDArray[np.int64]
    """Words of each prompt, (N,), as they came."""
    different: npt.NDArray[np.int64]
    """Different words of all actions and of the first 1, 2, ... N prompts, (N,)."""
    listed: int
    """Actions that a prompt has to choose from, A; 0 without scores."""
    actions: int
    """Different actions, G."""
    action_words: int
    """Words of the longest, W."""

    @classmethod
    def of(cls, prompts: Sequence[str], actions: Sequence[str], listed: int) -> WordCounts:
        """Count the words of texts.

        Args:
            prompts: N of them, whose first line is the instruction.
            actions: different ones, which are scored; none without scores.
            listed: how many of these a prompt has to choose from, A.
        """
        of_actions = [words_of(text)[:MOST_ACTION_WORDS] or [NO_WORD] for text in actions]
        seen = {word for words in of_actions for word in words}
        counts, different = [], []
        for prompt in prompts:
            told, _, observed = prompt.partition("\n")
            words = (words_of(told) or [NO_WORD]) + words_of(observed)
            seen.update(words)
            counts.append(len(words))
            different.append(len(seen))
        return cls(
            prompts=np.array(counts, dtype=np.int64),
            different=np.array(different, dtype=np.int64),
            listed=listed,
            actions=len(actions),
            action_words=max(map(len, of_actions), default=1),
        )

    def scaled(self, factor: float) -> WordCounts:
        """Return the counts of one prompt that has `factor` times the words of the first."""
        words = max(1, round(self.prompts[0] * factor))
        different = max(1, round(self.different[0] * factor))
        return WordCounts(
            prompts=np.array([words]),
            different=np.array([different]),
            listed=self.listed,
            actions=self.actions,
            action_words=self.action_words,
        )

    def scene(self, count: int, length: int) -> Scene:
        """Return a scene of prompts of so many words, where tensors have no data."""
        of_prompts = torch.zeros(count, length, dtype=torch.long)
        different = int(self.different[min(count, len(self.different)) - 1])
        actions = min(self.actions, count * self.listed)
        of_actions = torch.zeros(actions, self.action_words, dtype=torch.long)
        return Scene(
            vectors=torch.zeros(different, WIDTH),
            words=of_prompts,
            part=of_prompts,
            segment=of_prompts,
            place=of_prompts,
            near=torch.zeros(count, length),
            real=of_prompts == 0,
            action_words=of_actions,
            action_real=of_actions == 0,
            listed=torch.zeros(count, self.listed, dtype=torch.long),
        )
