"""Actions that change from prompt to prompt: a trie for each set of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from heed.policies.heads.scoring import Normalization
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.models.language_model import LanguageModel
from heed.policies.prompts.action_texts import ActionTexts
from heed.policies.prompts.template import PromptTemplate

REMEMBERED_SETS = 4096
"""Sets of actions whose tries are kept."""


class ActionSets:
    """Makes the tries of sets of actions.

    Args:
        language_model: tokenises the texts.
        normalization: of the scores that the tries are for.
        texts: which texts the numbers stand for.
        template: of the prompts; the language model's own unless given.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        normalization: Normalization,
        texts: ActionTexts,
        template: PromptTemplate | None = None,
    ):
        self._language_model = language_model
        self._normalization: Normalization = normalization
        self._texts = texts
        self._template = template
        self._tries: OrderedDict[bytes, Tries] = OrderedDict()

    def tries_of(self, rows: npt.NDArray[np.integer[Any]], device: torch.device) -> Tries:
        """Return a trie for each row of numbers, (B, A), with -1 behind the last.

        Texts that become the same tokens are told apart by nobody: they get the same score.
        """
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        places: dict[bytes, int] = {}
        inverse = [places.setdefault(row.tobytes(), len(places)) for row in rows]
        tries = Tries.join([self._trie_of(key) for key in places]).to(device)
        return tries.rows(torch.tensor(inverse, device=device)) if len(places) < len(rows) else tries

    def _trie_of(self, key: bytes) -> Tries:
        found = self._tries.get(key)
        if found is None:
            numbers = np.frombuffer(key, dtype=np.int64)
            texts = tuple(self._texts.texts[number] for number in numbers[numbers >= 0])
            trie = self._language_model.action_trie(texts, self._normalization, template=self._template, distinct=False)
            found = self._tries[key] = Tries([trie])
            if len(self._tries) > REMEMBERED_SETS:
                self._tries.popitem(last=False)
        else:
            self._tries.move_to_end(key)
        return found


def trial_trie(vocabulary: int) -> ActionTrie:
    """Return a trie to try ways of scoring out with, before there is any action: two that begin alike, and one more."""
    return ActionTrie.build([[token % vocabulary for token in action] for action in ((7, 3, 5), (7, 3, 9, 4), (8,))])
